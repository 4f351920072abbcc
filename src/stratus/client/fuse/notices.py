"""What we tell the kernel unasked: that something it remembers is no longer so.

A notice may wait until the calls that are under way in the same directory have been answered, so it must never be sent
by the thread that answers them, nor with a lock held that an answer needs.
"""

from __future__ import annotations

import errno
import logging
import os
import struct

from stratus.client.fuse import protocol

_INVAL_INODE, _INVAL_ENTRY = 2, 3
_INODE_OUT = struct.Struct("=Qqq")  # node offset length
_ENTRY_OUT = struct.Struct("=QII")  # parent name-length flags, then the name and NUL
# ENOENT: the kernel does not remember it; the others: the file system is unmounted.
_NOTHING_TO_DO = frozenset({errno.ENOENT, errno.ENODEV, errno.ECONNABORTED, errno.ENOTCONN})

log = logging.getLogger(__name__)


class Notices:
    """Sends notices over the open device of a mount; thread-safe."""

    def __init__(self, device: int) -> None:
        self._device = device

    def entry(self, parent: int, name: bytes) -> None:
        """The name in the directory ``parent`` (a node) is gone, or stands for something else."""
        self._send(_INVAL_ENTRY, _ENTRY_OUT.pack(parent, len(name), 0) + name + b"\0")

    def attributes(self, node: int) -> None:
        """The attributes of the node have changed; cached pages stay."""
        self._send(_INVAL_INODE, _INODE_OUT.pack(node, -1, 0))

    def listing(self, node: int) -> None:
        """What lies in the directory has changed.

        The notice about a name that cannot be waits for the listings under way, which would be cached after the next.
        """
        self.entry(node, b".")
        self._send(_INVAL_INODE, _INODE_OUT.pack(node, 0, 0))

    def _send(self, code: int, body: bytes) -> None:
        head = protocol.OUT_HEADER.pack(protocol.OUT_HEADER.size + len(body), code, 0)
        try:
            os.writev(self._device, [head, body])
        except OSError as error:
            if error.errno not in _NOTHING_TO_DO:
                log.warning("the kernel refused a notice: %s", error)
