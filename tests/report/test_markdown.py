from __future__ import annotations

from dataclasses import replace

from modelpress.report import markdown, repeat
from modelpress.report.columns import columns
from modelpress.report.record import Report, Row


def cells(line: str) -> list[str]:
    return [cell.strip().strip("*") for cell in line.strip("|").split(" | ")]


def test_every_table_line_has_as_many_cells_as_its_head(report: Report) -> None:
    tables = [block for block in markdown.render(report).split("\n\n") if block.startswith("| role")]
    assert len(tables) == 2
    for table in tables:
        lines = table.splitlines()
        assert len(lines) == 2 + len(report.rows)
        assert {len(cells(line)) for line in lines} == {len(cells(lines[0]))}


def test_the_numbers_stand_in_their_columns(report: Report) -> None:
    table = next(block for block in markdown.render(report).split("\n\n") if block.startswith("| role"))
    head, _, *body = [cells(line) for line in table.splitlines()]
    best = next(dict(zip(head, line, strict=True)) for line in body if line[-1] == "pays")
    assert best["engine"] == "OpenVINO BF16"
    assert best["x best"].startswith("1.51x [1.5")
    assert float(best["accuracy %"]) > 80
    failed = next(dict(zip(head, line, strict=True)) for line in body if line[-1] == "failed")
    assert failed["p50, ms"] == "–"


def test_it_says_what_when_and_how(report: Report) -> None:
    text = markdown.render(report)
    assert text.startswith("# reviews_tinybert_distill\n")
    assert "> **It pays.** tinybert in OpenVINO BF16" in text
    assert report.command in text
    assert f"## Repeat this run\n\n{repeat.WHERE}\n\n```\n{report.reproduction['command']}\n```" in text
    assert f"- It needs reviews.csv (dataset.path), sha256 {'3f' * 32}." in text
    assert "Repeat" not in markdown.render(replace(report, reproduction={}))  # written by an older ModelPress
    assert "out of memory" in text
    assert "p99 662" in text
    assert "libraries.openvino: 2026.4.1" in text
    assert "incomplete" not in text
    assert "**This report is incomplete.**" in markdown.render(replace(report, complete=False))


def test_a_bar_in_a_name_does_not_break_the_table(report: Report) -> None:
    odd = replace(report, rows=[replace(row, model="a|b") for row in report.rows])
    assert "a\\|b" in markdown.render(odd)


def test_every_row_field_has_a_column(report: Report) -> None:
    shown = {column.key.split(".")[0] for column in columns(report)}
    # id and details stand beside the row, latency in parts; that of a device where there is one (test_columns)
    nested = {"id", "latency_ms", "device_latency_ms", "details"}
    assert set(Row.__dataclass_fields__) - nested <= shown
    assert {"p50", "p90", "p95", "p99", "min", "cov", "n"} <= shown
