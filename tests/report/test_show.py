from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from modelpress.errors import ModelPressError
from modelpress.report import show
from modelpress.report.record import Report


def parse(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    show.add_parser(parser.add_subparsers())
    return parser.parse_args(["show", *arguments])


def test_shows_a_folder_a_file_and_a_link(report: Report, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "outputs" / "job" / "now"
    folder.mkdir(parents=True)
    report.save(folder / "report.json")
    (folder / "report.html").write_text("page")
    (tmp_path / "outputs" / "latest").symlink_to(folder)
    for place in (folder, folder / "report.json", tmp_path / "outputs" / "latest"):
        args = parse(str(place))
        assert args.main(args) == 0
        printed = capsys.readouterr().out
        assert "It pays" in printed
        assert "report.html" in printed
        assert f"\n  {report.reproduction['command']}\n" in printed
        assert "It needs reviews.csv (dataset.path)" in printed


def test_the_default_is_the_latest_run() -> None:
    assert parse().run == "outputs/latest"


def test_clear_errors(report: Report, tmp_path: Path) -> None:
    with pytest.raises(ModelPressError, match="No run has finished here yet"):
        show.report_path(tmp_path / "latest")
    (tmp_path / "run").mkdir()
    with pytest.raises(ModelPressError, match=r"no report\.json: the run did not finish\.$"):
        show.report_path(tmp_path / "run")
    (tmp_path / "run" / "status.json").write_text("{}")
    with pytest.raises(ModelPressError, match=r"status\.json says how far"):
        show.report_path(tmp_path / "run")
    (tmp_path / "run" / "0").mkdir()
    report.save(tmp_path / "run" / "0" / "report.json")
    with pytest.raises(ModelPressError, match="holds 1 runs; give one of them"):
        show.report_path(tmp_path / "run")
