"""The arm of equal latency: its own comparison, and no substitute for the control of the training."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from modelpress.report import markdown, sections
from modelpress.report.arms import EQUAL, compare_control, compare_equal
from modelpress.report.html_parts import control_table
from modelpress.report.record import Report
from modelpress.report.verdict import Budget, Evidence, judge
from modelpress.stage import EQUAL as STAGE
from tests.report.example import CONTROL, STUDENT, Network
from tests.report.test_verdict import LABELS, RIGHT, baselines, candidate, entry, flipped

pytestmark = pytest.mark.usefixtures("fewer_resamples")
DROPPED = replace(CONTROL, stage=EQUAL)
WHAT = "the same parent without layers, as slow as the result, trained the same way"


def arm(network: Network, p50: float, lost: int, **details: object) -> Evidence:
    made = entry(network, "openvino", "bf16", p50, flipped(RIGHT, lost, 0, 5))
    made.row.details |= details
    return made


@pytest.fixture
def evidence() -> list[Evidence]:
    return [*baselines(), arm(CONTROL, 3.5, 5), arm(DROPPED, 3.4, 60, description=WHAT), candidate(3.3, 10, 10)]


def test_the_names_agree() -> None:
    assert EQUAL == STAGE  # reports must not import stages


def test_both_arms_are_compared(evidence: list[Evidence]) -> None:
    verdict = judge(evidence, LABELS, Budget(), control_expected=True, equal_expected=True)
    assert verdict["complete"]
    assert verdict["control"]["against"].startswith("control/")
    equal = verdict["equal_latency"]
    assert equal["against"].startswith(f"{EQUAL}/")
    assert equal["difference"]["value"] == pytest.approx(60 / len(LABELS))
    assert equal["ratio"]["ratio"] == pytest.approx(3.4 / 3.3, rel=0.05)
    assert equal["words"].startswith(f"Against {WHAT}, measured at 1.0")
    assert equal["words"].endswith("removing units is better than a smaller dense network.")


def test_a_missing_arm_makes_the_report_incomplete(evidence: list[Evidence]) -> None:
    rest = [one for one in evidence if one.row.stage != EQUAL]
    verdict = judge(rest, LABELS, Budget(), control_expected=True, equal_expected=True)
    assert (verdict["complete"], verdict["equal_latency"]) == (False, None)
    assert verdict["missing"] == ["its arm of equal latency is missing."]
    assert judge(rest, LABELS, Budget(), control_expected=True)["complete"]


def test_it_is_no_control_of_the_training(evidence: list[Evidence]) -> None:
    rest = [one for one in evidence if one.row.stage != "control"]
    assert compare_control(rest, rest[-1], LABELS)["difference"] is None
    assert compare_equal(rest, rest[-1], LABELS) is not None
    assert compare_equal(rest, None, LABELS) is None


@pytest.mark.parametrize(("lost", "words"), [(0, "the smaller dense network is better"), (10, "neither is shown")])
def test_the_sense_follows_the_interval(lost: int, words: str) -> None:
    made = [*baselines(), arm(DROPPED, 3.4, lost), candidate(3.3, 40 if not lost else 10)]
    found = compare_equal(made, made[-1], LABELS)
    assert found is not None
    assert words in found["words"]
    assert np.sign(found["difference"]["value"]) == (-1 if not lost else 0)


def test_reports_show_both_sentences_and_the_sizes(evidence: list[Evidence]) -> None:
    verdict = judge(evidence, LABELS, Budget(), control_expected=True, equal_expected=True)
    rows = [one.row for one in evidence]
    for row in rows:
        row.details["network"] = "6 x 384, 12 heads of 32, 1536 neurons"
    rows[-1].details["network"] = f"6 x 192, {STUDENT.model}"
    report = Report("r", "c", {}, "accuracy", 1, rows, verdict, True, {}, [], {})
    text = markdown.render(report)
    assert all(words in text for words in sections.arm_words(report))
    assert len(sections.arm_words(report)) == 2
    assert "| layers x width |" in text
    assert "6 x 192" in text
    assert control_table(report).count("<tr>") == 2  # head and one pair: the arm of equal latency is not in it
    for row in rows:
        row.details["network"] = "all alike"
    assert "layers x width" not in markdown.render(report)


def test_sparse_weights_that_the_runtime_ignores_are_said(evidence: list[Evidence]) -> None:
    row = evidence[-1].row
    row.sparsity = 0.9
    row.details["engine"] = {"sparse_weights": {"asked": 0.8, "layers": 0, "why": "OpenVINO needs AMX"}}
    judge(evidence, LABELS, Budget(), control_expected=False)
    said = "Sparse weight decompression was asked for and no layer uses it: OpenVINO needs AMX."
    assert f"OpenVINO: {said}" in sections.notes([row])
    row.details["engine"]["sparse_weights"] = {"asked": 0.8, "layers": 12}
    assert not any("Sparse" in note for note in sections.notes([row]))
