from __future__ import annotations

from pathlib import Path

import pytest

from modelpress import cli
from modelpress.compare.difference import Section, differences, first_difference
from modelpress.report.record import Report
from tests.compare.worlds import TEMPERATURE, lineage, put, report


def sections(a: Report, b: Report) -> dict[str, Section]:
    return {section.title: section for section in differences(a, b)}


def test_a_sweep_differs_in_what_was_swept() -> None:
    found = sections(report(temperature=1), report(temperature=4))
    assert found["Overrides"].rows == [(TEMPERATURE, "1", "4")]
    assert found["Settings of the stages"].rows == [("tinybert · distill: objective.temperature", "1", "4")]
    for same in ("Data", "Libraries", "Machine", "Code", "Measuring"):
        assert (found[same].rows, found[same].note) == ([], "")


def test_where_they_part() -> None:
    a, b = report(temperature=1), report(temperature=4)
    words = "Both rest on the same minilm · finetune. They part at tinybert · distill: stage.objective.temperature."
    assert first_difference(a, b) == words
    assert first_difference(report(seed=1), report(seed=2)).startswith("They part at minilm · finetune: seed.")
    assert first_difference(a, a).endswith("No weights differ: only how they were measured can.")


def test_data_machine_libraries_code_and_stages() -> None:
    other = lineage(1, 2)
    other[0]["inputs"]["sources"]["modelpress.training"] = other[1]["inputs"]["sources"]["modelpress.training"] = "bb"
    other[0]["inputs"]["versions"]["torch"] = other[1]["inputs"]["versions"]["torch"] = "2.16.0"
    other[1]["name"] = "tinybert · prune"
    before = {"cpu": "Xeon", "cores": 2, "load_average": [9, 9, 9], "python": "3.12"}
    code = {"commit": "1234", "dirty": False}
    b = report(dataset={"name": "csv"}, environment={"before": before, "code": code}, lineage=other)
    found = sections(report(), b)
    assert ("name", "reviews", "csv") in found["Data"].rows
    assert found["Machine"].rows == [("cpu", "AMD EPYC", "Xeon")]
    assert ("torch", "2.15.0", "2.16.0") in found["Libraries"].rows
    assert ("python", "3.11", "3.12") in found["Libraries"].rows
    assert found["Code"].rows == [("commit", "–", "1234"), ("dirty", "–", "false")]
    assert found["Code"].note == "1 source files differ: modelpress.training"
    assert found["Settings of the stages"].note == "only A trained tinybert · distill; only B trained tinybert · prune"


def test_the_command_shows_figures_side_by_side(
    sweep: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    assert cli.main(["why", str(sweep / "1"), str(sweep / "4")]) == 0
    text = " ".join(capsys.readouterr().out.split())
    for words in ("They part at tinybert · distill", "81.0 | 82.5", "3.10 | 3.20", "The same: measuring, data"):
        assert words in text


def test_faults(sweep: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["why", str(sweep / "1"), str(sweep / "1" / "report.json")]) == 1
    assert "are the same run" in capsys.readouterr().err
    assert cli.main(["why", str(sweep / "1"), str(sweep / "9")]) == 1
    assert "status.json says how far the run came" in capsys.readouterr().err
    put(tmp_path / "odd", report(lineage=[1]))
    assert cli.main(["why", str(sweep / "1"), str(tmp_path / "odd")]) == 1
    assert "no lineage of ours" in capsys.readouterr().err
