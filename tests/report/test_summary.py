from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from modelpress.report.record import Report
from modelpress.report.summary import rule
from modelpress.report.verdict import Budget, Evidence, judge
from tests.report.example import CONTROL, flipped, row_of
from tests.report.test_verdict import LABELS, RIGHT, N, baselines, candidate, entry

pytestmark = pytest.mark.usefixtures("fewer_resamples")


def overall(*entries: Evidence, control_expected: bool = False, budget: Budget | None = None) -> dict[str, Any]:
    return judge([*baselines(), *entries], LABELS, budget or Budget(), control_expected=control_expected)


def control(lost: int) -> Evidence:
    one = entry(CONTROL, "openvino", "bf16", 3.3, flipped(RIGHT, lost, 0, 12))
    one.row.details["description"] = "no teacher"
    return one


def test_the_example_pays(report: Report) -> None:
    found = report.verdict
    assert found["verdict"] == "pays"
    assert found["row"] == "distill/tinybert/openvino/bf16/1x128"
    assert found["complete"] is True
    assert found["words"].startswith("It pays: tinybert in OpenVINO BF16 at 1x128. Accuracy")
    assert found["ceilings"]["macs_ratio"] == pytest.approx(1.45 / 0.62)
    assert found["ceilings"]["same_engine_speedup"] == pytest.approx(5.3 / 3.5, rel=0.03)
    assert found["budget"]["size_mb"] == {"limit": 30.0, "value": pytest.approx(28.8), "met": True}
    assert found["budget"]["latency_ms"]["met"] is None


def test_the_metric_has_the_name_of_the_task() -> None:
    entries = [*baselines(), candidate(3.3, lost=5)]
    options: dict[str, Any] = {"control_expected": False, "metric": "recall_at_1"}
    words = judge(entries, LABELS, Budget(), **options)["words"]
    assert ". Recall@1 " in words
    assert "ccuracy" not in words


def test_the_control_difference_is_paired() -> None:
    found = overall(candidate(3.3, lost=5), control(60), control_expected=True)
    difference = found["control"]["difference"]
    assert difference["value"] == pytest.approx((60 - 5) / N)
    assert difference["ci_low"] > 0
    assert "(no teacher)" in found["control"]["words"]
    assert "is worth something" in found["control"]["words"]
    assert found["complete"] is True


def test_a_control_as_good_as_the_candidate_is_said_so() -> None:
    found = overall(candidate(3.3, lost=5), control(5), control_expected=True)
    assert "not shown to help" in found["control"]["words"]
    worse = overall(candidate(3.3, lost=80), control(5), control_expected=True)
    assert "without the technique it would be better" in worse["control"]["words"]


def test_a_missing_control_makes_the_report_incomplete() -> None:
    found = overall(candidate(3.3), control_expected=True)
    assert found["complete"] is False
    assert found["control"]["difference"] is None
    assert "No control arm was measured" in found["control"]["words"]
    assert "incomplete" in found["words"]
    assert overall(candidate(3.3), control_expected=False)["complete"] is True


def test_nothing_compressed_is_no_verdict_but_names_the_engine_to_take() -> None:
    found = overall()
    assert (found["verdict"], found["row"], found["complete"]) == (None, None, True)
    assert "nothing was compressed" in found["words"]
    assert "OpenVINO BF16" in found["words"]


def test_only_failed_candidates_is_incomplete() -> None:
    failed = row_of(CONTROL, "openvino", "bf16", "1x128", status="failed", role="candidate", why="no memory")
    found = overall(Evidence(failed, None, None), control_expected=True)
    assert (found["verdict"], found["complete"]) == (None, False)
    assert "no candidate row could be measured" in found["words"]


def test_the_best_row_is_at_the_primary_shape() -> None:
    fast, slow = candidate(1.0, shape="data"), candidate(4.0)
    found = overall(entry(CONTROL, "openvino", "bf16", 3.0, shape="data"), fast, slow)
    assert found["row"] == slow.row.id
    only = candidate(1.0, shape="data")
    assert overall(only)["row"] == only.row.id


def test_a_verdict_ranks_above_speed() -> None:
    fast_but_lossy = candidate(1.0, lost=120)
    good = candidate(3.3, id="good", precision="fp16")
    assert overall(fast_but_lossy, good)["row"] == "good"


def test_the_rule_carries_the_numbers() -> None:
    words = rule(Budget(size_mb=12.5, max_metric_drop=0.005))
    assert "size 12.5 MB" in words
    assert "within 0.5 points" in words
    assert "0.2 points" in words
    assert "goal" not in rule(Budget())


def test_words_agree_with_the_numbers(report: Report) -> None:
    best = next(row for row in report.rows if row.id == report.verdict["row"])
    assert best.speedup is not None
    assert f"{best.speedup.ratio:.2f}x" in report.verdict["words"]
    assert best.metric is not None
    assert f"{100 * best.metric:.1f} %" in report.verdict["words"]
    assert np.isfinite(report.verdict["ceilings"]["resolvable_drop"])
