"""Many requests at once, a bounded number ahead."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import TypeVar

from stratus.memory import require_threads

T = TypeVar("T")
R = TypeVar("R")

WORKERS = 16


def each(action: Callable[[T], R], things: Iterable[T], workers: int = WORKERS) -> Iterator[R]:
    """The results in the order in which they come; takes at most ``2 * workers`` things ahead of the consumer.

    The first error ends it and is raised; what has not begun by then is not begun.
    """
    finished: SimpleQueue[Future[R]] = SimpleQueue()
    ahead = 0
    with threads(workers) as pool:
        for thing in things:
            pool.submit(action, thing).add_done_callback(finished.put)
            ahead += 1
            if ahead >= 2 * workers:
                yield finished.get().result()
                ahead -= 1
        while ahead:
            yield finished.get().result()
            ahead -= 1


def interruptible(action: Callable[[], R]) -> R:
    """Its result; an interrupt does not wait for it, though ``action`` is not Python's and does not look for any."""
    if threading.current_thread() is not threading.main_thread():
        return action()
    with threads(1) as pool:
        return pool.submit(action).result()


@contextlib.contextmanager
def threads(count: int) -> Iterator[ThreadPoolExecutor]:
    """Threads for one block, which waits for what has begun; only an interrupt does not, as an answer may take long.

    Raises MemoryError, before anything has begun.
    """
    require_threads(count)
    pool = ThreadPoolExecutor(count, thread_name_prefix="store")
    wait = True
    try:
        yield pool
    except KeyboardInterrupt:
        wait = False
        raise
    finally:
        pool.shutdown(wait, cancel_futures=True)
