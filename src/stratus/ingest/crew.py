"""Who does the work: this process, or several others.

Other processes are plain ones that run ``worker.main``, not those of ``multiprocessing``, which would run the user's
main module again. They are told what to do and answer through a pipe each, and end when it is closed, so that none
outlives this process. What waits in a pipe for us is small, so that no worker ever waits for us to read it while we
wait for it to read.
"""

from __future__ import annotations

import contextlib
import os
import stat
import sys
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from stratus.errors import StratusError

if TYPE_CHECKING:
    import subprocess
    from multiprocessing.connection import Connection

    from stratus.ingest.contract import Policy, Uploader

Reply = tuple[str, int, Any]  # step, batch, result
LITTLE = 8 << 20  # bytes that are packed before other processes have started
_MOST_WORKERS = 8
_PATIENCE = 2.0  # seconds that workers have to end


def default_workers() -> int:
    """As many as there are processors, within limits; 0 is this process."""
    processors = len(os.sched_getaffinity(0))
    return 0 if processors == 1 else min(processors, _MOST_WORKERS)


def start_ahead(sources: Sequence[str], workers: int | None) -> Processes | None:
    """Workers that start while everything else does, where the files that will be read are large; None if not.

    Where the sources are directories or standard input, what is in them is not known before they are read.
    """
    count = default_workers() if workers is None else workers
    return Processes(count) if count and sum(map(_size, sources)) >= LITTLE else None


def _size(source: str) -> int:
    try:
        status = os.stat(source)  # noqa: PTH116 - whatever was typed
    except (OSError, ValueError):
        return 0
    return status.st_size if stat.S_ISREG(status.st_mode) else 0


class Crew(Protocol):
    """Workers by number."""

    @property
    def count(self) -> int:
        """How many there are."""

    def send(self, worker: int, step: str, number: int, what: Any) -> None:
        """Has a worker take a step of a batch (``Desk.handle``). Raises StratusError."""

    def receive(self, wait: bool) -> list[Reply]:
        """Replies that have come; ``wait`` until there is one. Raises StratusError if a worker failed or died."""

    def close(self) -> None:
        """Ends all workers."""


class Here:
    """One worker, in this process: it is done when ``send`` returns."""

    count = 1

    def __init__(self, policy: Policy, uploader: Uploader) -> None:
        from stratus.ingest.worker import Desk  # other processes may be started before that is imported here

        self._desk = Desk(policy, uploader)
        self._replies: list[Reply] = []

    def send(self, worker: int, step: str, number: int, what: Any) -> None:  # noqa: ARG002
        result = self._desk.handle(step, number, what)
        if result is not None:
            self._replies.append((step, number, result))

    def receive(self, wait: bool) -> list[Reply]:  # noqa: ARG002
        replies, self._replies = self._replies, []
        return replies

    def close(self) -> None:
        pass


class Processes:
    """Workers in processes of their own; they can be led once they know how to work."""

    def __init__(self, count: int) -> None:
        import selectors  # a small publish needs no workers, and nothing that they take

        self._workers: list[subprocess.Popen[bytes]] = []
        self._pipes: list[Connection] = []
        self._selector = selectors.DefaultSelector()
        try:
            for number in range(count):
                self._start(number)
        except BaseException:
            self.close()
            raise

    def instruct(self, policy: Policy, uploader: Uploader) -> None:
        """How to work; before anything else. Raises StratusError."""
        for number in range(self.count):
            self._send(number, (policy, uploader))

    @property
    def count(self) -> int:
        return len(self._pipes)

    @property
    def processes(self) -> list[int]:
        """Their process ids."""
        return [worker.pid for worker in self._workers]

    def _start(self, number: int) -> None:
        import subprocess
        from multiprocessing.connection import Pipe
        from selectors import EVENT_READ

        ours, theirs = Pipe()
        with theirs:
            self._pipes.append(ours)
            # What can be imported here can be there; where to look is no secret, unlike what comes through the pipe.
            code = (
                f"import sys; sys.path[:] = {sys.path!r}\n"
                f"from stratus.ingest.worker import main; main({theirs.fileno()})"
            )
            try:
                worker = subprocess.Popen(
                    [sys.executable, "-c", code],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    pass_fds=[theirs.fileno()],
                )
            except OSError as error:
                raise StratusError(
                    f"a worker process cannot be started: {error.strerror}", hint="--workers 0 does all in one process"
                ) from error
            self._workers.append(worker)
        self._selector.register(ours, EVENT_READ, number)

    def send(self, worker: int, step: str, number: int, what: Any) -> None:
        self._send(worker, (step, number, what))

    def _send(self, worker: int, message: Any) -> None:
        try:
            self._pipes[worker].send(message)
        except ConnectionError:
            self._raise(worker)

    def receive(self, wait: bool) -> list[Reply]:
        return [reply for key, _ in self._selector.select(None if wait else 0) for reply in self._replies(key.data)]

    def _replies(self, worker: int) -> Iterator[Reply]:
        pipe = self._pipes[worker]
        try:
            while True:
                step, number, result = pipe.recv()
                if step == "error":
                    raise result
                yield step, number, result
                if not pipe.poll():
                    return
        except (EOFError, ConnectionError):
            self._raise(worker)

    def _raise(self, worker: int) -> None:
        """Raises what the worker said last, or that it is gone."""
        import subprocess

        with contextlib.suppress(EOFError, ConnectionError):
            while True:
                step, _, result = self._pipes[worker].recv()
                if step == "error":
                    raise result
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._workers[worker].wait(_PATIENCE)
        code = self._workers[worker].returncode
        raise StratusError(
            f"a worker process ended with {f'signal {-code}' if code and code < 0 else f'code {code}'}; "
            "nothing was published",
            hint="there may be too little memory; --workers 0 does all in one process",
        )

    def close(self) -> None:
        """It may be called again."""
        import subprocess

        for pipe in self._pipes:
            pipe.close()
        self._selector.close()
        patience = time.monotonic() + _PATIENCE
        for worker in self._workers:
            try:
                worker.wait(max(0.01, patience - time.monotonic()))
            except subprocess.TimeoutExpired:
                worker.kill()
                worker.wait()
