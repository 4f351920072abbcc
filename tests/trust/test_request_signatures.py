"""What a signed request holds: every part of it is covered, and every change of one is seen."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest
from http_message_signatures import HTTPMessageSigner, MappingKeyResolver
from http_message_signatures.algorithms import ED25519

from stratus.errors import BadSignature, NotPermitted, StoreError, UsageError
from stratus.trust.request_signatures import Signed, sign, verify
from stratus.trust.writer_keys import WriterKey

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
KEY = WriterKey.generate()
OTHER = WriterKey.generate()
KNOWN = {KEY.id: KEY.public_key}
JSON = {"Content-Type": "application/json", "Accept": "*/*"}


@dataclass(frozen=True)
class Sent:
    """A request on its way."""

    method: str = "POST"
    url: str = "https://api.example.org/v1/leases?repository=sw.example.org"
    headers: dict[str, str] = field(default_factory=lambda: dict(JSON))
    body: bytes = b'{"path": "/a"}'

    def signed(self, key: WriterKey = KEY, now: datetime = NOW) -> Sent:
        return replace(self, headers=sign(self.method, self.url, self.headers, self.body, key, now))

    def with_header(self, name: str, value: str) -> Sent:
        return replace(self, headers={**self.headers, name: value})

    def without(self, name: str) -> Sent:
        return replace(self, headers={key: value for key, value in self.headers.items() if key != name})

    def verified(self, find_key: Callable[[str], bytes | None] = KNOWN.get, now: datetime = NOW) -> Signed:
        return verify(self.method, self.url, self.headers, self.body, find_key, now)


def test_who_signed_a_request_and_when_is_found() -> None:
    sent = Sent().signed()
    assert sent.headers.items() >= JSON.items()
    found = sent.verified()
    assert (found.key_id, found.created) == (KEY.id, NOW)
    assert found.nonce != Sent().signed().verified().nonce


@pytest.mark.parametrize(
    "sent",
    [
        Sent("GET", "https://api.example.org", {}, b""),
        Sent("GET", "http://127.0.0.1:8080/v1/receipts/a%20b", {}, b""),
        Sent("DELETE", "https://api.example.org/v1/leases/a?", {}, b""),
        Sent("PUT", "https://api.example.org/v1/objects/a", {"content-type": "application/octet-stream"}, bytes(9999)),
    ],
    ids=lambda sent: sent.method,
)
def test_requests_of_all_kinds_can_be_signed(sent: Sent) -> None:
    assert sent.signed().verified().key_id == KEY.id


def test_what_is_signed_is_written_in_the_request() -> None:
    fields = Sent().signed().headers["Signature-Input"]
    assert fields.startswith('stratus=("@method" "@authority" "@path" "@query" "content-digest" "content-type");')
    for part in (f"created={NOW.timestamp():.0f}", f'keyid="{KEY.id}"', 'alg="ed25519"', 'nonce="', 'tag="stratus"'):
        assert f";{part}" in fields


def test_neither_the_case_of_names_nor_the_scheme_nor_other_headers_matter() -> None:
    sent = Sent().signed()
    lower = {name.lower(): value for name, value in sent.headers.items()}
    behind_a_proxy = replace(sent, url=sent.url.replace("https:", "http:"), headers={**lower, "via": "1.1 proxy"})
    assert behind_a_proxy.verified().key_id == KEY.id


def test_a_request_that_is_sent_again_is_signed_anew() -> None:
    again = Sent().signed().signed(now=NOW + timedelta(hours=1))
    assert again.verified(now=NOW + timedelta(hours=1)).created == NOW + timedelta(hours=1)


TAMPERED: dict[str, Callable[[Sent], Sent]] = {
    "method": lambda sent: replace(sent, method="PUT"),
    "host": lambda sent: replace(sent, url=sent.url.replace("api.", "other.")),
    "port": lambda sent: replace(sent, url=sent.url.replace(".org/", ".org:8443/")),
    "path": lambda sent: replace(sent, url=sent.url.replace("/leases", "/leases/x")),
    "query": lambda sent: replace(sent, url=sent.url.replace("sw.", "sx.")),
    "no query": lambda sent: replace(sent, url=sent.url.partition("?")[0]),
    "body": lambda sent: replace(sent, body=sent.body + b" "),
    "no body": lambda sent: replace(sent, body=b""),
    "content type": lambda sent: sent.with_header("Content-Type", "text/plain"),
    "no content type": lambda sent: sent.without("Content-Type"),
    "digest": lambda sent: sent.with_header("Content-Digest", Sent(body=b"x").signed().headers["Content-Digest"]),
    "body and digest": lambda sent: replace(
        sent.with_header("Content-Digest", Sent(body=b"x").signed().headers["Content-Digest"]), body=b"x"
    ),
    "no digest": lambda sent: sent.without("Content-Digest"),
    "digest of another kind": lambda sent: sent.with_header("Content-Digest", "md5=:AAAA:"),
    "time": lambda sent: _edited(sent, f"created={NOW.timestamp():.0f}", f"created={NOW.timestamp() + 1:.0f}"),
    "no time": lambda sent: _edited(sent, f";created={NOW.timestamp():.0f}", ""),
    "time in words": lambda sent: _edited(sent, f"created={NOW.timestamp():.0f}", 'created="now"'),
    "nonce": lambda sent: _edited(sent, 'nonce="', 'nonce="0'),
    "no nonce": lambda sent: _edited(sent, ";nonce=", ";other="),
    "tag": lambda sent: _edited(sent, 'tag="stratus"', 'tag="cumulus"'),
    "algorithm": lambda sent: _edited(sent, 'alg="ed25519"', 'alg="hmac-sha256"'),
    "fewer parts": lambda sent: _edited(sent, '"@path" ', ""),
    "more parts": lambda sent: _edited(sent, '"@path" ', '"@path" "accept" '),
    "signature": lambda sent: sent.with_header("Signature", f"stratus=:{base64.b64encode(bytes(64)).decode()}:"),
    "short signature": lambda sent: sent.with_header("Signature", "stratus=:AAAA:"),
    "rubbish": lambda sent: sent.with_header("Signature-Input", "%%%"),
    "another label": lambda sent: sent.with_header("Signature", sent.headers["Signature"].replace("stratus", "other")),
    "URL": lambda sent: replace(sent, url="/v1/leases"),
}


def _edited(sent: Sent, old: str, new: str) -> Sent:
    assert old in sent.headers["Signature-Input"]
    return sent.with_header("Signature-Input", sent.headers["Signature-Input"].replace(old, new))


@pytest.mark.parametrize("part", TAMPERED)
def test_a_change_of_any_part_is_seen(part: str) -> None:
    with pytest.raises(BadSignature) as caught:
        TAMPERED[part](Sent().signed()).verified()
    assert caught.value.hint


def test_another_keys_signature_does_not_hold() -> None:
    sent = _edited(Sent().signed(OTHER), OTHER.id, KEY.id)
    with pytest.raises(BadSignature):
        sent.verified()


@pytest.mark.parametrize("missing", ["@method", "@authority", "@path", "@query", "content-digest", "content-type"])
def test_a_signature_that_leaves_a_part_out_does_not_count(missing: str) -> None:
    sent = Sent().signed()
    parts = ["@method", "@authority", "@path", "@query", "content-digest", "content-type"]
    headers = {name: value for name, value in sent.headers.items() if not name.startswith("Signature")}
    resolver = MappingKeyResolver(public_keys={}, private_keys={KEY.id: KEY.private_key})
    partly = replace(sent, headers=headers)
    HTTPMessageSigner(signature_algorithm=ED25519, key_resolver=resolver).sign(
        partly,
        key_id=KEY.id,
        created=NOW,
        nonce="nonce",
        tag="stratus",
        covered_component_ids=[part for part in parts if part != missing],
        use_existing_digest=True,
    )
    with pytest.raises(BadSignature, match=missing):
        partly.verified()


def test_a_request_without_a_signature_is_not_permitted() -> None:
    for sent in (Sent(), Sent().signed().without("Signature"), Sent().signed().without("Signature-Input")):
        with pytest.raises(NotPermitted, match="not signed"):
            sent.verified()


def test_two_signatures_are_one_too_many() -> None:
    one, two = Sent().signed(), Sent().signed()
    both = one
    for name in ("Signature", "Signature-Input"):
        both = both.with_header(name, f"{one.headers[name]}, {two.headers[name].replace('stratus=', 'second=', 1)}")
    with pytest.raises(BadSignature, match="more than one"):
        both.verified()


def test_a_request_is_good_for_five_minutes_by_the_clock_of_who_asks() -> None:
    sent = Sent().signed()
    for seconds in (-60, 0, 300):
        assert sent.verified(now=NOW + timedelta(seconds=seconds)).key_id == KEY.id
    with pytest.raises(NotPermitted, match="301 s ago"):
        sent.verified(now=NOW + timedelta(seconds=301))
    with pytest.raises(NotPermitted, match="61 s in the future"):
        sent.verified(now=NOW - timedelta(seconds=61))


def test_unknown_keys_are_named_and_what_is_no_id_is_not_even_looked_for() -> None:
    with pytest.raises(NotPermitted, match=OTHER.id):
        Sent().signed(OTHER).verified()
    asked: list[str] = []

    def find(key_id: str) -> None:
        asked.append(key_id)

    with pytest.raises(NotPermitted, match=r"\.\./settings"):
        _edited(Sent().signed(), KEY.id, "../settings.json").verified(find)
    assert asked == []


def test_trouble_in_finding_a_key_is_not_taken_for_a_bad_signature() -> None:
    def find(key_id: str) -> None:
        raise StoreError("no answer")

    with pytest.raises(StoreError, match="no answer"):
        Sent().signed().verified(find)


def test_old_requests_cost_no_look_at_the_store() -> None:
    def find(key_id: str) -> None:
        raise AssertionError

    with pytest.raises(NotPermitted, match="ago"):
        Sent().signed().verified(find, now=NOW + timedelta(days=1))


@pytest.mark.parametrize("url", ["/v1/leases", "https://api.example.org/a b", "https://"])
def test_only_whole_and_encoded_urls_can_be_signed(url: str) -> None:
    with pytest.raises(UsageError):
        Sent(url=url).signed()
