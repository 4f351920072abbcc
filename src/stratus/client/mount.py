"""Mounting a repository, and following it to its new revisions, as ``stratus mount`` and ``stratus umount`` do."""

from __future__ import annotations

import contextlib
import logging
import logging.handlers
import os
import pickle
import resource
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NoReturn

from stratus.catalogs.tree import Load
from stratus.client.cache import Cache
from stratus.client.content import ContentReader
from stratus.client.following import Follower, MountSource, News
from stratus.client.fuse import mounting
from stratus.client.fuse.loop import serve
from stratus.client.fuse.mounting import MountPoint
from stratus.client.fuse.probing import ended, probe
from stratus.errors import BadFormat, MountError, StratusError
from stratus.formats.catalog import Catalog, Nested
from stratus.formats.compression import Compression
from stratus.formats.hashes import ObjectId, Suffix

CVMFS = Path("/cvmfs")  # where repositories are mounted unless somebody says otherwise
_PARTING = 10  # seconds for the end of a process whose mount is gone; there is nothing that it waits for
_STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

log = logging.getLogger(__name__)


def mount(
    open_source: Callable[[], MountSource],
    directory: Path | None,
    *,
    cache: Path,
    limit: int | None = None,
    poll: float | None = None,
    news: Sequence[News] = (),
    foreground: bool = False,
) -> Path:
    """Mounts and gives the mount point; returns once the mount answers, or with ``foreground`` when it is unmounted.

    To be called by the main thread of a process, in the background one without other threads: what answers is forked
    off. That is also why the source comes as a function, for network clients do not survive a fork.

    Args:
        open_source: called once, in the process that answers.
        directory: where; None for ``/cvmfs/<fqrn>``, which is made if it is not there, and then removed in the end.
        cache: directory, may be shared by many mounts; ``mount.<fqrn>.log`` there is the log of a background mount.
        limit: of the cache, in bytes.
        poll: seconds between looks for a new revision, by default what the repository says.
        news: tell of new revisions sooner.

    Raises MountError, or what opening the source, its first revision or its root catalog raises.
    """
    directory, cache = directory and _absolute(directory), cache.absolute()

    def run(ready: Callable[[Path], None], background: bool) -> Path:
        return _run(open_source, directory, cache, limit, poll, news, ready, background)

    if foreground:
        return run(lambda where: log.info("%s is mounted", where), False)
    return _in_background(lambda ready: run(ready, True))


def umount(directory: Path) -> int | None:
    """Takes a mount away at once, a dead one too; what is open in it stays readable until it is closed.

    Waits for the end of the process that answers, a few seconds at most. Gives its pid if it lives on, as long as
    something is open.

    Raises MountError if no repository is mounted there, or if it may not be unmounted.
    """
    directory = _absolute(directory)
    mounted = mounting.find(directory)
    if mounted is None or mounted.kind != mounting.TYPE:
        raise MountError(
            f"no repository is mounted at {directory}", hint=f"`findmnt -t {mounting.TYPE}` lists all mounts"
        )
    pid = probe(mounted).pid
    in_use = mounting.detach(directory)
    return None if pid is None or ended(pid, 0 if in_use else _PARTING) else pid


def umount_stale() -> list[Path]:
    """Takes all mounts away whose processes were killed; gives where they were, in the order of removal.

    Raises MountError if any may not be unmounted, after all the others were.
    """
    removed: list[Path] = []
    refused: MountError | None = None
    for mounted in reversed(mounting.mounts()):
        if mounted.kind == mounting.TYPE and mounting.find(mounted.directory) == mounted and probe(mounted).dead:
            try:
                mounting.detach(mounted.directory)
                removed.append(mounted.directory)
            except MountError as error:
                refused = error
    if refused is not None:
        raise refused
    return removed


def _absolute(directory: Path) -> Path:
    """The mount point as the kernel names it, without touching a mount that may be dead."""
    plain = Path(os.path.normpath(directory.absolute()))
    for candidate in (plain, plain.parent.resolve() / plain.name):
        if mounting.find(candidate) is not None:
            return candidate
    return plain.resolve()


# -- the process that answers ------------------------------------------------------------------------------------------


def _run(
    open_source: Callable[[], MountSource],
    wanted: Path | None,
    cache_directory: Path,
    limit: int | None,
    poll: float | None,
    news: Sequence[News],
    ready: Callable[[Path], None],
    background: bool,
) -> Path:
    """Mounts and answers until the file system is unmounted."""
    if wanted is not None:
        _check_free(wanted)
    source = open_source()
    directory = wanted or CVMFS / source.fqrn
    cache = Cache(cache_directory, source.fetch, limit)
    if background:
        _log_to(cache_directory / f"mount.{source.fqrn}.log")
    _allow_open_files()
    follower = Follower(source, _loader(cache), poll, news)
    filesystem = follower.file_system(ContentReader(cache))
    mounted: MountPoint | None = None

    def take_away() -> None:
        if mounted is not None and mounting.find(directory) == mounted:
            try:
                mounting.detach(directory)
            except MountError as error:
                log.error("%s", error)

    with contextlib.ExitStack() as ending:
        if wanted is None:
            _check_free(directory)
            ending.enter_context(_made(directory))
        with _signals_wait():
            ending.enter_context(_stopped_by_signals(take_away))
            device = mounting.attach(directory, source.fqrn)
            mounted = mounting.find(directory)
            ending.callback(take_away)
            ending.callback(os.close, device)
            ending.callback(follower.stop)

        def answering() -> None:
            # Its own descriptor: ours is closed while it may be at something.
            threading.Thread(target=follower.run, args=(filesystem, os.dup(device)), daemon=True).start()
            log.info("%s: revision %s is mounted at %s", source.fqrn, follower.snapshot.revision, directory)
            ready(directory)

        serve(device, filesystem, answering)
    log.info("%s: not mounted at %s any more", source.fqrn, directory)
    return directory


def _check_free(directory: Path) -> None:
    """Raises MountError if a repository is mounted there, alive or not."""
    mounted = mounting.find(directory)
    if mounted is None or mounted.kind != mounting.TYPE:
        return
    if probe(mounted).dead:
        raise MountError(
            f"{directory} has the remains of a mount of {mounted.source} whose process was killed",
            hint=f"remove them: stratus umount {directory}",
        )
    raise MountError(
        f"{mounted.source} is mounted at {directory} already", hint=f"unmount it: stratus umount {directory}"
    )


@contextlib.contextmanager
def _made(directory: Path) -> Iterator[None]:
    """Makes what is missing of a directory, and removes that in the end, if nothing has been put there."""
    made: list[Path] = []
    try:
        try:
            for path in reversed([path for path in (directory, *directory.parents) if not path.exists()]):
                path.mkdir(mode=0o755)
                made.append(path)
        except OSError as error:
            raise MountError(
                f"{directory} does not exist and cannot be made: {error.strerror}",
                hint=f'sudo mkdir -p {directory} && sudo chown "$USER" {directory}, or say where to mount',
            ) from error
        yield
    finally:
        with contextlib.suppress(OSError):
            for path in reversed(made):
                path.rmdir()


def _loader(cache: Cache) -> Load:
    def load(at: Nested) -> Catalog:
        object_id = ObjectId(at.digest, Suffix.CATALOG)
        try:
            return _open_catalog(cache, object_id, at.size)
        except BadFormat:
            cache.remove(object_id)  # it may be damaged only there
            return _open_catalog(cache, object_id, at.size)

    return load


def _open_catalog(cache: Cache, object_id: ObjectId, size: int) -> Catalog:
    descriptor = cache.open(object_id, size or None, Compression.ZLIB)
    try:
        path = Path(cache.path(object_id))
        if path.exists():
            return Catalog.open(path)
        return Catalog.parse(os.pread(descriptor, os.fstat(descriptor).st_size, 0))  # it could not be kept
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _signals_wait() -> Iterator[None]:
    """What would stop us comes afterwards: a process killed between mounting and being ready for it leaves a ruin."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _STOPPING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _stopped_by_signals(stop: Callable[[], None]) -> Iterator[None]:
    """The first signal stops, in a thread, since what it does may need answers of ours; another one kills."""

    def handle(number: int, _: object) -> None:
        signal.signal(number, signal.SIG_DFL)
        threading.Thread(target=stop, daemon=True).start()

    before = {number: signal.signal(number, handle) for number in _STOPPING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _allow_open_files() -> None:
    """As many as the administrator lets us: every loaded catalog is one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _log_to(file: Path) -> None:
    handler = logging.handlers.RotatingFileHandler(file, maxBytes=1 << 20, backupCount=1)
    handler.setFormatter(logging.Formatter("%(asctime)s %(process)d %(levelname)s %(message)s"))
    logger = logging.getLogger("stratus")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)


# -- the background ----------------------------------------------------------------------------------------------------


def _in_background(run: Callable[[Callable[[Path], None]], Path]) -> Path:
    """Runs in a process without a terminal; gives what it says when it is ready, raises what it raises before that."""
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(ours)
        _detached(run, theirs)
    os.close(theirs)
    with open(ours, "rb") as pipe:  # noqa: PTH123 (a descriptor)
        told = pipe.read()
    os.waitpid(child, 0)
    if not told:
        raise MountError("the mount process was killed before the file system answered")
    result: Path | Exception = pickle.loads(told)
    if isinstance(result, Exception):
        raise result
    return result


def _detached(run: Callable[[Callable[[Path], None]], Path], told: int) -> NoReturn:
    """In the child: never returns to the caller's code, which belongs to the parent."""
    status = 1
    try:
        os.setsid()
        if os.fork() != 0:  # so that it is nobody's child, and never a zombie
            os._exit(0)
        null = os.open(os.devnull, os.O_RDWR)
        for stream in range(3):
            os.dup2(null, stream)
        if null > 2:
            os.close(null)
        answered = False

        def tell(result: Path | Exception) -> None:
            nonlocal answered
            answered = True
            os.write(told, pickle.dumps(result))
            os.close(told)

        def ready(directory: Path) -> None:
            os.chdir("/")  # hold no other file system
            tell(directory)

        try:
            run(ready)
            status = 0
        except Exception as error:
            log.error("%s", error, exc_info=not isinstance(error, StratusError))
            if not answered:
                tell(error if isinstance(error, StratusError) else MountError(f"{type(error).__name__}: {error}"))
    finally:
        logging.shutdown()
        os._exit(status)
