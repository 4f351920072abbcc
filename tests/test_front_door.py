from __future__ import annotations

import subprocess
import sys

import pytest

import stratus


def test_everything_that_is_exported_is_there() -> None:
    assert stratus.__all__ == sorted(stratus.__all__)
    assert set(stratus.__all__) == set(stratus._HOMES)
    for name in stratus.__all__:
        assert getattr(stratus, name) is not None
    assert dir(stratus) == stratus.__all__


def test_other_names_are_no_part_of_it() -> None:
    with pytest.raises(AttributeError):
        stratus.nonesuch  # noqa: B018


def test_importing_it_imports_nothing_else() -> None:
    code = "import stratus, sys; print([m for m in sys.modules if m.startswith('stratus.')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
