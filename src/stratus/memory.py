"""Address space under a limit (``ulimit -v``): used sparingly, and asked for before what could not fail in order.

Python reports a failed allocation, but not everything below it does: OpenBLAS and Rust end the process, and a thread
without memory for its first frame never says that it has started, so that its starter waits for ever.
"""

from __future__ import annotations

import contextlib
import mmap
import resource
import threading

_STACK = 2 << 20  # bytes; by default it is `ulimit -s`, mostly 8 MiB
_DEFAULT_STACK = 8 << 20
_FIRST_FRAMES = 256 << 10  # bytes of a thread besides its stack
_ARENAS = -8  # of mallopt


def limited() -> bool:
    """Whether this process may not have all the address space it wants."""
    return any(
        resource.getrlimit(kind)[0] != resource.RLIM_INFINITY for kind in (resource.RLIMIT_AS, resource.RLIMIT_DATA)
    )


def spare() -> None:
    """Under a limit: small stacks, and no heaps of 64 MiB for each thread."""
    if not limited():
        return
    import ctypes

    threading.stack_size(_STACK)
    with contextlib.suppress(AttributeError):  # only the GNU library has it
        ctypes.CDLL(None).mallopt(_ARENAS, 1)


def require(size: int) -> None:
    """Raises MemoryError unless there is room for so many bytes at this moment."""
    if not limited():
        return
    try:
        mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS).close()
    except OSError:
        raise MemoryError(f"there is no room for {size} bytes") from None


def require_threads(count: int) -> None:
    """Raises MemoryError unless so many threads can start."""
    require(count * ((threading.stack_size() or _DEFAULT_STACK) + _FIRST_FRAMES))
