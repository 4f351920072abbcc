"""The loop: reads the kernel's requests from the device and answers them.

What is local is answered at once by the one thread that reads; what must be waited for (``Later``) goes to a pool of
threads, so that a slow fetch never holds up others. No failure of a single operation ends the loop.
"""

from __future__ import annotations

import errno
import logging
import os
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from typing_extensions import Buffer

from stratus.client.fuse import protocol
from stratus.client.fuse.calls import FileSystem, Later, call
from stratus.client.fuse.protocol import Opcode
from stratus.errors import StratusError

# Requests for one object wait for its one fetch in a thread each, hence more threads than connections.
_THREADS = 32
# ENODEV: unmounted; ECONNABORTED: the connection was aborted by an administrator.
_OVER = frozenset({errno.ENODEV, errno.ECONNABORTED})
# ENOENT: the request was withdrawn before it was read; the others are what the kernel asks to try again.
_AGAIN = frozenset({errno.ENOENT, errno.EINTR, errno.EAGAIN})

log = logging.getLogger(__name__)


def serve(device: int, filesystem: FileSystem, ready: Callable[[], None] = lambda: None) -> None:
    """Answers until the file system is unmounted; ``ready`` is called once the kernel got its first answer.

    ``device`` is the open ``/dev/fuse``, which the caller closes. Raises OSError if it cannot be read.
    """
    loop = _Loop(device, filesystem, ready)
    try:
        loop.run()
    finally:
        # The threads must be gone before anybody closes the device, whose number could be given to another file.
        loop.pool.shutdown(wait=True, cancel_futures=True)


class _Loop:
    """One mounted file system: the device, and the requests that threads are at."""

    def __init__(self, device: int, filesystem: FileSystem, ready: Callable[[], None]) -> None:
        self.pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="fuse")
        self._device = device
        self._filesystem = filesystem
        self._ready = ready
        self._waiting: dict[int, int] = {}  # unique → pid of who asked

    def run(self) -> None:
        buffer = bytearray(protocol.RECEIVE_SIZE)
        view = memoryview(buffer)
        header_size = protocol.IN_HEADER.size
        while True:
            try:
                length = os.readv(self._device, [buffer])
            except OSError as error:
                if error.errno in _OVER:
                    return
                if error.errno in _AGAIN:
                    continue
                raise
            if length < header_size:
                return  # end of file: there is nobody who asks
            _, opcode, unique, node, _, _, pid, _, _ = protocol.IN_HEADER.unpack_from(buffer)
            body = bytes(view[header_size:length])
            if opcode == Opcode.DESTROY:
                self._answer(unique, b"")
                return
            if opcode == Opcode.INIT:
                self._init(unique, body)
            elif opcode == Opcode.INTERRUPT:
                self._interrupt(protocol.INTERRUPT_IN.unpack_from(body)[0])
            else:
                self._handle(opcode, unique, node, pid, body)

    def _init(self, unique: int, body: bytes) -> None:
        reply = protocol.init_reply(body)
        if reply is None:
            self._refuse(unique, errno.EPROTO)
            return
        self._answer(unique, reply)
        self._ready()

    def _handle(self, opcode: int, unique: int, node: int, pid: int, body: bytes) -> None:
        try:
            reply = call(self._filesystem, opcode, node, body)
        except Exception as error:
            if opcode not in (Opcode.FORGET, Opcode.BATCH_FORGET):
                self._refuse(unique, _errno_of(error, opcode))
            return
        if isinstance(reply, Later):
            self._waiting[unique] = pid
            self.pool.submit(self._work, opcode, unique, reply)
        elif reply is not None:
            self._answer(unique, reply)

    def _work(self, opcode: int, unique: int, later: Later) -> None:
        """In a thread: waits, then answers, unless the one who asked was killed and has been answered already."""
        try:
            result = later.work()
        except Exception as error:
            number = _errno_of(error, opcode)
            if self._waiting.pop(unique, None) is not None:
                self._refuse(unique, number)
            return
        if self._waiting.pop(unique, None) is None:
            return
        try:
            reply = later.finish(result)
        except Exception as error:
            self._refuse(unique, _errno_of(error, opcode))
            return
        self._answer(unique, reply)

    def _interrupt(self, unique: int) -> None:
        """Lets a killed process go at once.

        Signals that do not kill are ignored: programs do not expect EINTR of a file, and a page fault that is answered
        with it ends in SIGBUS. The kernel sends this only after the request itself, so a request that nobody waits for
        was answered.
        """
        pid = self._waiting.get(unique)
        if pid is not None and _is_being_killed(pid) and self._waiting.pop(unique, None) is not None:
            self._refuse(unique, errno.EINTR)

    def _answer(self, unique: int, reply: Buffer) -> None:
        size = protocol.OUT_HEADER.size + memoryview(reply).nbytes
        self._send(unique, [protocol.OUT_HEADER.pack(size, 0, unique), reply])

    def _refuse(self, unique: int, number: int) -> None:
        self._send(unique, [protocol.OUT_HEADER.pack(protocol.OUT_HEADER.size, -number, unique)])

    def _send(self, unique: int, parts: list[Buffer]) -> None:
        try:
            os.writev(self._device, parts)
        except OSError as error:
            # The request is gone, or the whole mount: nobody is left to be told.
            if error.errno in _OVER or error.errno == errno.ENOENT:
                return
            log.exception("the kernel refused an answer")
            if len(parts) > 1:
                self._refuse(unique, errno.EIO)


def _errno_of(error: Exception, opcode: int) -> int:
    """What the kernel is told; everything but a plain errno is logged."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    name = Opcode(opcode).name if opcode in Opcode._value2member_map_ else str(opcode)
    if isinstance(error, StratusError):
        log.warning("%s failed: %s", name, error)
    else:
        log.error("%s failed", name, exc_info=error)
    return errno.EIO


def _is_being_killed(pid: int) -> bool:
    """Whether a fatal signal waits for the thread; the kernel turns all fatal signals into a pending SIGKILL."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    pending = (int(line.split()[1], 16) for line in status.splitlines() if line.startswith(("SigPnd:", "ShdPnd:")))
    return any(bits >> (signal.SIGKILL - 1) & 1 for bits in pending)
