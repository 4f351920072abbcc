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
from stratus.ingest.crew import LITTLE, Crew, Here, Processes, default_workers
from stratus.ingest.files import changed, identify, unreadable
from stratus.ingest.overflow import Overflow
from stratus.ingest.worker import KEY_SIZE, Piece

_FEW_FILES = 200  # packed before other processes have started, if they are little
_BATCH_FILES = 200
_BATCH_BYTES = 4 << 20
_AHEAD = 3  # batches of one worker that are under way
_MOST_BYTES = 64 << 20  # of all batches that are under way, as plain bytes; packed they are there a second time
_SCANNED_AT_ONCE = 50  # bodies between two looks at the workers
_MOST_QUEUED = 50_000  # bodies that were scanned and not dealt out, 300 bytes each
_READ_SIZE = 256 << 10  # bytes
_HELD = 100_000  # contents in memory, 350 bytes each
_PARTIAL = Suffix.PARTIAL.encode()


class _Cut:
    """A body that becomes several objects: their digests and sizes, as far as they are known."""

    __slots__ = ("body", "digests", "left", "sizes")

    def __init__(self, body: Body) -> None:
        self.body = body
        self.digests: list[Digest | None] = []
        self.sizes: list[int] = []
        self.left = 1  # pieces without a digest, and one for those that are still to come


_Part = tuple[Body, _Cut | None, int]
"""A body, and if it is cut which piece of it."""


class _Batch:
    """Pieces that one worker takes through the steps together."""

    __slots__ = ("keys", "objects", "parts", "pieces", "size", "sizes", "worker")

    def __init__(self) -> None:
        self.pieces: list[Piece] = []
        self.parts: list[_Part] = []
        self.size = 0  # bytes
        self.sizes: list[int] = []  # of the pieces, once they were read
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
        workers: int | Processes | None = None,
        progress: Progress | None = None,
        finished: Callable[[Body], None] | None = None,
    ) -> None:
        """``finished`` hears of each body that has its content, in no order.

        ``workers`` says how many, or they have been started and end with this.
        """
        self._policy = policy
        self._delivery = delivery
        self._warn = warn
        self._largest_whole = sys.maxsize if policy.limits is None else policy.limits.minimum
        self._compression = policy.packing.compression
        self._workers = workers
        self._progress = progress
        self._finished = finished
        self._crew: Crew | None = None
        self._queue: deque[Body] = deque()
        self._batch = _Batch()
        self._open: dict[int, _Batch] = {}
        self._load: list[int] = []  # open batches, by worker
        self._open_bytes = 0
        self._last_batch = 0
        # Steps whose replies are waited for, in the order of the batches, and those that came too early.
        self._expected: dict[str, deque[int]] = {"read": deque(), "pack": deque()}
        self._early: dict[tuple[str, int], Any] = {}
        self._done = Overflow(_HELD, _pack_content, self._unpack_content)  # of single pieces, by key
        self._pending: dict[bytes, list[tuple[_Part, int]]] = {}  # with their sizes
        self._files = self._bytes = self._all_files = self._all_bytes = 0
        self._scanned = False

    def __enter__(self) -> Pipeline:
        return self

    def __exit__(self, *_: object) -> None:
        self._done.close()
        if self._crew is not None:
            self._crew.close()

    def add(self, path: bytes, body: Body) -> None:
        """Takes a body on, for the entry at ``path``; blocks are read at once. Raises BadSource, StoreError."""
        self._all_files += 1
        self._all_bytes += body.size
        body.path = path
        self._queue.append(body)
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
            while len(self._queue) > _MOST_QUEUED:
                self._cut(self._queue.popleft())

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
        return self._all_files < _FEW_FILES and self._all_bytes < LITTLE

    def _start(self) -> None:
        workers = default_workers() if self._workers is None else self._workers
        if workers == 0 or not self._delivery.anywhere or self._is_little():
            self._crew = Here(self._policy, self._delivery.uploader)
        else:
            self._crew = processes = workers if isinstance(workers, Processes) else Processes(workers)
            processes.instruct(self._policy, self._delivery.uploader)
        self._load = [0] * self._crew.count

    def _pump(self) -> None:
        """Keeps the workers busy, without waiting for them."""
        self._receive(wait=False)
        while self._queue and self._has_room():
            self._cut(self._queue.popleft())

    def _has_room(self) -> bool:
        return min(self._load) < _AHEAD and self._open_bytes < _MOST_BYTES

    # -- cutting -----------------------------------------------------------------------------------------------------

    def _cut(self, body: Body) -> None:
        where, size = body.where, body.size
        if isinstance(where, File):
            if size <= self._largest_whole:
                self._add((where.path, where.identity, body.offset, size), size, body)
            else:
                self._cut_file(body, where)
            return
        body.where = b""
        if size <= self._largest_whole:
            data = where if isinstance(where, bytes) else b"".join(where)
            self._add(data, len(data), body)
        else:
            self._cut_blocks(body, [where] if isinstance(where, bytes) else where)

    def _cut_blocks(self, body: Body, blocks: Iterable[bytes]) -> None:
        cut: _Cut | None = None
        held: list[memoryview] = []
        start = end = 0  # of what is held
        for block, cuts in self._cuts(blocks):
            rest = memoryview(block)
            for at in cuts:
                held.append(rest[: at - end])
                rest = rest[at - end :]
                end = at
                cut = cut or _Cut(body)  # a cut always has a byte behind it: this cannot be the only piece
                self._add(b"".join(held), end - start, body, cut)
                held.clear()
                start = end
            held.append(rest)
            end += len(rest)
        self._add(b"".join(held), end - start, body, cut)
        if cut is not None:
            self._close_cut(cut)

    def _cut_file(self, body: Body, file: File) -> None:
        cut: _Cut | None = None
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
                    for at in cuts:
                        cut = cut or _Cut(body)
                        piece = body.offset + at - start
                        self._add((file.path, identity, start, piece), piece, body, cut)
                        start += piece
                if end != body.offset + size:
                    raise changed(file)
                self._add((file.path, identity, start, end - start), end - start, body, cut)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise unreadable(file.path, error) from error
        if cut is not None:
            self._close_cut(cut)

    def _cuts(self, blocks: Iterable[bytes]) -> Iterator[tuple[bytes, list[int]]]:
        assert self._policy.limits is not None
        detector = ChunkDetector(self._policy.limits)
        return ((block, detector.feed(block)) for block in blocks)

    def _add(self, piece: Piece, size: int, body: Body, cut: _Cut | None = None) -> None:
        batch = self._batch
        batch.pieces.append(piece)
        if cut is None:
            batch.parts.append((body, None, 0))
        else:
            batch.parts.append((body, cut, len(cut.digests)))
            cut.digests.append(None)
            cut.sizes.append(size)
            cut.left += 1
        batch.size += size
        if batch.size >= _BATCH_BYTES or len(batch.pieces) >= _BATCH_FILES:
            self._dispatch()

    def _close_cut(self, cut: _Cut) -> None:
        """No more pieces will come."""
        cut.left -= 1
        if not cut.left:
            self._complete_cut(cut)

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
        batch.sizes = sizes
        pending = self._pending
        parts = batch.parts
        keys = [hashes[start : start + KEY_SIZE] for start in range(0, len(hashes), KEY_SIZE)]
        for index, (_, cut, piece) in enumerate(parts):
            if cut is not None:
                keys[index] += _PARTIAL
                cut.sizes[piece] = sizes[index]
        done = self._done.find(keys)
        unknown: list[int] = []
        for index, part in enumerate(parts):
            key = keys[index]
            if key in done:
                self._resolve(part, sizes[index], done[key])
            elif key in pending:
                pending[key].append((part, sizes[index]))
            else:
                pending[key] = [(part, sizes[index])]
                unknown.append(index)
        wanted: list[tuple[int, str]] = []
        if unknown:
            recalled = self._delivery.recall([keys[index] for index in unknown], [sizes[index] for index in unknown])
            for index, raw in zip(unknown, recalled, strict=True):
                key = keys[index]
                if raw is None:
                    wanted.append((index, "" if parts[index][1] is None else "P"))
                    batch.keys.append((key, index))
                else:
                    self._found(key, raw, sizes[index])
        self._send(batch, "pack", number, wanted)
        if wanted:
            self._expected["pack"].append(number)
        else:
            self._close(number)

    def _packed(self, number: int, reply: list[tuple[bytes, int]]) -> None:
        """A batch was packed: what is not stored yet is to be uploaded."""
        batch = self._open[number]
        objects = []
        for (key, index), (raw, stored) in zip(batch.keys, reply, strict=True):
            body, cut, _ = batch.parts[index]
            size = batch.sizes[index]
            objects.append(Packed(key, raw, Suffix.DATA if cut is None else Suffix.PARTIAL, size, stored, body.path))
            self._found(key, raw, size)
        wanted = self._delivery.wanted(objects)
        batch.objects = [objects[index] for index in wanted]
        self._send(batch, "put", number, wanted)
        if not wanted:
            self._close(number)

    def _put(self, number: int, report: list[Any]) -> None:
        """A batch was uploaded."""
        self._delivery.sent(self._open[number].objects, *report)
        self._close(number)

    def _send(self, batch: _Batch, step: str, number: int, what: Any) -> None:
        assert self._crew is not None
        self._crew.send(batch.worker, step, number, what)

    def _close(self, number: int) -> None:
        batch = self._open.pop(number)
        self._load[batch.worker] -= 1
        self._open_bytes -= batch.size

    # -- contents ----------------------------------------------------------------------------------------------------

    def _found(self, key: bytes, raw: bytes, size: int) -> None:
        content = Content(
            self._policy.algorithm,
            Digest(self._policy.algorithm, raw),
            self._compression if size else Compression.ZLIB,
        )
        self._done.set(key, content)
        for part, length in self._pending.pop(key):
            self._resolve(part, length, content)

    def _unpack_content(self, data: bytes) -> Content:
        algorithm = self._policy.algorithm
        return Content(algorithm, Digest(algorithm, data[1:]), Compression.from_bits(data[0]))

    def _resolve(self, part: _Part, size: int, content: Content) -> None:
        body, cut, piece = part
        if cut is None:
            self._complete(body, size, content)
            return
        cut.digests[piece] = content.digest
        self._close_cut(cut)

    def _complete_cut(self, cut: _Cut) -> None:
        offset = 0
        chunks = []
        for digest, length in zip(cut.digests, cut.sizes, strict=True):
            assert digest is not None
            chunks.append(Chunk(offset, length, digest))
            offset += length
        self._complete(cut.body, offset, Content(self._policy.algorithm, None, self._compression, tuple(chunks)))

    def _complete(self, body: Body, size: int, content: Content) -> None:
        """All pieces of a body are known."""
        if size != body.size:
            if isinstance(body.where, File):
                self._warn(f"{paths.display(body.where.path)} changed while it was read")
            body.size = size
            body.changed = True
        body.content = content
        if self._finished is not None:
            self._finished(body)
        self._files += 1
        self._bytes += size

    def _tell(self) -> None:
        if self._progress is not None:
            files, size = (self._all_files, self._all_bytes) if self._scanned else (None, None)
            self._progress(self._files, self._bytes, files, size)


def _pack_content(content: Content) -> bytes:
    assert content.digest is not None
    return bytes([content.compression.value]) + content.digest.raw


def _blocks(descriptor: int, offset: int, size: int) -> Iterator[bytes]:
    end = offset + size
    while offset < end and (block := os.pread(descriptor, min(_READ_SIZE, end - offset), offset)):
        yield block
        offset += len(block)
