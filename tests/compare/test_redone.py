"""A job that failed and was done again is shown once."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelpress.compare.command import comparison
from modelpress.compare.redone import newest
from modelpress.compare.run import Run, read_all
from tests.compare.worlds import put, report, status

EARLY, LATE = "2026-11-21T01:00:00+00:00", "2026-11-23T01:00:00+00:00"


def left(root: Path) -> tuple[list[str], list[str]]:
    runs: list[Run] = read_all(sorted(root.iterdir()))
    found, remarks = newest(runs)
    return [run.folder.name for run in found], remarks


@pytest.mark.parametrize(
    ("started", "facts", "kept"),
    [
        (EARLY, {"identity": "a"}, ["done"]),
        (LATE, {"identity": "a"}, ["done", "open"]),  # it failed when it was done again: that is news
        (EARLY, {"identity": "b"}, ["done", "open"]),  # other data or other code
        (EARLY, {}, ["done"]),  # it failed before its data were read: the command decides
        (EARLY, {"command": "python run.py seed=7"}, ["done", "open"]),
    ],
)
@pytest.mark.parametrize("state", ["failed", "trained"])
def test_the_newest_stands_for_the_job(
    state: str, started: str, facts: dict[str, str], kept: list[str], tmp_path: Path
) -> None:
    made = report()
    put(tmp_path / "done", made)
    status(tmp_path / "done", "done", command=made.command, started="2026-11-22T01:00:00+00:00", identity="a")
    status(tmp_path / "open", state, "no disk", **{"command": made.command, "started": started, **facts})
    names, remarks = left(tmp_path)
    assert names == kept
    assert len(remarks) == (len(kept) == 1)


def test_finished_runs_of_one_job_all_stay_and_the_table_says_what_is_left_out(tmp_path: Path) -> None:
    for name in ("first", "again"):
        put(tmp_path / name, report())
    for name in ("x", "y"):
        status(tmp_path / name, "failed", "no disk", command=report().command, started=EARLY)
    assert left(tmp_path)[0] == ["again", "first"]
    (remark,) = comparison([tmp_path]).remarks
    assert remark.startswith("2 runs that did not finish were done again since, and left out: ")
    assert str(tmp_path / "x") in remark


def test_of_several_attempts_that_failed_the_last_stays(tmp_path: Path) -> None:
    for name, started in (("1", EARLY), ("2", LATE)):
        status(tmp_path / name, "failed", "no disk", command="python run.py", started=started)
    assert left(tmp_path)[0] == ["2"]
