from __future__ import annotations

import re
from pathlib import Path

from tests.cli.conftest import Run
from tests.cli.submitting import submit


def test_what_waits_is_shown_with_whose_it_is(stratus: Run, repository: str, tmp_path: Path) -> None:
    submit(tmp_path / "store", repository)
    (entry,) = stratus("queue", repository, "--json").json["entries"]
    assert (entry["path"], entry["writer"]) == ("/sw", "bob")
    shown = stratus("queue", repository).lines
    assert re.match(rf"{entry['id']}  since \S+ \S+  /sw  bob on there", shown[0])
    assert shown[1:] == ["nobody commits"]
    stratus("tag", "add", repository, "v1")  # whoever commits next commits that, too
    assert stratus("queue", repository).lines == ["nothing waits", "nobody commits"]
