from __future__ import annotations

import os
from pathlib import Path

import pytest

from stratus.errors import NotPermitted
from stratus.trust.secrets import FileSecrets
from tests.repositories import FQRN, keys


def test_keys_are_kept_until_their_files_change(tmp_path: Path) -> None:
    keys().save(tmp_path)
    secrets = FileSecrets({FQRN: tmp_path})
    found = secrets.repository_keys(FQRN)
    assert found == keys()
    assert secrets.repository_keys(FQRN) is found
    os.utime(tmp_path / f"{FQRN}.key", ns=(1, 1))
    assert secrets.repository_keys(FQRN) is not found


def test_keys_that_are_not_here_are_not_permitted(tmp_path: Path) -> None:
    secrets = FileSecrets({FQRN: tmp_path})
    for fqrn in (FQRN, "other.example.org"):
        with pytest.raises(NotPermitted):
            secrets.repository_keys(fqrn)
