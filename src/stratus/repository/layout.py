"""Where everything of a repository is in a store."""

from __future__ import annotations

import msgspec

from stratus.formats.hashes import ObjectId

INFO = "info/v1/repositories.json"


class Layout(msgspec.Struct, frozen=True):
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

    def receipt(self, change_set: str = "") -> str:
        """The receipt of a change set, or the prefix of all of them."""
        return f"{self.private}receipts/{change_set}"

    def key(self, key_id: str = "") -> str:
        """The record of a writer's key, or the prefix of all of them."""
        return f"{self.private}keys/{key_id}"

    def issuer(self, issuer: str = "") -> str:
        """The record of a token issuer, or the prefix of all of them."""
        return f"{self.private}issuers/{issuer}"

    def seen(self, name: str = "") -> str:
        """The mark of a signed request, ``<key id>/<nonce>``, or the prefix of all of them."""
        return f"{self.private}seen/{name}"

    def audit(self, name: str = "") -> str:
        """An entry of the audit trail, ``<yyyy-mm>/<time>-<nonce>``, or the prefix of those whose names begin so."""
        return f"{self.private}audit/{name}"

    def ledger(self, name: str = "") -> str:
        """A part of the ledger, ``<yyyy-mm>/<dd>-<digest>``, or the prefix of all of it."""
        return f"{self.private}ledger/{name}"

    def change_set(self, change_set: str) -> str:
        return f"{self.private}changes/{change_set}"

    def queue(self, name: str = "") -> str:
        """The queue entry of this name (see ``formats.path_code``), or the prefix of all of them."""
        return f"{self.private}queue/{name}"

    def waiting(self, name: str) -> str:
        """The note of somebody who waits for a lease, or the prefix of those whose names begin so."""
        return f"{self.private}waits/{name}"

    def staged(self, change_set: str, name: str) -> str:
        """A body that nobody has verified yet."""
        return f"{self.private}staging/{change_set}/{name}"

    def quota(self, key_id: str = "", what: str = "") -> str:
        """What counts for the quota of a key, ``leases/<id>`` or ``used/…``, or the prefix of all that does."""
        return f"{self.private}quotas/{key_id}/{what}" if key_id else f"{self.private}quotas/"

    def step(self, kind: str, step: str = "") -> str:
        """A follow-up event with its checkpoint, or the prefix of those of one kind."""
        return f"{self.private}steps/{kind}/{step}"

    def condemned(self, lists: str, shard: str) -> str:
        """What a sweep condemned: the hashes that begin with ``shard``, two hexadecimal digits."""
        return f"{self.private}gc/{lists}/condemned/{shard}"
