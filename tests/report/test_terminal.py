from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.cells import cell_len
from rich.console import Console

from modelpress.report import terminal
from modelpress.report.record import Report


def printed(report: Report, width: int) -> str:
    console = Console(width=width, file=io.StringIO(), force_terminal=False)
    terminal.render(report, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("width", [60, 80, 100, 140, 200])
def test_no_line_is_wider_than_the_terminal(report: Report, width: int) -> None:
    lines = printed(report, width).splitlines()
    assert max(cell_len(line) for line in lines) <= width
    rows = [line for line in lines if "OpenVINO bf16  1x128" in line]
    assert len(rows) == 3  # one line each: nothing wraps
    assert [line[0] for line in rows].count("*") == 1


def test_eighty_columns_hold_what_decides(report: Report) -> None:
    titles = [cell.title for cell, _ in terminal.fitting(report, 80)]
    assert {"engine", "shape", "acc %", "drop", "p50 ms", "x best", "verdict"} <= set(titles)


def test_wide_terminals_show_intervals(report: Report) -> None:
    assert "[1.50, 1.53]" in next(line for line in printed(report, 160).splitlines() if line.startswith("*"))


def test_groups_and_reasons(report: Report) -> None:
    text = printed(report, 120)
    order = [text.index(heading) for heading in ("baseline: minilm", "control: tinybert", "candidate: tinybert")]
    assert order == sorted(order)
    assert "out of memory" in text
    assert "unsupported" in text
    assert "─ It pays ─" in text


def test_incomplete_and_empty_reports_say_so(report: Report) -> None:
    assert "It pays (incomplete)" in printed(replace(report, complete=False), 80)
    empty = replace(report, rows=[], verdict={"verdict": None, "words": "No verdict: nothing was measured."})
    text = printed(empty, 80)
    assert "No rows." in text
    assert "nothing was measured" in text


def test_square_brackets_are_text_not_markup(report: Report) -> None:
    odd = replace(report, verdict=report.verdict | {"words": "It pays: [bold]x[/nonsense] at [1, 2]."})
    assert "[bold]x[/nonsense] at [1, 2]." in printed(odd, 100)
