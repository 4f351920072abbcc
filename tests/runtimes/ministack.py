"""MiniStack on this machine: AWS's services as far as wiring goes, functions in processes of their own."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import botocore.session
import urllib3

from stratus.testing.s3_server import free_ports

_START = 60.0  # seconds
_PAIR = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}


@dataclass(frozen=True, slots=True)
class MiniStack:
    """One that runs."""

    url: str

    def environment(self) -> dict[str, str]:
        return {**_PAIR, "AWS_ENDPOINT_URL": self.url, "AWS_EC2_METADATA_DISABLED": "true"}

    def client(self, service: str) -> Any:
        return botocore.session.get_session().create_client(
            service,
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )

    def create_queue(self, name: str, **attributes: str) -> tuple[str, str]:
        """Its URL and ARN."""
        sqs = self.client("sqs")
        url: str = sqs.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]
        arn: str = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        return url, arn

    def create_function(self, name: str, handler: str, environment: Mapping[str, str], *queues: str) -> None:
        """One of the installed handlers, fed from queues."""
        module, _, function = handler.rpartition(".")
        code = io.BytesIO()
        with zipfile.ZipFile(code, "w") as archive:
            archive.writestr("app.py", f"from {module} import {function}\n")
        functions = self.client("lambda")
        functions.create_function(
            FunctionName=name,
            Runtime="python3.11",
            Handler=f"app.{function}",
            Role="arn:aws:iam::000000000000:role/test",
            Code={"ZipFile": code.getvalue()},
            Timeout=30,
            MemorySize=512,
            Environment={"Variables": dict(environment)},
        )
        for queue in queues:
            functions.create_event_source_mapping(
                EventSourceArn=queue,
                FunctionName=name,
                BatchSize=10,
                FunctionResponseTypes=["ReportBatchItemFailures"],
            )


@contextlib.contextmanager
def ministack() -> Iterator[MiniStack]:
    """One with nothing in it, until the end."""
    (port,) = free_ports(1)
    programs = Path(sys.executable).parent
    settings = {
        **os.environ,
        **_PAIR,
        "PATH": f"{programs}{os.pathsep}{os.environ.get('PATH', '')}",  # its functions run by `python3`
        "BIND_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(port),
        "MINISTACK_HOST": "127.0.0.1",
    }
    with tempfile.TemporaryDirectory() as directory, (Path(directory) / "log").open("wb") as log:
        process = subprocess.Popen(
            [str(programs / "ministack")],
            cwd=directory,
            env=settings,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            url = f"http://127.0.0.1:{port}"
            _wait(f"{url}/_ministack/health", process)
            yield MiniStack(url)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait(url: str, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + _START
    while process.poll() is None and time.monotonic() < end:
        with contextlib.suppress(urllib3.exceptions.HTTPError):
            if urllib3.request("GET", url, retries=False, timeout=5).status < 500:
                return
        time.sleep(0.1)
    raise AssertionError("MiniStack does not start")
