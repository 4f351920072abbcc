"""A worker as its supervisor sees it. Only processes that were started here are ever killed."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from multiprocessing.connection import Pipe
from typing import cast

from stratus.functions.contract import Event, Reply
from stratus.runtimes.local import replies
from stratus.runtimes.local.worker import GRACE, Task

_START = 60.0  # seconds that a worker has to start
_PATIENCE = 2.0  # seconds that one has to end when it is told so


class Worker:
    """One process, and a pipe to it; for one thread at a time."""

    def __init__(self, task: Task) -> None:
        """Returns before the worker is ready."""
        self._task = task
        self._ready = False
        self.good = True
        self._pipe, theirs = Pipe()
        # Not one of multiprocessing's, which would run the main module again, and need a process that tracks them.
        code = (
            f"import sys; sys.path[:] = {sys.path!r}\n"
            f"from stratus.runtimes.local.worker import main; main({theirs.fileno()})"
        )
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-c", code],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},  # 20 MiB a thread, used or not
                start_new_session=True,  # Ctrl-C is for the supervisor; and what it starts is killed with it
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def is_alive(self) -> bool:
        return self._process.poll() is None

    def ask(self, event: Event) -> Reply:
        """Has it handle an event; a problem where it cannot. If it is not ``good`` afterwards, it is to be closed."""
        function, budget = self._task.function, self._task.budget
        try:
            if not self._ready:
                self._pipe.send(self._task)
                if not self._pipe.poll(_START):
                    self.good = False
                    return replies.too_late(function, _START)
                self._pipe.recv()
                self._ready = True
            self._pipe.send(event)
            if not self._pipe.poll(budget.seconds + GRACE):
                self.good = False
                return replies.too_late(function, budget.seconds)
            reply, self.good = self._pipe.recv()
            return cast(Reply, reply)
        except (EOFError, OSError):
            self.good = False
            return replies.died(function, self._end())

    def kill(self) -> None:
        """Ends it at once, with whatever it has started. From any thread."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def close(self) -> None:
        """Ends it: an idle one by hanging up, one that does not listen is killed."""
        if not self.good:
            self.kill()
        self._pipe.close()
        try:
            self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self.kill()
            self._process.wait()

    def _end(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_PATIENCE)
        code = self._process.returncode
        return f"signal {-code}" if code and code < 0 else f"code {code}"
