from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from modelpress.report import html, markdown, numerics, terminal
from modelpress.report.columns import details_text
from modelpress.report.extras import Extras
from modelpress.report.record import Report

INT8: dict[str, Any] = {
    "kind": "int8",
    "activations": "static",
    "attention": False,
    "embeddings": True,
    "calibrator": "entropy",
    "samples": 1_256,
    "coverage": 0.99966,
    "balance": {"a": 0.5, "b": None, "c": 0.9},
    "float_layers": ["network.pooler", "network.classifier"],
    "search": {
        "max_metric_drop": 0.005,
        "drop_all_int8": 0.031,
        "drop": 0.0042,
        "why": "1 layer stays float: with it in INT8 the metric drops by 3.10 points",
    },
}
FP16 = {
    "kind": "fp16",
    "float_layers": ["network.loud", "network.classifier"],
    "pinned": {"network.loud": 81_234.0},
    "overflow": {"network.loud": 81_234.0},
    "largest": {"layer": "network.quiet", "value": 120.0},
    "difference": 0.00312,
    "agreement": 0.9987,
    "max_difference": 0.01,
    "items": 256,
}


def quantized(report: Report, found: dict[str, Any]) -> Report:
    rows = [
        replace(row, details={**row.details, "numerics": found}) if row.role == "candidate" else row
        for row in report.rows
    ]
    return replace(report, rows=rows)


def text_of(report: Report, found: dict[str, Any]) -> str:
    (text,) = numerics.paragraphs(quantized(report, found))
    return text


def test_int8_in_one_paragraph(report: Report) -> None:
    assert text_of(report, INT8) == (
        "tinybert (distill): INT8 for 99.9 % of the weights in matrices, activations in INT8 too. "
        "Ranges by entropy on 1,256 samples of the calibration split. "
        "Balanced (SmoothQuant) on 2 of 3 inputs, alpha 0.5 to 0.9. "
        "Left in float: network.pooler and network.classifier. "
        "Mixed-precision search on validation: 1 layer stays float: with it in INT8 the metric drops by 3.10 points "
        "(drop 0.42 points, limit 0.50)."
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"activations": "dynamic"}, "activations quantized at run time. Prepared on 1,256 samples"),
        ({"coverage": 1.0}, "INT8 for 100 % of"),
        ({"attention": True}, "the products inside attention too."),
        ({"balance": {"a": None}}, "Weights are not balanced against activations."),
        ({"balance": {"a": 0.5, "b": 0.5}}, "on 2 of 2 inputs, alpha 0.5."),
        ({"float_layers": [f"l{i}" for i in range(9)]}, "Left in float: l0, l1, l2, l3 and 5 more."),
        ({"float_layers": [f"l{i}" for i in range(4)]}, "Left in float: l0, l1, l2 and l3."),
    ],
)
def test_what_differs_is_said(report: Report, changes: dict[str, Any], words: str) -> None:
    assert words in text_of(report, {**INT8, **changes})


@pytest.mark.parametrize(
    ("missing", "words"),
    [
        ("coverage", "of the weights"),
        ("samples", "Ranges"),
        ("balance", "alanced"),
        ("float_layers", "Left in"),
        ("search", "search"),
    ],
)
def test_what_is_not_known_is_left_out(report: Report, missing: str, words: str) -> None:
    assert words in text_of(report, INT8)
    assert words not in text_of(report, {key: value for key, value in INT8.items() if key != missing})


def test_fp16_names_what_overflowed(report: Report) -> None:
    assert text_of(report, FP16) == (
        "tinybert (distill): FP16. Left in float32: network.loud and network.classifier. "
        "1 of them overflows in FP16, network.loud with values up to 81,234. "
        "On 256 calibration samples the largest difference of a logit is 0.00312, agreement 99.9 %."
    )


def test_one_paragraph_per_stage_in_the_order_of_the_rows(report: Report) -> None:
    rows = [replace(row, details={**row.details, "numerics": INT8}) for row in report.rows]
    found = numerics.paragraphs(replace(report, rows=rows))
    stages = [(row.model, row.stage) for row in report.rows]
    assert [text.partition(":")[0] for text in found] == [
        f"{model} ({stage})" for model, stage in dict.fromkeys(stages)
    ]


def test_every_page_shows_it_once(report: Report) -> None:
    found = quantized(report, INT8)
    sentence = "Balanced (SmoothQuant) on 2 of 3 inputs, alpha 0.5 to 0.9."
    console = Console(width=400, file=io.StringIO(), force_terminal=False)
    terminal.render(found, console)
    assert isinstance(console.file, io.StringIO)
    for text in (html.render(found, Extras()), markdown.render(found), console.file.getvalue()):
        assert text.count(sentence) == 1


def test_float32_runs_show_nothing(report: Report) -> None:
    assert numerics.paragraphs(report) == []
    assert "Numbers of the network" not in html.render(report, Extras())
    assert "Numbers of the network" not in markdown.render(report)


def test_details_of_a_row_do_not_repeat_it(report: Report) -> None:
    row = next(row for row in quantized(report, INT8).rows if row.role == "candidate")
    assert "entropy" not in (details_text(row) or "")
    assert "threads" in (details_text(row) or "")
