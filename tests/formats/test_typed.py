"""Data as struct types, read by many threads at once."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import msgspec
import pytest

from stratus.formats import typed

_PROGRAM = """
    import sys, threading, types
    import msgspec
    from stratus.formats import typed

    sys.setswitchinterval(1e-6)
    source = '''
    from __future__ import annotations
    import msgspec

    class Inner(msgspec.Struct):
        names: tuple[str, ...]

    class Outer(msgspec.Struct):
        held: bool
        owner: str
        inner: Inner
        deaths: dict[str, int]
        gen: int
    '''
    found = {"held": True, "owner": "a", "inner": {"names": ["b"]}, "deaths": {"c": 1}, "gen": 2}
    read, pack = {
        "convert": (typed.convert, lambda found: found),
        "json": (typed.from_json, msgspec.json.encode),
        "msgpack": (typed.from_msgpack, msgspec.msgpack.encode),
    }[sys.argv[1]]
    data, right = pack(found), 0

    def work(kind, barrier):
        global right
        barrier.wait()
        outer = read(data, kind)
        right += (outer.gen, outer.inner.names) == (2, ("b",))

    for number in range(100):
        module = sys.modules[f"m{number}"] = types.ModuleType(f"m{number}")
        exec(source, module.__dict__)
        barrier = threading.Barrier(8)
        threads = [threading.Thread(target=work, args=(module.Outer, barrier)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    print(right)
"""


@pytest.mark.parametrize("form", ["convert", "json", "msgpack"])
def test_many_threads_read_a_type_for_the_first_time(form: str) -> None:
    program = textwrap.dedent(_PROGRAM)
    ran = subprocess.run([sys.executable, "-c", program, form], capture_output=True, text=True, timeout=60)
    assert (ran.returncode, ran.stdout) == (0, "800\n"), ran.stderr


def test_what_is_not_of_the_type() -> None:
    class Kind(msgspec.Struct):
        number: int

    with pytest.raises(ValueError):
        typed.convert({"number": "x"}, Kind)
    with pytest.raises(ValueError):
        typed.from_msgpack(b"\x81", Kind)
    for data in (b"{", b'{"number": "x"}'):
        with pytest.raises(ValueError):
            typed.from_json(data, Kind)
