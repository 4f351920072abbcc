"""The kernel's protocol, spoken over a socket in the kernel's place."""

from __future__ import annotations

import errno
import os
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from stratus.client.fuse import protocol
from stratus.client.fuse.calls import Later, Reply
from stratus.client.fuse.loop import serve
from stratus.client.fuse.mounting import find
from stratus.client.fuse.notices import Notices
from stratus.client.fuse.protocol import Opcode
from stratus.errors import StoreError


class Answers:
    """A file system that answers what the test puts here."""

    def __init__(self) -> None:
        self.reply: Reply | Exception = b""
        self.forgotten: list[tuple[int, int]] = []
        self.asked: list[tuple[object, ...]] = []

    def _answer(self, *asked: object) -> Reply:
        self.asked.append(asked)
        if isinstance(self.reply, Exception):
            raise self.reply
        return self.reply

    def lookup(self, parent: int, name: bytes) -> Reply:
        return self._answer(parent, name)

    def forget(self, node: int, lookups: int) -> None:
        self.forgotten.append((node, lookups))

    def getattr(self, node: int) -> Reply:
        return self._answer(node)

    def readlink(self, node: int) -> Reply:
        return self._answer(node)

    def open(self, node: int) -> Reply:
        return self._answer(node)

    def read(self, node: int, offset: int, size: int) -> Reply:
        return self._answer(node, offset, size)

    def opendir(self, node: int) -> Reply:
        return self._answer(node)

    def readdir(self, node: int, handle: int, offset: int, size: int, plus: bool) -> Reply:
        return self._answer(node, handle, offset, size, plus)

    def releasedir(self, handle: int) -> None:
        self._answer(handle)

    def getxattr(self, node: int, name: bytes) -> Reply:
        return self._answer(node, name)

    def listxattr(self, node: int) -> list[bytes]:
        return [b"user.a", b"user.b"]


class Kernel:
    """The other end of the device."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._unique = 0

    def send(self, opcode: int, body: bytes = b"", node: int = 1) -> int:
        self._unique += 1
        size = protocol.IN_HEADER.size + len(body)
        self._end.send(protocol.IN_HEADER.pack(size, opcode, self._unique, node, 0, 0, os.getpid(), 0, 0) + body)
        return self._unique

    def receive(self) -> tuple[int, int, bytes]:
        """Unique, errno and body of the next answer."""
        data = self._end.recv(1 << 20)
        size, number, unique = protocol.OUT_HEADER.unpack_from(data)
        assert size == len(data)
        return unique, -number, data[protocol.OUT_HEADER.size :]

    def ask(self, opcode: int, body: bytes = b"", node: int = 1) -> tuple[int, bytes]:
        """Errno and body of the answer."""
        sent = self.send(opcode, body, node)
        unique, number, answer = self.receive()
        assert unique == sent
        return number, answer


@pytest.fixture
def answers() -> Answers:
    return Answers()


@pytest.fixture
def kernel(answers: Answers) -> Iterator[Kernel]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.settimeout(10)
    with ours, theirs:
        loop = threading.Thread(target=serve, args=(theirs.fileno(), answers))
        loop.start()
        made = Kernel(ours)
        yield made
        made.ask(Opcode.DESTROY)
        loop.join()


def test_the_structures_have_the_sizes_of_the_kernel() -> None:
    assert protocol.IN_HEADER.size == 40
    assert protocol.INIT_OUT.size == 64
    assert protocol.ATTR.size == 88
    assert protocol.ENTRY_SIZE == len(protocol.no_entry(1)) == len(protocol.no_lookup()) == 128
    assert len(protocol.attr_reply(bytes(88), 1)) == 104
    assert len(protocol.statfs_reply()) == 80


def test_names_in_listings_are_padded_to_8_bytes() -> None:
    found = protocol.dirent(7, b"123456789", 0o040755, 3)
    assert found == struct.pack("=QQII", 7, 3, 9, 4) + b"123456789" + bytes(7)


def test_times_before_1970_and_between_seconds() -> None:
    attributes = protocol.ATTR.unpack(protocol.attributes(5, 1025, -1, 0o100644, 1, 2, 3, 0))
    assert attributes[:3] == (5, 1025, 3)
    assert attributes[4] == -1
    assert attributes[7] == 999_999_999


def test_the_version_is_negotiated(kernel: Kernel) -> None:
    def init(major: int, minor: int) -> tuple[int, bytes]:
        return kernel.ask(Opcode.INIT, protocol.INIT_IN.pack(major, minor, 1 << 17, 0xFFFFFFFF))

    number, reply = init(7, 45)
    assert number == 0
    major, minor, readahead, flags, *_ = protocol.INIT_OUT.unpack(reply)
    assert (major, minor, readahead) == (7, 31, 1 << 17)
    assert flags & protocol.PARALLEL_DIROPS
    assert not flags & (1 << 17)  # NO_OPEN_SUPPORT
    assert protocol.INIT_OUT.unpack(init(7, 23)[1])[:2] == (7, 23)
    assert protocol.INIT_OUT.unpack(init(8, 0)[1])[:2] == (7, 31)
    assert init(7, 22) == (errno.EPROTO, b"")


def test_calls_and_answers(kernel: Kernel, answers: Answers) -> None:
    answers.reply = b"target"
    assert kernel.ask(Opcode.READLINK, node=5) == (0, b"target")
    assert kernel.ask(Opcode.LOOKUP, b"name\xff\0") == (0, b"target")
    assert kernel.ask(Opcode.READ, struct.pack("=QQII", 0, 4096, 100, 0) + bytes(16)) == (0, b"target")
    assert kernel.ask(Opcode.READDIRPLUS, struct.pack("=QQII", 9, 2, 100, 0) + bytes(16)) == (0, b"target")
    assert answers.asked == [(5,), (1, b"name\xff"), (1, 4096, 100), (1, 9, 2, 100, True)]


def test_forgetting_is_not_answered(kernel: Kernel, answers: Answers) -> None:
    kernel.send(Opcode.FORGET, struct.pack("=Q", 3), node=5)
    kernel.send(Opcode.BATCH_FORGET, struct.pack("=II4Q", 2, 0, 6, 1, 7, 2))
    answers.reply = b"next"
    assert kernel.ask(Opcode.READLINK) == (0, b"next")
    assert answers.forgotten == [(5, 3), (6, 1), (7, 2)]


def test_what_writes_is_refused_and_what_is_unknown_too(kernel: Kernel) -> None:
    assert kernel.ask(Opcode.MKDIR, bytes(8) + b"x\0") == (errno.EROFS, b"")
    assert kernel.ask(Opcode.OPEN, struct.pack("=II", os.O_RDWR, 0)) == (errno.EROFS, b"")
    assert kernel.ask(Opcode.ACCESS, struct.pack("=II", os.W_OK, 0)) == (errno.EROFS, b"")
    assert kernel.ask(Opcode.ACCESS, struct.pack("=II", os.R_OK, 0)) == (0, b"")
    assert kernel.ask(999) == (errno.ENOSYS, b"")
    assert kernel.ask(Opcode.RELEASE, bytes(24)) == (0, b"")
    assert kernel.ask(Opcode.STATFS) == (0, protocol.statfs_reply())


def test_no_failure_ends_the_loop(kernel: Kernel, answers: Answers) -> None:
    for error, number in (
        (OSError(errno.ESTALE, "stale"), errno.ESTALE),
        (StoreError("no network"), errno.EIO),
        (ZeroDivisionError("a bug"), errno.EIO),
    ):
        answers.reply = error
        assert kernel.ask(Opcode.GETATTR) == (number, b"")

    def fail() -> None:
        raise StoreError("no network")

    answers.reply = Later(fail, lambda result: result)
    assert kernel.ask(Opcode.GETATTR) == (errno.EIO, b"")
    answers.reply = Later(lambda: None, lambda _: fail() or b"")  # type: ignore[func-returns-value]
    assert kernel.ask(Opcode.GETATTR) == (errno.EIO, b"")
    assert kernel.ask(Opcode.OPEN, b"short") == (errno.EIO, b"")


def test_who_waits_holds_up_nobody(kernel: Kernel, answers: Answers) -> None:
    released = threading.Event()
    answers.reply = Later(lambda: released.wait(10), lambda result: b"late" if result else b"never")
    waiting = kernel.send(Opcode.READLINK)
    answers_now = kernel.ask(Opcode.STATFS)
    assert answers_now[0] == 0
    kernel.send(Opcode.INTERRUPT, struct.pack("=Q", waiting))  # we are not being killed, so it is ignored
    released.set()
    assert kernel.receive() == (waiting, 0, b"late")


def test_extended_attributes_fit_or_tell_their_size(kernel: Kernel, answers: Answers) -> None:
    def ask(size: int, opcode: Opcode = Opcode.GETXATTR) -> tuple[int, bytes]:
        return kernel.ask(opcode, struct.pack("=II", size, 0) + b"user.x\0")

    for reply in (b"value", Later(lambda: b"value", lambda result: result)):
        answers.reply = reply
        assert ask(0) == (0, struct.pack("=II", 5, 0))
        assert ask(5) == (0, b"value")
        assert ask(4) == (errno.ERANGE, b"")
    assert answers.asked[0] == (1, b"user.x")
    assert ask(0, Opcode.LISTXATTR) == (0, struct.pack("=II", 14, 0))
    assert ask(100, Opcode.LISTXATTR) == (0, b"user.a\0user.b\0")


def test_notices() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        notices = Notices(theirs.fileno())
        notices.entry(5, b"name")
        notices.attributes(6)
        notices.listing(7)
        head = protocol.OUT_HEADER
        assert ours.recv(100) == head.pack(37, 3, 0) + struct.pack("=QII", 5, 4, 0) + b"name\0"
        assert ours.recv(100) == head.pack(40, 2, 0) + struct.pack("=Qqq", 6, -1, 0)
        assert ours.recv(100)[16:] == struct.pack("=QII", 7, 1, 0) + b".\0"
        assert ours.recv(100) == head.pack(40, 2, 0) + struct.pack("=Qqq", 7, 0, 0)


def test_mounts_are_found_by_their_directory() -> None:
    mounted = find(Path("/proc"))
    assert mounted is not None
    assert mounted.kind == "proc"
    assert find(Path("/proc/self")) is None
