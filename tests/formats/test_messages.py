from __future__ import annotations

from datetime import UTC, datetime

import pytest

from stratus import errors
from stratus.errors import BadFormat, LeaseHeld, NotFound, NotPermitted, Rejected, StratusError, UsageError
from stratus.formats import messages
from stratus.formats.messages import LeaseRequest, Problem
from stratus.formats.step import Step

NOW = datetime(2026, 11, 26, 12, 30, tzinfo=UTC)


def test_paths_that_are_no_utf8_survive() -> None:
    request = LeaseRequest(path=b"/a\xff".decode("utf-8", "surrogateescape"))
    packed = messages.pack(request)
    assert packed.isascii()
    assert messages.parse(packed, LeaseRequest) == request


@pytest.mark.parametrize(
    "data",
    [b"", b"[]", b"{}", b'{"path": 1}', b'{"path": "/a", "ttl": 9}', b'{"path": "/a", "ttl": 7201}', b"[" * 9999],
)
def test_what_is_no_message_is_refused(data: bytes) -> None:
    with pytest.raises(BadFormat):
        messages.parse(data, LeaseRequest)


@pytest.mark.parametrize(
    "error",
    [
        UsageError("a", hint="b"),
        NotPermitted("a", path=b"/x\xff"),
        NotFound("a"),
        Rejected("a", reason="outside_of_lease", hint="b", path=b"/x"),
        LeaseHeld("a", holder="bob", host="there", expires=NOW),
        LeaseHeld("a", holder="bob", host="there", expires=None),
    ],
)
def test_an_error_comes_out_as_it_went_in(error: StratusError) -> None:
    found = messages.parse(messages.pack(Problem.of(error, 400)), Problem).error()
    assert type(found) is type(error)
    assert (vars(found), found.hint) == ({**vars(error), "hint": error.hint}, error.hint)


def test_every_class_of_errors_has_its_own_code_there() -> None:
    for code, kind in messages._classes(errors.StratusError).items():
        assert kind.code == code


def test_an_unknown_code_is_still_an_error() -> None:
    assert type(Problem(title="x", status=500, detail="y", code="of tomorrow").error()) is StratusError


def test_a_token_is_an_id_and_a_secret() -> None:
    token = messages.token("a" * 20, "s" * 32)
    assert messages.split_token(token) == ("a" * 20, "s" * 32)
    for bad in ("", "a", token + "\n", "." + token, token.replace(".", "")):
        with pytest.raises(BadFormat):
            messages.split_token(bad)


def test_a_step_comes_out_as_it_went_in() -> None:
    step = Step(kind="submit", id="x", due=NOW, attempt=3, body={"a": ["b", 1]})
    assert Step.parse(step.pack()) == step
    with pytest.raises(BadFormat):
        Step.parse(b"{}")
