"""What ``stratus demo`` shows, step by step: real commands, each in a process of its own, with their output."""

from __future__ import annotations

import contextlib
import io
import os
import shlex
import signal
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import time
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

import msgspec

from stratus.cli.printing import bytes_, plural
from stratus.errors import StratusError
from stratus.testing.s3_server import LocalS3

_FQRN = "demo.example.org"
_BUCKET = "software"
_LIBRARY = f"lib/python{sys.version_info.major}.{sys.version_info.minor}"
_PACKAGES = ("numpy", "botocore", "Crypto", "cryptography")  # what is installed with Stratus, compiled code included
_LEFT_OUT = ("__pycache__", "test", "site-packages", "dist-packages")
_CHANGED = ("json/__init__.py", "json/decoder.py", "os.py", "typing.py")  # in the second release
_FOLLOWS_WITHIN = 20.0  # seconds
_PROGRAM = """\
import json, os, sys, numpy, release
matrix = numpy.random.default_rng(1).normal(size=(300, 300))
q, r = numpy.linalg.qr(matrix)
files = [m.__file__ for m in sys.modules.values() if getattr(m, "__file__", None)]
print(f"release {release.NUMBER}; numpy {numpy.__version__} says that QR is right to {abs(q @ r - matrix).max():.0e}")
print("json  is", json.__file__)
print("numpy is", numpy.__file__)
print(f"{sum(f.startswith(sys.prefix) for f in files)} of {len(files)} modules come from", sys.prefix)
"""


def demonstrate() -> None:
    """Raises StratusError if a step fails; whatever happens, servers, mounts and files are gone afterwards."""
    signal.signal(signal.SIGTERM, _interrupted)
    begun = time.monotonic()
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="stratus-demo-", ignore_cleanup_errors=True))
        _say("A bucket on a local S3 server, which has never heard of repositories")
        server = stack.enter_context(LocalS3())
        server.create_bucket(_BUCKET)
        stage = _Stage(Path(directory), server)
        stack.callback(stage.leave)
        _show(stage)
    _say(f"Server, mount and files are gone. That took {time.monotonic() - begun:.0f} s")


def _interrupted(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def _show(stage: _Stage) -> None:
    url = f"{stage.server.endpoint}/{_BUCKET}/{_FQRN}"
    print(f"$ export AWS_ENDPOINT_URL={stage.server.endpoint} AWS_ACCESS_KEY_ID=… AWS_SECRET_ACCESS_KEY=…")
    stage.stratus("create", _FQRN, f"s3://{_BUCKET}", "--keys", "keys")

    files = stage.pack("python-1.tar", 1)
    _say(f"Release 1: {files:,} files of Python's standard library and of numpy and other wheels, as an archive")
    publish = ("publish", "--catalog", "--owner", "0:0")
    stage.stratus(*publish, f"{_FQRN}:/python/1", "python-1.tar", "--tag", "release-1", "--message", "first release")
    stage.say_volume()
    stage.stratus("ls", "-l", f"{_FQRN}:/python/1/lib")

    _say("Anybody who has the public key mounts it from the bucket: plain HTTP, no credentials, no server of ours")
    stage.stratus("mount", url, "mnt", "--public-key", f"keys/{_FQRN}.pub", "--poll", "1", anonymous=True)
    stage.run_from_mount(1)

    stage.pack("python-2.tar", 2)
    _say(f"Release 2: {len(_CHANGED) + 1} files are different; nothing else is stored again")
    stage.stratus(*publish, f"{_FQRN}:/python/2", "python-2.tar", "--tag", "release-2", "--message", "second release")
    stage.say_volume()
    _say("The mount follows")
    stage.wait_for("python/2")
    stage.run_from_mount(2)

    _say("What was done, and whether all is well")
    stage.stratus("log", _FQRN)
    stage.stratus("info", url, "--public-key", f"keys/{_FQRN}.pub", anonymous=True)
    stage.stratus("check", _FQRN)
    stage.stratus("umount", "mnt")


class _Stage(msgspec.Struct, frozen=True):
    """Where it all happens: a directory with configuration, keys, cache, archives and mount point."""

    directory: Path
    server: LocalS3

    @property
    def mount(self) -> Path:
        return self.directory / "mnt"

    def stratus(self, *words: str, anonymous: bool = False) -> None:
        """Runs ``stratus``, without credentials if it is ``anonymous``. Raises StratusError."""
        print(f"$ stratus {shlex.join(words)}", flush=True)
        if words[0] == "mount":
            self.mount.mkdir()
        self._run([sys.executable, "-m", "stratus", *words], {} if anonymous else self.server.environment())

    def say_volume(self) -> None:
        """How much is in the bucket now."""
        sizes = [stat.size for stat in self.server.store(_BUCKET).list(f"{_FQRN}/")]
        _say(f"The bucket now holds {plural(len(sizes), 'object')} with {bytes_(sum(sizes))}")

    def run_from_mount(self, release: int) -> None:
        """Runs a program on an interpreter all of whose modules are in the mount. Raises StratusError."""
        home = self.mount / "python" / str(release)
        interpreter = os.path.realpath(sys.executable)
        where = {"PYTHONHOME": str(home), "PYTHONPATH": str(home / _LIBRARY / "site-packages")}
        shown = " ".join(f"{name}={Path(value).relative_to(self.directory)}" for name, value in where.items())
        print(f"$ {shown} {Path(interpreter).name} -s -S program.py", flush=True)
        self._run([interpreter, "-s", "-S", "-c", _PROGRAM], where)

    def wait_for(self, path: str) -> None:
        """Until it appears in the mount. Raises StratusError."""
        begun = time.monotonic()
        print(f"$ until ls mnt/{path}; do sleep 0.1; done", flush=True)
        while not (self.mount / path).is_dir():
            if time.monotonic() - begun > _FOLLOWS_WITHIN:
                raise StratusError(f"/{path} did not appear in the mount", hint="see the log of the mount")
            time.sleep(0.1)
        names = sorted(file.name for file in (self.mount / path).iterdir())
        print(f"{'  '.join(names)}\n(after {time.monotonic() - begun:.1f} s)\n", flush=True)

    def leave(self) -> None:
        """Takes the mount away if it is there."""
        if os.path.ismount(self.mount):
            subprocess.run([sys.executable, "-m", "stratus", "umount", str(self.mount)], check=False)

    def pack(self, name: str, release: int) -> int:
        """Makes the archive of a release; gives the number of its files."""
        with tarfile.open(self.directory / name, "w") as archive:
            return sum(_add(archive, file, member, release) for file, member in _files())

    def _run(self, command: list[str], environment: Mapping[str, str]) -> None:
        # Nothing of the user's own settings: what is shown must not depend on them.
        inherited = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
        ours = {
            "STRATUS_CONFIG": str(self.directory / "config.toml"),
            "STRATUS_CACHE": str(self.directory / "cache"),
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        done = subprocess.run(command, cwd=self.directory, env={**inherited, **ours, **environment}, check=False)
        print(flush=True)
        if done.returncode != 0:
            raise StratusError(f"the demo ends here: that command failed with {done.returncode}", hint="see above")


def _say(text: str) -> None:
    print(f"--- {text}.\n", flush=True)


def _files() -> Iterator[tuple[Path, str]]:
    """Files of this machine, each with its name in a release."""
    yield from _below(Path(sysconfig.get_path("stdlib")), _LIBRARY)
    yield Path(), f"{_LIBRARY}/site-packages/release.py"
    for package in _PACKAGES:
        spec = find_spec(package)
        for place in (spec and spec.submodule_search_locations) or ():
            for top in (Path(place), Path(f"{place}.libs")):
                yield from _below(top, f"{_LIBRARY}/site-packages/{top.name}")


def _below(top: Path, name: str) -> Iterator[tuple[Path, str]]:
    for directory, names, files in os.walk(top):
        names[:] = sorted(one for one in names if one not in _LEFT_OUT and not one.startswith("config-"))
        for file in sorted(files):
            path = Path(directory, file)
            yield path, f"{name}/{path.relative_to(top)}"


def _add(archive: tarfile.TarFile, file: Path, name: str, release: int) -> int:
    """Adds a file as it is in that release; gives the number of members."""
    change = b""
    if name.endswith("/release.py"):
        member, change = tarfile.TarInfo(name), f"NUMBER = {release}\n".encode()
        content = b""
    else:
        member = archive.gettarinfo(file, name)
        content = file.read_bytes() if member.isreg() else b""
        if release > 1 and name.removeprefix(f"{_LIBRARY}/") in _CHANGED:
            change = f"\n# changed in release {release}\n".encode()
    if member.islnk():  # names of one file need not be in one archive
        member.type, content = tarfile.REGTYPE, file.read_bytes()
    member.size = len(content + change) if member.isreg() else 0
    archive.addfile(member, io.BytesIO(content + change))
    return 1
