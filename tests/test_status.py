"""status.json through the life of a job."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from modelpress.errors import ModelPressError
from modelpress.status import FILE, Status, failures


def _read(folder: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((folder / FILE).read_text())
    return record


def test_running_then_done(tmp_path: Path) -> None:
    status = Status(tmp_path, "python run.py seed=2")
    assert (_read(tmp_path)["status"], _read(tmp_path)["pid"]) == ("running", os.getpid())
    status.done(0.8)
    record = _read(tmp_path)
    assert (record["status"], record["score"], record["reason"], record["command"]) == (
        "done", 0.8, None, "python run.py seed=2",
    )  # fmt: skip
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


def test_a_score_that_is_no_number_is_null(tmp_path: Path) -> None:
    Status(tmp_path, "x").done(float("nan"))
    assert _read(tmp_path)["score"] is None


def test_skipped_says_why_and_what_is_known(tmp_path: Path) -> None:
    Status(tmp_path, "x").skipped("too slow", untrained={"latency_ms.p50": 4.1})
    record = _read(tmp_path)
    assert (record["status"], record["reason"], record["score"]) == ("skipped", "too slow", None)
    assert record["untrained"] == {"latency_ms.p50": 4.1}
    assert failures(tmp_path.parent) == {}


def test_failed_keeps_the_traceback(tmp_path: Path) -> None:
    with pytest.raises(ModelPressError) as bug:
        raise ModelPressError("no such column")
    Status(tmp_path, "x").failed("no such column", bug.value)
    assert (_read(tmp_path)["status"], _read(tmp_path)["reason"]) == ("failed", "no such column")
    assert "test_failed_keeps_the_traceback" in (tmp_path / "error.txt").read_text()


def test_only_rank_0_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    Status(tmp_path, "x").done(1.0)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Status(tmp_path / "gone", "x").done(1.0)
    assert "cannot write" in caplog.text


def test_failures_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for number in (10, 2, 1):
        (tmp_path / str(number)).mkdir()
        Status(tmp_path / str(number), "x").failed(f"reason {number}")
    (tmp_path / "3").mkdir()
    Status(tmp_path / "3", "x").done(1.0)
    assert list(failures(tmp_path).values()) == ["reason 1", "reason 2", "reason 10"]
    assert list(failures(tmp_path)) == [tmp_path / "1", tmp_path / "2", tmp_path / "10"]
