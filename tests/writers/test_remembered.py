"""What this machine has stored before, as a file."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from stratus.writers import remembered
from stratus.writers.remembered import Remembered

Records = dict[bytes, tuple[bytes, int]]


def made(count: int, seed: int) -> Records:
    rng = random.Random(seed)
    return {
        rng.randbytes(32) + (b"P" if number % 3 == 0 else b""): (rng.randbytes(20), rng.randrange(1 << 40))
        for number in range(count)
    }


def save(directory: Path, records: Records, revision: int, era: str = "one") -> None:
    with opened(directory, revision, era) as memory:
        for key, value in records.items():
            memory.add(key, *value)
        memory.save(revision)


class opened:  # noqa: N801 - a context manager
    def __init__(self, directory: Path, revision: int, era: str = "one") -> None:
        self._memory = Remembered(directory, "file:///store", "a.example.org", era, revision)

    def __enter__(self) -> Remembered:
        return self._memory

    def __exit__(self, *_: object) -> None:
        self._memory.close()


def found(directory: Path, records: Records, revision: int, era: str = "one") -> Records:
    with opened(directory, revision, era) as memory:
        return memory.find(list(records))


def file(directory: Path) -> Path:
    (only,) = (directory / "stored").iterdir()
    return only


@pytest.fixture(params=["held", "looked for"])
def _(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "looked for":
        monkeypatch.setattr(remembered, "_HELD", 0)
    return


both_ways = pytest.mark.usefixtures("_")


@both_ways
def test_what_was_saved_is_found_and_nothing_else(tmp_path: Path) -> None:
    first, second, other = made(300, 1), made(200, 2), made(100, 3)
    save(tmp_path, first, 1)
    save(tmp_path, second, 2)
    assert found(tmp_path, first | second | other, 2) == first | second


@both_ways
def test_many_publishes_become_one_frame(tmp_path: Path) -> None:
    everything: Records = {}
    for number in range(40):
        some = made(20, number)
        save(tmp_path, some, number)
        everything |= some
    assert found(tmp_path, everything, 40) == everything
    assert file(tmp_path).stat().st_size < (len(everything) + 20) * 61


def test_what_was_not_saved_is_forgotten(tmp_path: Path) -> None:
    records = made(10, 1)
    with opened(tmp_path, 1) as memory:
        for key, value in records.items():
            memory.add(key, *value)
        assert memory.has_news
    assert found(tmp_path, records, 1) == {}


def test_another_era_begins_anew(tmp_path: Path) -> None:
    first, second = made(10, 1), made(10, 2)
    save(tmp_path, first, 1)
    assert found(tmp_path, first, 1, "two") == {}
    save(tmp_path, second, 1, "two")
    assert found(tmp_path, first | second, 1, "two") == second


def test_who_is_still_in_the_era_before_adds_nothing_to_the_next_one(tmp_path: Path) -> None:
    late, second = made(10, 1), made(10, 2)
    with opened(tmp_path, 1) as memory:
        save(tmp_path, second, 1, "two")
        for key, value in late.items():
            memory.add(key, *value)
        memory.save(1)
    assert found(tmp_path, late | second, 1, "two") == second


def test_two_processes_add_to_the_same_file(tmp_path: Path) -> None:
    first, second = made(10, 1), made(10, 2)
    with opened(tmp_path, 1) as memory:
        save(tmp_path, second, 1)
        for key, value in first.items():
            memory.add(key, *value)
        memory.save(2)
    assert found(tmp_path, first | second, 2) == first | second


def test_what_is_of_a_later_revision_than_the_store_has_is_dropped(tmp_path: Path) -> None:
    records = made(10, 1)
    save(tmp_path, records, 5)
    assert found(tmp_path, records, 4) == {}
    assert found(tmp_path, records, 5) == {}


@both_ways
def test_a_file_that_is_cut_off_anywhere_gives_whole_frames_and_can_be_added_to(tmp_path: Path) -> None:
    first, second, third = made(2, 1), made(2, 2), made(2, 3)
    save(tmp_path, first, 1)
    save(tmp_path, second, 1)
    whole = file(tmp_path).read_bytes()
    for size in range(len(whole)):
        path = file(tmp_path)
        path.write_bytes(whole[:size])
        there = found(tmp_path, first | second, 1)
        assert there in ({}, first)
        save(tmp_path, third, 1)
        assert found(tmp_path, first | second | third, 1) == there | third


@both_ways
def test_a_flipped_bit_is_found(tmp_path: Path) -> None:
    records = made(3, 1)
    save(tmp_path, records, 1)
    path = file(tmp_path)
    whole = path.read_bytes()
    for index in range(len(whole)):
        path.write_bytes(whole[:index] + bytes([whole[index] ^ 1]) + whole[index + 1 :])
        # The revision is not checked: with a smaller one it is still found, with a larger one dropped.
        assert found(tmp_path, records, 1) in ({}, records)


def test_a_directory_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "stored").write_bytes(b"")
    save(tmp_path, made(3, 1), 1)
