"""Whoever is not who they say: refused, written into the audit trail, and nothing else is changed."""

from __future__ import annotations

import asyncio
import base64
import hmac
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from msgspec.structs import replace
from starlette.concurrency import run_in_threadpool

from stratus.endpoints import api as api_module
from stratus.endpoints.api import api_app
from stratus.endpoints.authentication import Authenticator
from stratus.endpoints.replays import MemoryReplays, Replays, StoreReplays
from stratus.errors import NotPermitted
from stratus.formats import messages
from stratus.formats.audit import AuditEntry
from stratus.formats.issuer_record import Rule
from stratus.formats.key_record import Quota
from stratus.formats.messages import LeaseGranted, LeaseRequest
from stratus.functions.auditing import REFUSALS_A_MINUTE, Auditor
from stratus.functions.contract import Event, Reply
from stratus.functions.dispatch import dispatch
from stratus.leases import token_issuers, writer_keys
from stratus.stores import flows
from stratus.stores.contract import Store
from stratus.trust.gateway_keys import GatewayKey
from stratus.trust.issuer_keys import IssuerKeys
from stratus.trust.keys import RepositoryKeys
from stratus.trust.request_signatures import sign
from stratus.trust.writer_keys import WriterKey
from tests.endpoints.asking import BASE, Client, problem
from tests.functions.desk import LAYOUT, Desk, new_desk
from tests.issuers import AUDIENCE, KEY_ID, Issuer, public_jwk, rsa_key

WISH = messages.pack(LeaseRequest(path="/sw/a"))
SECRET = "a-very-secret-secret"


@dataclass(frozen=True, slots=True)
class Known:
    """The secrets of one gateway key."""

    keys: RepositoryKeys

    def repository_keys(self, fqrn: str) -> RepositoryKeys:
        return self.keys

    def gateway_secret(self, fqrn: str, name: str) -> bytes:
        if name != "portal":
            raise NotPermitted("there is no such secret")
        return SECRET.encode()


@dataclass
class House:
    """A repository behind any number of doors, and what is in its store."""

    desk: Desk = field(default_factory=new_desk)
    issuer: Issuer = field(default_factory=Issuer)
    key: WriterKey = field(default_factory=WriterKey.generate)
    gateway: GatewayKey = field(default_factory=lambda: GatewayKey("portal", SECRET.encode()))

    def __post_init__(self) -> None:
        self.make(self.key.public_key, "alice")
        self.make("portal", "portal")
        rule = Rule.new(self.issuer.url, {"repository": "lhcb/*"}, [b"/sw"], "{repository}@ci")
        flows.run(token_issuers.add(LAYOUT, self.issuer.url, [AUDIENCE], "", "oidc", rule), self.store)
        self.client = self.door(MemoryReplays())

    @property
    def store(self) -> Store:
        return self.desk.store

    def make(self, key: bytes | str, writer: str, lifetime: timedelta | None = None, **more: Any) -> str:
        return flows.run(writer_keys.create(LAYOUT, key, writer, [b"/sw"], lifetime, **more), self.store).id

    def door(self, replays: Replays) -> Client:
        async def invoke(event: Event) -> Reply:
            return await run_in_threadpool(dispatch, event, self.desk.context())

        keys = IssuerKeys(self.issuer.fetch)
        door = Authenticator(self.stores, Known(self.desk.keys), replays, issuer_keys=keys)
        return Client(api_app(invoke, door, Auditor(self.stores, clock=lambda: 0.0)))  # no minute ends

    def stores(self, fqrn: str) -> Store:
        return self.store

    # -- requests ----------------------------------------------------------------------------------------------------

    def signed(
        self, key: WriterKey | GatewayKey | None = None, now: datetime | None = None, body: bytes = WISH
    ) -> dict[str, str]:
        url = f"http://testserver{BASE}/leases"
        return sign("POST", url, {"host": "testserver"}, body, key or self.key, now or datetime.now(UTC))

    def ask(self, headers: Mapping[str, str], body: bytes = WISH, client: Client | None = None) -> httpx.Response:
        """For a lease."""
        return (client or self.client).post(f"{BASE}/leases", body, headers)

    def bearing(self, token: str) -> httpx.Response:
        return self.ask({"authorization": f"Bearer {token}"})

    def lease(self) -> LeaseGranted:
        return messages.parse(self.ask(self.signed()).content, LeaseGranted)

    # -- what is left of them ----------------------------------------------------------------------------------------

    def state(self) -> dict[str, bytes]:
        """Everything but the audit trail and the marks of what was seen."""
        notes = LAYOUT.audit(), LAYOUT.seen()
        return {
            stat.key: self.store.get(stat.key).data for stat in self.store.list("") if not stat.key.startswith(notes)
        }

    def trail(self) -> list[AuditEntry]:
        keys = sorted(stat.key for stat in self.store.list(LAYOUT.audit()))
        return [AuditEntry.parse(self.store.get(key).data) for key in keys]

    def refuses(self, answer: Any, status: int = 401) -> AuditEntry:
        """``answer`` is called, refused, audited; and nothing was changed."""
        before, seen = self.state(), len(self.trail())
        reply = answer()
        assert (reply.status_code, problem(reply).status) == (status, status), reply.text
        assert self.state() == before
        (entry,) = self.trail()[seen:]
        assert (entry.kind, entry.status, entry.code) == ("lease.acquire", status, problem(reply).code)
        assert entry.outcome == ("refused" if status < 500 else "failed")
        assert entry.host == "127.0.0.1"
        return entry


@pytest.fixture
def house() -> House:
    return House()


# -- replays ---------------------------------------------------------------------------------------------------------


def test_a_request_is_not_taken_twice(house: House) -> None:
    headers = house.signed()
    assert house.ask(headers).status_code == 201
    house.refuses(lambda: house.ask(headers))


def test_a_request_is_not_taken_by_two_instances(house: House) -> None:
    one, two = (house.door(StoreReplays(house.stores)) for _ in range(2))
    headers = house.signed()
    assert house.ask(headers, client=one).status_code == 201
    for client in (one, two, house.door(StoreReplays(house.stores))):
        house.refuses(lambda client=client: house.ask(headers, client=client))
    wish = messages.pack(LeaseRequest(path="/sw/b"))
    assert house.ask(house.signed(body=wish), wish, two).status_code == 201


def test_a_request_is_not_taken_again_after_a_restart(house: House) -> None:
    headers = house.signed(now=datetime.now(UTC) - timedelta(seconds=2))
    assert house.ask(headers).status_code == 201
    restarted = house.door(MemoryReplays(datetime.now(UTC).replace(microsecond=0)))
    reply = house.ask(headers, client=restarted)
    assert reply.headers["retry-after"] == "1"
    house.refuses(lambda: house.ask(headers, client=restarted), 503)
    wish = messages.pack(LeaseRequest(path="/sw/b"))
    assert house.ask(house.signed(body=wish), wish, restarted).status_code == 201


def test_marks_of_requests_go_when_no_signature_can_be_good_any_more(house: House) -> None:
    assert house.ask(house.signed(), client=house.door(StoreReplays(house.stores))).status_code == 201
    for minutes, left in ((9, 1), (120, 0)):
        house.desk.clock.advance(minutes=minutes)
        house.desk.ask("tend", system=True)
        assert len(list(house.store.list(LAYOUT.seen()))) == left


def test_who_is_refused_leaves_no_marks(house: House) -> None:
    client = house.door(StoreReplays(house.stores))
    flows.run(writer_keys.revoke(LAYOUT, house.key.id), house.store)
    house.refuses(lambda: house.ask(house.signed(), client=client))
    house.refuses(lambda: house.ask(house.signed(WriterKey.generate()), client=client))
    assert list(house.store.list(LAYOUT.seen())) == []


# -- keys ------------------------------------------------------------------------------------------------------------


def test_a_key_that_was_revoked_or_has_expired_is_refused(house: House) -> None:
    short = WriterKey.generate()
    house.make(short.public_key, "bob", timedelta(seconds=1))
    time.sleep(1.1)
    assert "expired" in house.refuses(lambda: house.ask(house.signed(short))).detail
    assert house.ask(house.signed()).status_code == 201
    flows.run(writer_keys.revoke(LAYOUT, house.key.id), house.store)
    assert "revoked" in house.refuses(lambda: house.ask(house.signed())).detail


def test_a_path_that_the_key_is_not_for_is_refused(house: House) -> None:
    for path in ("/", "/swx", "/sw/../x", "/other", None):
        wish = messages.pack(LeaseRequest(path=path))
        status = 400 if path in ("/", "/sw/../x") else 403
        entry = house.refuses(lambda wish=wish: house.ask(house.signed(body=wish), wish), status)
        assert (entry.writer, entry.identity, entry.path) == ("alice", house.key.id, path)


def test_a_gateway_key_lets_in_and_only_with_its_secret(house: House) -> None:
    assert house.ask(house.signed(house.gateway)).status_code == 201
    assert house.trail()[-1].writer == "portal"
    for secret in (b"", b"another", SECRET[:-1].encode()):
        house.refuses(lambda secret=secret: house.ask(house.signed(GatewayKey("portal", secret))))


def test_a_public_key_is_no_secret_and_a_secret_no_pair(house: House) -> None:
    """Key confusion: the scheme is that of the record, whatever a request says."""
    confused = GatewayKey("x", house.key.public_key)
    headers = house.signed(confused)
    as_alice = headers["Signature-Input"].replace(confused.id, house.key.id)
    house.refuses(lambda: house.ask({**headers, "Signature-Input": as_alice}))
    house.refuses(lambda: house.ask({**headers, "Signature-Input": as_alice.replace('alg="hmac-sha256";', "")}))
    own = house.signed()
    as_portal = own["Signature-Input"].replace(house.key.id, house.gateway.id)
    house.refuses(lambda: house.ask({**own, "Signature-Input": as_portal}))


def test_a_key_without_a_secret_lets_nobody_in(house: House) -> None:
    house.make("lost", "lost")
    house.refuses(lambda: house.ask(house.signed(GatewayKey("lost", b""))))


def test_macs_are_compared_in_constant_time(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """By construction: what decides is ``hmac.compare_digest``, of whole values of equal length."""
    compared: list[tuple[int, int]] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((len(one), len(other)))
        return hmac.compare_digest(one, other)

    monkeypatch.setattr("stratus.trust.request_signatures.hmac", SimpleNamespace(compare_digest=compare))
    assert house.ask(house.signed(house.gateway)).status_code == 201
    house.refuses(lambda: house.ask(house.signed(GatewayKey("portal", b"another"))))
    assert compared == [(32, 32), (32, 32)]
    never = SimpleNamespace(compare_digest=lambda *_: False)
    monkeypatch.setattr("stratus.trust.request_signatures.hmac", never)
    house.refuses(lambda: house.ask(house.signed(house.gateway)))


def test_the_tokens_of_leases_are_compared_in_constant_time(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    lease = house.lease()
    url = f"{BASE}/leases/{lease.id}?path=/sw/a"

    def renew() -> int:
        fields = {"host": "testserver", "stratus-lease": lease.token}
        headers = sign("PUT", f"http://testserver{url}", fields, b"", house.key, datetime.now(UTC))
        return house.client.request("PUT", url, headers=headers).status_code

    assert renew() == 200
    monkeypatch.setattr("stratus.functions.asked.hmac", SimpleNamespace(compare_digest=lambda *_: False))
    assert renew() == 403


def test_a_stolen_token_of_a_lease_is_of_no_use(house: House) -> None:
    thief = WriterKey.generate()
    house.make(thief.public_key, "thief")
    lease = house.lease()
    url = f"{BASE}/leases/{lease.id}?path=/sw/a"

    def ask(method: str, key: WriterKey) -> httpx.Response:
        fields = {"host": "testserver", "stratus-lease": lease.token}
        headers = sign(method, f"http://testserver{url}", fields, b"", key, datetime.now(UTC))
        return house.client.request(method, url, headers=headers)

    before = house.state()
    assert [ask(method, thief).status_code for method in ("PUT", "DELETE")] == [403, 403]
    assert house.state() == before
    assert [entry.writer for entry in house.trail()[-2:]] == ["thief", "thief"]
    assert ask("DELETE", house.key).status_code == 204
    assert ask("PUT", house.key).status_code == 410  # not even of use to whom it was granted


# -- tokens ----------------------------------------------------------------------------------------------------------


def good(house: House, **more: Any) -> str:
    return house.issuer.token(repository="lhcb/software", **more)


def test_a_token_lets_in(house: House) -> None:
    assert house.bearing(good(house)).status_code == 201
    entry = house.trail()[-1]
    assert (entry.writer, entry.outcome) == ("lhcb/software@ci", "done")
    assert house.issuer.url in entry.proof


def said(house: House) -> dict[str, Any]:
    found: dict[str, Any] = jwt.decode(good(house), options={"verify_signature": False})
    return found


def mac(house: House) -> str:
    public = house.issuer.key.public_key()
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    head = ".".join(jwt.encode({"iss": house.issuer.url}, "x" * 32, "HS256", {"kid": KEY_ID}).split(".")[:1])
    signed = f"{head}.{good(house).split('.')[1]}"
    digest = hmac.new(pem, signed.encode(), "sha256").digest()
    return f"{signed}.{base64.urlsafe_b64encode(digest).decode().rstrip('=')}"


def strangers(house: House, **headers: Any) -> str:
    return Issuer(key=rsa_key(which=1)).token(repository="lhcb/software", headers=headers)


FORGED: dict[str, Callable[[House], str]] = {
    "alg none": lambda house: jwt.encode(said(house), "", "none", {"kid": KEY_ID}),
    "public key as secret": mac,
    "wrong audience": lambda house: good(house, aud="https://elsewhere.example.org"),
    "wrong issuer": lambda house: good(house, iss="https://elsewhere.example.org"),
    "expired": lambda house: good(house, exp=int(time.time()) - 100),
    "unknown key": lambda house: good(house, headers={"kid": "second"}),
    "stranger's key": strangers,
    "embedded key": lambda house: strangers(house, jwk=public_jwk(rsa_key(which=1), KEY_ID)),
    "key elsewhere": lambda house: strangers(house, jku="https://evil.example.org/jwks"),
    "no rule": lambda house: house.issuer.token(repository="atlas/software"),
    "no token": lambda _: "something",
    "empty": lambda _: "",
}


@pytest.mark.parametrize("attack", FORGED)
def test_a_forged_token_is_refused(house: House, attack: str) -> None:
    token = FORGED[attack](house)
    house.refuses(lambda: house.bearing(token))
    assert not any("evil" in url for url in house.issuer.fetched)


def test_tokens_of_an_issuer_that_was_removed_are_refused_at_once(house: House) -> None:
    token = good(house)
    assert house.bearing(token).status_code == 201
    flows.run(token_issuers.remove(LAYOUT, house.issuer.url), house.store)
    house.refuses(lambda: house.bearing(token))


def test_a_token_is_only_for_the_paths_of_its_rule(house: House) -> None:
    wish = messages.pack(LeaseRequest(path="/other"))
    headers = {"authorization": f"Bearer {good(house)}"}
    house.refuses(lambda: house.ask(headers, wish), 403)


def test_one_proof_is_enough(house: House) -> None:
    house.refuses(lambda: house.ask({**house.signed(), "authorization": f"Bearer {good(house)}"}))


# -- much of it ------------------------------------------------------------------------------------------------------


def test_a_flood_of_refusals_does_not_flood_the_store(house: House) -> None:
    for _ in range(REFUSALS_A_MINUTE + 40):
        assert house.ask({}).status_code == 401
    assert len(house.trail()) <= REFUSALS_A_MINUTE + 1
    assert house.ask(house.signed()).status_code == 201
    entries = house.trail()
    assert sum(1 + entry.others for entry in entries) == REFUSALS_A_MINUTE + 40 + 1


def test_a_key_sends_only_so_many_requests_in_a_minute(house: House) -> None:
    busy = WriterKey.generate()
    house.make(busy.public_key, "busy", quota=Quota(requests_per_minute=3))
    wish = messages.pack(LeaseRequest(path="/sw/busy"))
    statuses = [house.ask(house.signed(busy, body=wish), wish).status_code for _ in range(5)]
    assert 429 in statuses[3:]  # a minute may have begun in between
    assert house.ask(house.signed()).status_code == 201


def test_a_body_that_comes_slowly_is_given_up(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_module, "_LONGEST_BODY", 0.2)

    async def slowly() -> AsyncIterator[bytes]:
        while True:
            yield b" "
            await asyncio.sleep(0.05)

    before = house.state()
    reply = house.client.post(f"{BASE}/leases", slowly(), house.signed())
    assert (reply.status_code, reply.headers["connection"]) == (408, "close")
    assert house.state() == before


def test_nothing_secret_is_logged_answered_or_written_down(house: House, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    token, signed = good(house), house.signed(house.gateway)
    lease = messages.parse(house.ask(signed).content, LeaseGranted)
    answers = [house.bearing(token).text, house.ask(signed).text, house.bearing(f"{token}x").text]
    answers += [house.bearing(good(house, aud="elsewhere")).text, house.ask(replaced(signed)).text]
    written = b"".join(data for key, data in everything(house).items()).decode("latin-1")
    for secret in (SECRET, token, token.rpartition(".")[2], signed["Signature"], lease.token.partition(".")[2]):
        assert len(secret) > 10
        for text in (*answers, caplog.text, written):
            assert secret not in text


def replaced(headers: Mapping[str, str]) -> dict[str, str]:
    return {**headers, "Signature": headers["Signature"].replace("stratus=:", "stratus=:AAAA")}


def everything(house: House) -> dict[str, bytes]:
    return {stat.key: house.store.get(stat.key).data for stat in house.store.list("")}


def test_an_identity_tells_no_secret(house: House) -> None:
    entry = replace(house.desk.caller)
    assert SECRET not in repr((house.gateway, house.key, entry))
