"""The command: its table, its files, its errors, and how fast it starts."""

from __future__ import annotations

import csv
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.console import Console

from modelpress import cli
from modelpress.compare.command import comparison
from modelpress.compare.table import columns, fitting, render
from tests.compare.worlds import TEMPERATURE, put, report, status


def printed(sweep: Path, width: int, **options: bool) -> str:
    console = Console(width=width, file=io.StringIO(), force_terminal=False)
    render(comparison([sweep], **options), console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_no_line_is_wider_than_the_terminal(sweep: Path, width: int) -> None:
    lines = printed(sweep, width).splitlines()
    assert max(cell_len(line) for line in lines) <= width
    found = [line for line in lines if "OpenVINO bf16" in line]
    assert len(found) == 4


def test_eighty_columns_hold_what_decides(sweep: Path) -> None:
    found = comparison([sweep])
    titles = [column.title for column, _ in fitting(columns(found), found.lines, 80)]
    assert {"", "temperature", "engine", "acc %", "p50 ms", "seeds", "verdict"} <= set(titles)


def test_the_table_says_it_all(sweep: Path) -> None:
    text = printed(sweep, 140)
    assert text.count("★") == 3 + 1  # the front and its explanation
    assert "82.50 ±0.20" in text
    for words in ("without a report", "stopped", "unreadable", "it must be positive", "schema_version 99"):
        assert words in text


def test_other_columns_may_be_the_axes(sweep: Path) -> None:
    assert "macro_f1 %" in printed(sweep, 140, y="macro_f1")  # type: ignore[arg-type]
    assert "No Pareto front" in printed(sweep, 140, x="temperature")  # type: ignore[arg-type]


def test_the_csv_has_full_precision(sweep: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "new" / "runs.csv"
    assert cli.main(["compare", str(sweep), "--csv", str(path)]) == 0
    assert f"wrote {path}" in capsys.readouterr().out
    lines = list(csv.DictReader(path.read_text().splitlines()))
    assert len(lines) == 2 + 3 + 4
    two = next(line for line in lines if line[TEMPERATURE] == "2.0")
    assert (float(two["metric"]), float(two["metric_sd"])) == (pytest.approx(0.825), pytest.approx(0.002))
    assert next(line for line in lines if line["status"] == "failed")["reason"].startswith("temperature is -1")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--where", "temprature=2"], "Did you mean 'technique.distill.objective.temperature'"),
        (["--x", "latency"], ""),
        (["--y", "metrik"], "--y is 'metrik', but no run has such a column. Did you mean 'metric'"),
        (["--sort", "-sise_mb"], "argument --sort: expected one argument"),
        (["--sort=-sise_mb"], "--sort is 'sise_mb', but no run has such a column. Did you mean 'size_mb'"),
        (["--where", "role=candidate", "seed=99"], "None of the 13 runs has a row with role=candidate and seed=99"),
        (["--csv", "/proc/nothing/here.csv"], "/proc/nothing/here.csv cannot be written"),
    ],
)
def test_faults(sweep: Path, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        code = cli.main(["compare", str(sweep), *arguments])
    except SystemExit as stop:  # argparse
        code = int(stop.code or 0)
    assert (code != 0) is bool(words)
    assert words in capsys.readouterr().err


def test_the_default_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["compare"]) == 1
    assert "There is no outputs, multirun" in capsys.readouterr().err
    put(tmp_path / "outputs" / "a" / "t1", report())
    assert cli.main(["compare"]) == 0
    assert "OpenVINO bf16" in capsys.readouterr().out


def test_runs_lists_every_kind(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["runs", str(sweep)]) == 0
    text = capsys.readouterr().out
    assert "13 runs: 9 done, 1 stopped, 1 failed, 2 unreadable" in text
    assert "pays: tinybert in ORT" not in text
    assert "pays: tinybert in OpenVINO bf16 1x128" in text
    assert "temperature is -1" in text
    assert cli.main(["runs", str(sweep), "--status", "failed"]) == 0
    assert "1 runs: 1 failed" in capsys.readouterr().out
    assert cli.main(["runs", str(sweep), "--status", "lost"]) == 1
    assert "--status is 'lost'; allowed: 'done', 'running'" in capsys.readouterr().err


def test_runs_says_so_while_one_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status(tmp_path / "a", "running", pid=os.getpid(), started="2026-11-22T01:02:03+00:00")
    assert cli.main(["runs", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert "running" in text
    assert "2026-11-22 01:02" in text


def test_the_commands_import_nothing_heavy(sweep: Path) -> None:
    code = (
        "import sys; from modelpress.cli import main;"
        f"main(['compare', {str(sweep)!r}]); main(['runs', {str(sweep)!r}]);"
        f"main(['why', {str(sweep / '0')!r}, {str(sweep / '3')!r}]);"
        "heavy = [m for m in ('hydra', 'numpy', 'omegaconf', 'pandas', 'plotly', 'torch', 'yaml') if m in sys.modules];"
        "sys.exit(repr(heavy) if heavy else 0)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")
