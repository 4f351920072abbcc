from __future__ import annotations

import stat
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from stratus.errors import BadFormat, NotPermitted, UsageError
from stratus.formats.key_record import KeyRecord
from stratus.trust.keys import RepositoryKeys
from stratus.trust.writer_keys import WriterKey

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
KEY = WriterKey.generate()


def record(*grants: bytes) -> KeyRecord:
    return KeyRecord.new(KEY.public_key, "alice", grants, NOW, timedelta(days=1))


# -- files -------------------------------------------------------------------------------------------------------------


def test_a_file_tells_its_own_id_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    file = tmp_path / "new" / "alice.pem"
    KEY.save(file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    loaded = WriterKey.load(file)
    assert (loaded.id, loaded.public_key) == (KEY.id, KEY.public_key)
    assert KEY.id == record(b"").id
    assert KEY.id != WriterKey.generate().id


def test_the_keys_of_openssl_are_understood(tmp_path: Path) -> None:
    file = tmp_path / "alice.pem"
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", file], check=True, timeout=20)
    file.chmod(0o640)
    assert len(WriterKey.load(file).public_key) == 32


def test_a_file_that_everybody_can_read_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "alice.pem"
    KEY.save(file)
    file.chmod(0o644)
    with pytest.raises(NotPermitted) as caught:
        WriterKey.load(file)
    assert f"chmod 600 {file}" in caught.value.hint


def test_no_key_is_ever_overwritten(tmp_path: Path) -> None:
    file = tmp_path / "alice.pem"
    KEY.save(file)
    with pytest.raises(UsageError, match="there already"):
        WriterKey.generate().save(file)
    assert WriterKey.load(file).id == KEY.id


def test_what_is_no_key_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotPermitted, match=r"missing\.pem"):
        WriterKey.load(tmp_path / "missing.pem")
    with pytest.raises(NotPermitted, match="cannot write"):
        KEY.save(Path("/proc/alice.pem"))
    (tmp_path / "text.pem").write_text("no key")
    RepositoryKeys.generate("a.example.org").save(tmp_path)
    (tmp_path / "locked.pem").write_bytes(_encrypted())
    for name in ("text.pem", "a.example.org.key", "locked.pem"):
        (tmp_path / name).chmod(0o600)
        with pytest.raises(BadFormat, match=name):
            WriterKey.load(tmp_path / name)


def _encrypted() -> bytes:
    from cryptography.hazmat.primitives import serialization

    return KEY.private_key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"password"),
    )


def test_a_key_does_not_show_itself() -> None:
    assert "private" not in repr(KEY)
