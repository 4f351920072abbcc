"""From bodies to contents: cuts large files, deals pieces out in batches, and decides what is packed and uploaded.

Each batch goes through up to three steps with one worker (``worker.py``): it is read and hashed; what is not known by
its plain bytes is packed; what is not stored already is uploaded. All decisions are made here, in the order of the
content, so that the outcome and the requests do not depend on the number of workers, nor on who is faster.
"""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from stratus.formats import paths
from stratus.formats.chunking import ChunkDetector
from stratus.formats.compression import Compression
from stratus.formats.entries import Chunk, Content
from stratus.formats.hashes import Digest, Suffix
from stratus.ingest.contract import Body, Delivery, File, Packed, Policy, Progress, Warn
from stratus.ingest.crew import Crew, Here, Processes
from stratus.ingest.files import changed, identify, unreadable
from stratus.ingest.worker import KEY_SIZE, Piece

MOST_WORKERS = 8
_FEW_FILES = 200  # and
_FEW_BYTES = 8 << 20  # less than that is done before other processes have started
_BATCH_FILES = 100
_BATCH_BYTES = 4 << 20
_AHEAD = 3  # batches of one worker that are under way
_MOST_BYTES = 64 << 20  # of all batches that are under way, as plain bytes; packed they are there a second time
_SCANNED_AT_ONCE = 50  # bodies between two looks at the workers
_READ_SIZE = 256 << 10  # bytes


def default_workers() -> int:
    """As many as there are processors, within limits; 0 is this process."""
    processors = len(os.sched_getaffinity(0))
    return 0 if processors == 1 else min(processors, MOST_WORKERS)


class _Work:
    """A body that is being packed: digests and sizes of its pieces, as far as they are known."""

    __slots__ = ("body", "digests", "is_cut", "left", "path", "sizes")

    def __init__(self, path: bytes, body: Body) -> None:
        self.path = path
        self.body = body
        self.digests: list[Digest | None] = []
        self.sizes: list[int] = []
        self.left = 1  # pieces without a digest, and one for those that are still to come
        self.is_cut = False


_Part = tuple[_Work, int]


class _Batch:
    """Pieces that one worker takes through the steps together."""

    __slots__ = ("keys", "objects", "parts", "pieces", "size", "worker")

    def __init__(self) -> None:
        self.pieces: list[Piece] = []
        self.parts: list[_Part] = []
        self.size = 0  # bytes
        self.worker = 0
        self.keys: list[tuple[bytes, int]] = []  # of what is packed: the key and the index in ``parts``
        self.objects: list[Packed] = []  # that are uploaded


class Pipeline:
    """Gives bodies their contents. A context manager: when it ends, so do all workers."""

    def __init__(
        self,
        policy: Policy,
        delivery: Delivery,
        warn: Warn,
        workers: int | None = None,
        progress: Progress | None = None,
    ) -> None:
        self._policy = policy
        self._delivery = delivery
        self._warn = warn
        self._largest_whole = sys.maxsize if policy.limits is None else policy.limits.minimum
        self._compression = policy.packing.compression
        self._workers = workers
        self._progress = progress
        self._crew: Crew | None = None
        self._queue: deque[_Work] = deque()
        self._batch = _Batch()
        self._open: dict[int, _Batch] = {}
        self._load: list[int] = []  # open batches, by worker
        self._open_bytes = 0
        self._last_batch = 0
        # Steps whose replies are waited for, in the order of the batches, and those that came too early.
        self._expected: dict[str, deque[int]] = {"read": deque(), "pack": deque()}
        self._early: dict[tuple[str, int], Any] = {}
        self._done: dict[bytes, Digest] = {}  # by key
        self._pending: dict[bytes, list[_Part]] = {}
        self._files = self._bytes = self._all_files = self._all_bytes = 0
        self._scanned = False

    def __enter__(self) -> Pipeline:
        return self

    def __exit__(self, *_: object) -> None:
        if self._crew is not None:
            self._crew.close()

    def add(self, path: bytes, body: Body) -> None:
        """Takes a body on, for the entry at ``path``; blocks are read at once. Raises BadSource, StoreError."""
        self._all_files += 1
        self._all_bytes += body.size
        self._queue.append(_Work(path, body))
        if self._crew is None:
            if self._is_little():
                if isinstance(body.where, Iterator):
                    body.where = b"".join(body.where)
                return
            self._start()
        if not isinstance(body.where, File):
            while self._queue:
                self._cut(self._queue.popleft())
        elif self._all_files % _SCANNED_AT_ONCE == 0:
            self._pump()

    def finish(self) -> None:
        """Every body that was added has its content when this returns. Raises BadSource, StoreError."""
        self._scanned = True
        if self._crew is None:
            self._start()
        while self._queue:
            self._cut(self._queue.popleft())
        self._dispatch()
        while self._open:
            self._receive(wait=True)
        self._tell()

    # -- workers -----------------------------------------------------------------------------------------------------

    def _is_little(self) -> bool:
        return self._all_files < _FEW_FILES and self._all_bytes < _FEW_BYTES

    def _start(self) -> None:
        workers = default_workers() if self._workers is None else self._workers
        if workers == 0 or not self._delivery.anywhere or self._is_little():
            self._crew = Here(self._policy, self._delivery.uploader)
        else:
            self._crew = Processes(workers, self._policy, self._delivery.uploader)
        self._load = [0] * self._crew.count

    def _pump(self) -> None:
        """Keeps the workers busy, without waiting for them."""
        self._receive(wait=False)
        while self._queue and self._has_room():
            self._cut(self._queue.popleft())

    def _has_room(self) -> bool:
        return min(self._load) < _AHEAD and self._open_bytes < _MOST_BYTES

    # -- cutting -----------------------------------------------------------------------------------------------------

    def _cut(self, work: _Work) -> None:
        where, size = work.body.where, work.body.size
        whole = size <= self._largest_whole
        if isinstance(where, File):
            if whole:
                self._add(work, (where.path, where.identity, work.body.offset, size), size)
            else:
                self._cut_file(work, where)
        else:
            work.body.where = b""
            if whole:
                data = where if isinstance(where, bytes) else b"".join(where)
                self._add(work, data, len(data))
            else:
                self._cut_blocks(work, [where] if isinstance(where, bytes) else where)
        work.left -= 1
        if not work.left:
            self._complete(work)

    def _cut_blocks(self, work: _Work, blocks: Iterable[bytes]) -> None:
        held: list[memoryview] = []
        start = end = 0  # of what is held
        for block, cuts in self._cuts(blocks):
            rest = memoryview(block)
            for cut in cuts:
                held.append(rest[: cut - end])
                rest = rest[cut - end :]
                end = cut
                work.is_cut = True  # a cut always has a byte behind it: this cannot be the only piece
                self._add(work, b"".join(held), end - start)
                held.clear()
                start = end
            held.append(rest)
            end += len(rest)
        self._add(work, b"".join(held), end - start)

    def _cut_file(self, work: _Work, file: File) -> None:
        body = work.body
        try:
            descriptor = os.open(file.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                identity = identify(descriptor)
                if identity != (file.identity or identity):
                    raise changed(file)
                size = body.size if file.identity else identity[2]
                start = end = body.offset
                for block, cuts in self._cuts(_blocks(descriptor, body.offset, size)):
                    end += len(block)
                    for cut in cuts:
                        work.is_cut = True
                        piece = body.offset + cut - start
                        self._add(work, (file.path, identity, start, piece), piece)
                        start += piece
                if end != body.offset + size:
                    raise changed(file)
                self._add(work, (file.path, identity, start, end - start), end - start)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise unreadable(file.path, error) from error

    def _cuts(self, blocks: Iterable[bytes]) -> Iterator[tuple[bytes, list[int]]]:
        assert self._policy.limits is not None
        detector = ChunkDetector(self._policy.limits)
        return ((block, detector.feed(block)) for block in blocks)

    def _add(self, work: _Work, piece: Any, size: int) -> None:
        batch = self._batch
        batch.pieces.append((piece, Suffix.PARTIAL if work.is_cut else Suffix.DATA))
        batch.parts.append((work, len(work.digests)))
        batch.size += size
        work.digests.append(None)
        work.sizes.append(size)
        work.left += 1
        if batch.size >= _BATCH_BYTES or len(batch.pieces) >= _BATCH_FILES:
            self._dispatch()

    # -- batches -----------------------------------------------------------------------------------------------------

    def _dispatch(self) -> None:
        """Hands the batch that was being filled to a worker."""
        assert self._crew is not None
        if not self._batch.pieces:
            return
        while not self._has_room():
            self._receive(wait=True)
        batch, self._batch = self._batch, _Batch()
        batch.worker = self._load.index(min(self._load))
        self._last_batch = number = self._last_batch + 1
        self._open[number] = batch
        self._load[batch.worker] += 1
        self._open_bytes += batch.size
        pieces, batch.pieces = batch.pieces, []
        self._expected["read"].append(number)
        self._crew.send(batch.worker, "read", number, pieces)
        if isinstance(self._crew, Here):
            del pieces
            self._receive(wait=False)

    def _receive(self, wait: bool) -> None:
        """Reacts to the replies that are there; ``wait`` for one if there is none."""
        assert self._crew is not None
        replies = self._crew.receive(wait)
        while replies:
            for step, number, result in replies:
                if step == "put":
                    self._put(number, result)
                else:
                    self._early[step, number] = result
            self._react("read", self._read)
            self._react("pack", self._packed)
            self._tell()
            replies = self._crew.receive(wait=False)

    def _react(self, step: str, react: Callable[[int, Any], None]) -> None:
        """Decides on what is next in the order of the batches, as far as it has come."""
        expected = self._expected[step]
        while expected and (step, expected[0]) in self._early:
            number = expected.popleft()
            react(number, self._early.pop((step, number)))

    def _read(self, number: int, reply: tuple[bytes, list[int]]) -> None:
        """A batch was read: what is not known yet is to be packed."""
        hashes, sizes = reply
        batch = self._open[number]
        done, pending = self._done, self._pending
        unknown: list[int] = []
        keys: list[bytes] = []
        for index, part in enumerate(batch.parts):
            work, piece = part
            work.sizes[piece] = sizes[index]
            key = hashes[index * KEY_SIZE : (index + 1) * KEY_SIZE]
            if work.is_cut:
                key += b"P"
            digest = done.get(key)
            if digest is not None:
                self._resolve(work, piece, digest)
            elif key in pending:
                pending[key].append(part)
            else:
                pending[key] = [part]
                unknown.append(index)
                keys.append(key)
        wanted: list[int] = []
        if unknown:
            recalled = self._delivery.recall(keys, [sizes[index] for index in unknown])
            for index, key, raw in zip(unknown, keys, recalled, strict=True):
                if raw is None:
                    wanted.append(index)
                    batch.keys.append((key, index))
                else:
                    self._found(key, raw)
        self._expected["pack"].append(number)
        self._send(batch, "pack", number, wanted)

    def _packed(self, number: int, reply: list[tuple[bytes, int]]) -> None:
        """A batch was packed: what is not stored yet is to be uploaded."""
        batch = self._open[number]
        objects = []
        for (key, index), (raw, size) in zip(batch.keys, reply, strict=True):
            work, piece = batch.parts[index]
            suffix = Suffix.PARTIAL if work.is_cut else Suffix.DATA
            objects.append(Packed(key, raw, suffix, work.sizes[piece], size, work.path))
            self._found(key, raw)
        wanted = self._delivery.wanted(objects)
        batch.objects = [objects[index] for index in wanted]
        self._send(batch, "put", number, wanted)

    def _put(self, number: int, report: Any) -> None:
        """A batch was uploaded."""
        batch = self._open[number]
        if batch.objects:
            self._delivery.sent(batch.objects, report)
        self._close(number)

    def _send(self, batch: _Batch, step: str, number: int, what: list[int]) -> None:
        assert self._crew is not None
        self._crew.send(batch.worker, step, number, what)

    def _close(self, number: int) -> None:
        batch = self._open.pop(number)
        self._load[batch.worker] -= 1
        self._open_bytes -= batch.size

    # -- contents ----------------------------------------------------------------------------------------------------

    def _found(self, key: bytes, raw: bytes) -> None:
        digest = self._done[key] = Digest(self._policy.algorithm, raw)
        for work, piece in self._pending.pop(key):
            self._resolve(work, piece, digest)

    def _resolve(self, work: _Work, piece: int, digest: Digest) -> None:
        work.digests[piece] = digest
        work.left -= 1
        if not work.left:
            self._complete(work)

    def _complete(self, work: _Work) -> None:
        """All pieces of a body are known."""
        body = work.body
        size = sum(work.sizes) if work.is_cut else work.sizes[0]
        if size != body.size:
            if isinstance(body.where, File):
                self._warn(f"{paths.display(body.where.path)} changed while it was read")
            body.size = size
        compression = self._compression if size else Compression.ZLIB
        if work.is_cut:
            offset = 0
            chunks = []
            for digest, length in zip(work.digests, work.sizes, strict=True):
                assert digest is not None
                chunks.append(Chunk(offset, length, digest))
                offset += length
            body.content = Content(self._policy.algorithm, None, compression, tuple(chunks))
        else:
            body.content = Content(self._policy.algorithm, work.digests[0], compression)
        self._files += 1
        self._bytes += size

    def _tell(self) -> None:
        if self._progress is not None:
            files, size = (self._all_files, self._all_bytes) if self._scanned else (None, None)
            self._progress(self._files, self._bytes, files, size)


def _blocks(descriptor: int, offset: int, size: int) -> Iterator[bytes]:
    end = offset + size
    while offset < end and (block := os.pread(descriptor, min(_READ_SIZE, end - offset), offset)):
        yield block
        offset += len(block)
