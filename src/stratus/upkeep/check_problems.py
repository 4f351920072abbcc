"""What a check finds, and what it counts on the way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from stratus.formats.compression import Compression
from stratus.formats.hashes import ObjectId

Severity = Literal["error", "warning"]

Code = Literal[
    # the chain of trust
    "bad_manifest",  # not parseable, or too long for the stock tools
    "bad_whitelist",
    "bad_certificate",
    "bad_signature",  # of manifest or whitelist
    "missing_whitelist",
    "whitelist_expired",
    "certificate_not_listed",
    "wrong_name",  # manifest, whitelist, history or reflog of another repository
    # the manifest against what it names
    "wrong_revision",
    "manifest_from_future",
    "manifest_older_than_root",
    "ttl_mismatch",
    "bad_meta_info",
    # history and reflog
    "bad_history",
    "bad_branch",
    "bad_tag",
    "wrong_trunk",
    "missing_reflog",
    "bad_reflog",
    "reflog_lacks",  # what the manifest names
    "reflog_checksum",
    "stale_reflog",  # sound and complete, but newer or more compact than the manifest says
    # objects
    "missing_object",
    "bad_hash",  # the bytes are not those that the name says
    "bad_content",  # not the compression or the size that the tree says
    # catalogs as databases
    "bad_catalog",  # not SQLite, or damaged
    "wal_mode",
    "bad_schema",
    "bad_property",
    "wrong_size",  # of a catalog, against the reference to it
    "wrong_root_prefix",
    # the structure of catalogs
    "bad_root_row",
    "wrong_root_id",
    "transition_mismatch",  # the two rows of a mountpoint differ
    "bad_transition",  # flags of nested and bind mountpoints
    "unregistered_mountpoint",
    "missing_mountpoint",
    "row_below_mountpoint",
    "nested_and_bind",
    "bad_reference",
    "missing_marker",
    "stray_marker",
    "wrong_counter",
    "missing_counter",
    # rows
    "unreachable_row",
    "null_value",
    "bad_type",
    "bad_name",
    "duplicate_name",
    "name_too_long",
    "wrong_path_hash",
    "bad_mode",
    "bad_flags",
    "bad_algorithm",
    "bad_compression",
    "bad_size",
    "bad_time",
    "no_hash",
    "bad_hash_length",
    "unexpected_hash",
    "bad_target",
    "bad_xattr",
    "wrong_link_count",
    "bad_link_group",
    "bad_chunks",
    "orphan_chunks",
]


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        code: stable, for programs.
        message: one line that names the path or the object.
        path: in the repository, where it is about one.
        severity: an error is what readers or tools trip over; a warning will pass, or hurts nobody.
    """

    code: Code
    message: str
    path: bytes | None = None
    severity: Severity = "error"


@dataclass(frozen=True, slots=True)
class Wanted:
    """An object that something in the tree needs: `size` is that of its plain content in bytes, None if not known."""

    id: ObjectId
    compression: Compression
    size: int | None
    path: bytes | None


@dataclass(slots=True)
class LookedAt:
    """What a check has looked at so far.

    Attributes:
        objects: whose existence was asked for, each once as far as that is remembered; catalogs not among them.
        bytes: of stored objects that were read and hashed.
    """

    catalogs: int = 0
    rows: int = 0
    objects: int = 0
    bytes: int = 0
