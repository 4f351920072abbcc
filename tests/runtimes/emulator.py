"""AWS Lambda on this machine: its Runtime Interface Emulator, from the wheel of aws-sam-cli, and its runtime client.

One emulator is one slot: it takes one invocation at a time, and is asked for no more.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import platformdirs
import pytest
import urllib3

from stratus.testing.s3_server import free_ports

_ARCHITECTURES = {"x86_64": "x86_64", "aarch64": "arm64"}
_START = 30.0  # seconds


def program() -> Path:
    """The emulator; fetched once, into the user's cache. Skips the test where that cannot be."""
    name = f"aws-lambda-rie-{_ARCHITECTURES.get(platform.machine(), platform.machine())}"
    kept = Path(platformdirs.user_cache_dir("stratus-tests")) / name
    if kept.exists():
        return kept
    with tempfile.TemporaryDirectory() as directory:
        line = [sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-deps"]
        done = subprocess.run(
            [*line, "--dest", directory, "aws-sam-cli>=1.140"], capture_output=True, text=True, timeout=120, check=False
        )
        if done.returncode != 0:
            pytest.skip(f"the wheel of aws-sam-cli cannot be downloaded: {done.stderr.strip()[-200:]}")
        (wheel,) = Path(directory).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            try:
                data = archive.read(f"samcli/local/rapid/{name}")
            except KeyError:
                pytest.skip(f"there is no {name}")
        kept.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(directory) / name
        fresh.write_bytes(data)
        fresh.chmod(0o755)
        shutil.copy2(fresh, beside := kept.with_suffix(f".{os.getpid()}"))
        beside.replace(kept)
    return kept


@dataclass(slots=True)
class Slot:
    """One emulator that runs a handler."""

    url: str
    process: subprocess.Popen[bytes]
    lock: threading.Lock = field(default_factory=threading.Lock)

    def invoke(self, payload: Any) -> Any:
        """What the handler returned, or failed with. Raises ConnectionError where the instance ended instead."""
        with self.lock:
            try:
                reply = urllib3.request("POST", self.url, body=json.dumps(payload).encode(), timeout=120, retries=False)
            except urllib3.exceptions.HTTPError as error:
                raise ConnectionError(str(error)) from error
        try:
            found = json.loads(reply.data)
        except ValueError:
            raise ConnectionError(reply.data.decode(errors="replace")) from None  # "Task timed out after …"
        if reply.status != 200 or (isinstance(found, dict) and found.get("errorType") == "Runtime.ExitError"):
            raise ConnectionError(str(found))
        return found

    def kill(self) -> None:
        """The instance, not the emulator: the next invocation has a fresh one."""
        for pid in self.instances():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def instances(self) -> list[int]:
        pid = self.process.pid
        tasks = Path(f"/proc/{pid}/task")
        return [int(child) for task in tasks.iterdir() for child in (task / "children").read_text().split()]

    def ask(self, method: str, url: str, headers: Mapping[str, str], body: bytes) -> tuple[int, bytes]:
        """A request to a function URL."""
        found = self.invoke(as_event(method, url, headers, body))
        if "statusCode" not in found:
            raise ConnectionError(str(found))
        answer = found.get("body", "")
        return found["statusCode"], base64.b64decode(answer) if found.get("isBase64Encoded") else answer.encode()


def as_event(method: str, url: str, headers: Mapping[str, str], body: bytes) -> dict[str, Any]:
    """What a function URL makes of a request: payload version 2.0. Without a ``Host``, it has its own."""
    parts = urlsplit(url)
    found = {name.lower(): value for name, value in headers.items()}
    return {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": parts.path,
        "rawQueryString": parts.query,
        "headers": {"host": "abc.lambda-url.us-east-1.on.aws", "x-forwarded-proto": "https", **found},
        "requestContext": {
            "http": {"method": method, "path": parts.path, "protocol": "HTTP/1.1", "sourceIp": "192.0.2.1"}
        },
        "body": base64.b64encode(body).decode(),
        "isBase64Encoded": True,
    }


@contextlib.contextmanager
def slot(handler: str, environment: Mapping[str, str], seconds: int = 30, memory: int = 512) -> Iterator[Slot]:
    """An emulator for ``module.function``, until the end."""
    emulator = program()
    front, back = free_ports(2)
    line = [
        str(emulator),
        "--runtime-interface-emulator-address",
        f"127.0.0.1:{front}",
        "--runtime-api-address",
        f"127.0.0.1:{back}",
        sys.executable,
        "-m",
        "awslambdaric",
        handler,
    ]
    settings = {
        **os.environ,
        **environment,
        "AWS_LAMBDA_FUNCTION_TIMEOUT": str(seconds),
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(memory),
    }
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            line, env=settings, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
        try:
            _wait(front)
            yield Slot(f"http://127.0.0.1:{front}/2015-03-31/functions/function/invocations", process)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait(port: int) -> None:
    end = time.monotonic() + _START
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert time.monotonic() < end, "the emulator does not start"
        time.sleep(0.05)


@dataclass(slots=True)
class Queue:
    """What was sent to it; it delivers when it is told to."""

    url: str
    messages: list[str] = field(default_factory=list)

    def deliver(self, slot: Slot, *bodies: str) -> list[str]:
        """A batch, as Lambda gets it: by default all that wait. Those that were not handled."""
        batch = list(bodies) or [self.messages.pop(0) for _ in range(len(self.messages))]
        records = [
            {"messageId": str(number), "body": body, "eventSource": "aws:sqs"} for number, body in enumerate(batch)
        ]
        answer = slot.invoke({"Records": records})
        return [batch[int(one["itemIdentifier"])] for one in answer["batchItemFailures"]]


@contextlib.contextmanager
def playing() -> Iterator[Queue]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            assert self.headers["X-Amz-Target"] == "AmazonSQS.SendMessage"
            assert "/sqs/aws4_request" in self.headers["Authorization"]
            queue.messages.append(asked["MessageBody"])
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        queue = Queue(f"http://127.0.0.1:{server.server_port}/1/events")
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield queue
        finally:
            server.shutdown()
            thread.join()


@contextlib.contextmanager
def function_url(slot: Slot) -> Iterator[str]:
    """The URL of a function, as its writers know it."""

    class Handler(BaseHTTPRequestHandler):
        def _do(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            event = as_event(self.command, f"http://{self.headers['Host']}{self.path}", dict(self.headers), body)
            try:
                found = slot.invoke(event)
            except ConnectionError:
                found = {}
            answer = found.get("body", "")
            data = base64.b64decode(answer) if found.get("isBase64Encoded") else answer.encode()
            self.send_response(found.get("statusCode", 502))
            for name, value in found.get("headers", {}).items():
                if name != "content-length":
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PUT = do_DELETE = _do  # noqa: N815

        def log_message(self, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
