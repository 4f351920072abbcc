from __future__ import annotations

import re

from stratus.formats.changes import new_id


def test_ids_are_twenty_characters_that_fit_into_keys_and_never_repeat() -> None:
    found = {new_id() for _ in range(1000)}
    assert len(found) == 1000
    assert all(re.fullmatch("[a-z2-7]{20}", each) for each in found)
