"""Where everything of a repository is in a store."""

from __future__ import annotations

from dataclasses import dataclass

from stratus.formats.hashes import ObjectId

INFO = "info/v1/repositories.json"


@dataclass(frozen=True, slots=True)
class Layout:
    """The keys of one repository: public ones as the stock tools have them, private ones below ``.stratus/``."""

    fqrn: str

    @property
    def public(self) -> str:
        """The prefix of everything that readers need."""
        return f"{self.fqrn}/"

    @property
    def private(self) -> str:
        """The prefix of everything that only writers and functions need."""
        return f".stratus/{self.fqrn}/"

    @property
    def manifest(self) -> str:
        return f"{self.fqrn}/.cvmfspublished"

    @property
    def whitelist(self) -> str:
        return f"{self.fqrn}/.cvmfswhitelist"

    @property
    def reflog(self) -> str:
        return f"{self.fqrn}/.cvmfsreflog"

    @property
    def master_replica(self) -> str:
        """Whose existence permits replication."""
        return f"{self.fqrn}/.cvmfs_master_replica"

    def object(self, object_id: ObjectId) -> str:
        return f"{self.fqrn}/{object_id.key}"

    @property
    def format(self) -> str:
        return f"{self.private}format.json"

    @property
    def settings(self) -> str:
        return f"{self.private}settings.json"

    @property
    def lock(self) -> str:
        return f"{self.private}lock"

    @property
    def collection(self) -> str:
        return f"{self.private}gc/state"

    def lease(self, name: str) -> str:
        """The claim of this name, or the prefix of those whose names begin so (see ``formats.path_code``)."""
        return f"{self.private}leases/{name}"

    def pathless(self, claim: str) -> str:
        return f"{self.private}pathless/{claim}"

    def receipt(self, change_set: str) -> str:
        return f"{self.private}receipts/{change_set}"
