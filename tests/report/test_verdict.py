from __future__ import annotations

import numpy as np
import pytest

from modelpress.errors import ModelPressError
from modelpress.report.evidence import best_baseline
from modelpress.report.record import Row
from modelpress.report.verdict import Budget, Evidence, decide, judge
from tests.report.example import CONTROL, STUDENT, TEACHER, Network, answers, flipped, row_of, timings

pytestmark = pytest.mark.usefixtures("fewer_resamples")

N = 1200
LABELS = np.random.default_rng(0).integers(0, 2, N)
RIGHT = np.random.default_rng(1).random(N) < 0.8


def entry(
    network: Network,
    engine: str,
    precision: str,
    p50: float,
    right: np.ndarray = RIGHT,
    *,
    shape: str = "1x128",
    rounds: int = 8,
    **changes: object,
) -> Evidence:
    row = row_of(network, engine, precision, shape, **changes)
    seed = int(p50 * 1000) + len(precision)
    return Evidence(row, timings(p50, seed, rounds, 15), answers(LABELS, right, 0.0, 3))


def baselines(**changes: object) -> list[Evidence]:
    return [
        entry(TEACHER, "onnxruntime", "fp32", 16.0, **changes),
        entry(TEACHER, "openvino", "fp32", 12.0, **changes),
        entry(TEACHER, "openvino", "bf16", 5.0, **changes),
    ]


def candidate(p50: float, lost: int = 0, won: int = 0, precision: str = "bf16", **changes: object) -> Evidence:
    return entry(STUDENT, "openvino", precision, p50, flipped(RIGHT, lost, won, 4), **changes)


def verdict_of(one: Evidence, budget: Budget | None = None) -> Row:
    judge([*baselines(), one], LABELS, budget or Budget(), control_expected=False)
    return one.row


def test_pays_when_faster_and_as_good() -> None:
    row = verdict_of(candidate(3.3))
    assert row.verdict == "pays"
    assert row.speedup_best is not None
    assert row.speedup_best.vs == "finetune/minilm/openvino/bf16/1x128"
    assert row.speedup_best.ci_low > 1
    assert row.speedup_best.ratio == pytest.approx(5.0 / 3.3, rel=0.05)
    assert row.speedup is not None
    assert row.speedup.vs == "finetune/minilm/onnxruntime/fp32/1x128"
    assert row.speedup.ratio == pytest.approx(16 / 3.3, rel=0.05)
    assert row.why is not None
    assert "is above 1" in row.why
    assert "within the budget" in row.why


def test_networks_that_look_at_images_of_different_sizes_are_compared() -> None:
    """Both are asked about one image; a batch of two is another question."""
    one, two = candidate(3.3, shape="1x3x64x64"), candidate(3.3, shape="2x3x64x64")
    judge([*baselines(shape="1x3x224x224"), one, two], LABELS, Budget(), control_expected=False)
    assert one.row.speedup is not None
    assert one.row.speedup.vs == "finetune/minilm/onnxruntime/fp32/1x3x224x224"
    assert one.row.speedup.ratio == pytest.approx(16 / 3.3, rel=0.05)
    assert two.row.speedup is None
    assert two.row.details["reasons"]["speedup"] == "There is no such baseline row at 2x3x64x64 on cpu."


def test_faster_than_onnxruntime_alone_does_not_pay() -> None:
    """4 times faster than the baseline in ONNX Runtime FP32 would pay; than its own best engine it is not."""
    row = verdict_of(candidate(6.0))
    assert row.speedup is not None
    assert row.speedup.ci_low > 2
    assert row.verdict == "does_not_pay"
    assert row.why is not None
    assert "below 1" in row.why
    assert "OpenVINO BF16 alone gives the baseline 3." in row.why


def test_a_certain_loss_does_not_pay_however_fast() -> None:
    row = verdict_of(candidate(1.0, lost=90, won=10))
    assert row.verdict == "does_not_pay"
    assert row.why is not None
    assert row.why.startswith("Metric drop 6.7")
    assert "above the budget of 1.0" in row.why


def test_an_uncertain_loss_is_inconclusive_and_says_how_many_items_would_do() -> None:
    row = verdict_of(candidate(3.3, lost=40, won=36))
    assert row.verdict == "inconclusive"
    assert row.metric_drop is not None
    assert row.metric_drop.value == pytest.approx(4 / N)
    assert row.metric_drop.ci_low < 0.01 < row.metric_drop.ci_high
    assert row.why is not None
    assert "1,200 test items cannot tell; about " in row.why


def test_an_uncertain_speed_up_is_inconclusive() -> None:
    row = verdict_of(candidate(4.999))
    assert row.speedup_best is not None
    assert row.speedup_best.ci_low < 1 < row.speedup_best.ci_high
    assert row.verdict == "inconclusive"
    assert "includes 1" in str(row.why)


def test_the_budget_is_what_decides() -> None:
    wide = verdict_of(candidate(3.3, lost=40, won=36), Budget(max_metric_drop=0.03))
    narrow = verdict_of(candidate(3.3, lost=40, won=36), Budget(max_metric_drop=0.0))
    assert wide.verdict == "pays"
    assert narrow.verdict == "inconclusive"


def test_a_size_goal_that_the_baseline_misses_pays_for_a_slow_row() -> None:
    slow = candidate(6.0, size_mb=29.0)
    assert verdict_of(slow, Budget(size_mb=30)).verdict == "pays"
    assert "Size 29.0 MB against the goal of 30: met" in str(slow.row.why)
    assert verdict_of(candidate(6.0, size_mb=31.0), Budget(size_mb=30)).verdict == "does_not_pay"
    met_anyway = verdict_of(candidate(6.0, size_mb=29.0), Budget(size_mb=50))  # the baseline's bf16 file has 45 MB
    assert met_anyway.verdict == "does_not_pay"
    assert "the baseline meets it too" in str(met_anyway.why)
    assert verdict_of(candidate(6.0, size_mb=None), Budget(size_mb=30)).verdict == "inconclusive"


def test_a_memory_goal_counts_too() -> None:
    assert verdict_of(candidate(6.0, peak_memory_mb=90.0), Budget(memory_mb=100)).verdict == "pays"


def test_foreign_load_decides_nothing_about_speed_but_something_about_quality() -> None:
    assert verdict_of(candidate(3.3, status="unstable")).verdict == "inconclusive"
    assert verdict_of(candidate(3.3, lost=90, won=10, status="unstable")).verdict == "does_not_pay"
    assert verdict_of(candidate(9.0, status="unstable", size_mb=20.0), Budget(size_mb=30)).verdict == "pays"
    shaky = [*baselines(status="unstable"), one := candidate(3.3)]
    judge(shaky, LABELS, Budget(), control_expected=False)
    assert one.row.verdict == "inconclusive"
    assert "its opponent was unstable" in str(one.row.why)


def test_a_lossy_baseline_engine_is_no_opponent() -> None:
    lossy = entry(TEACHER, "openvino", "int8", 2.0, flipped(RIGHT, 60, 5, 6))
    evidence = [*baselines(), lossy, one := candidate(3.3)]
    judge(evidence, LABELS, Budget(), control_expected=False)
    opponent = best_baseline(evidence, one.row)
    assert opponent is not None
    assert opponent.row.precision == "bf16"
    assert one.row.verdict == "pays"


def test_a_baseline_engine_with_a_tiny_certain_loss_still_counts() -> None:
    same = entry(TEACHER, "openvino", "int8", 2.0, flipped(RIGHT, 2, 0, 6))
    evidence = [*baselines(), same, one := candidate(3.3)]
    judge(evidence, LABELS, Budget(), control_expected=False)
    assert one.row.speedup_best is not None
    assert "int8" in one.row.speedup_best.vs


def test_metrics_drop_and_agreement_are_filled() -> None:
    fp32 = entry(STUDENT, "onnxruntime", "fp32", 9.0, flipped(RIGHT, 30, 10, 4))
    bf16 = entry(STUDENT, "openvino", "bf16", 3.0, flipped(flipped(RIGHT, 30, 10, 4), 6, 6, 8))
    base = baselines()
    judge([*base, fp32, bf16], LABELS, Budget(), control_expected=False)
    right = int(RIGHT.sum())
    assert fp32.row.metric == pytest.approx((right - 20) / N)
    assert fp32.row.metrics["accuracy"] == fp32.row.metric
    assert set(fp32.row.metrics) == {"accuracy", "macro_f1"}
    assert fp32.row.metric_n == N
    assert fp32.row.metric_drop is not None
    assert fp32.row.metric_drop.value == pytest.approx(20 / N)
    assert fp32.row.agreement == 1.0
    assert bf16.row.agreement == pytest.approx(1 - 12 / N)
    reference = base[0].row
    assert reference.metric_drop is not None
    assert (reference.metric_drop.ci_low, reference.metric_drop.ci_high) == (0.0, 0.0)
    assert reference.speedup is not None
    assert (reference.speedup.ci_low, reference.speedup.ci_high) == (1.0, 1.0)
    assert reference.verdict is None
    low, high = bf16.row.details["p50_interval_ms"]
    assert low < np.median(np.concatenate(bf16.rounds or [])) < high


def test_agreement_of_a_later_stage_falls_back_to_its_role() -> None:
    parent = entry(STUDENT, "onnxruntime", "fp32", 9.0)
    quantized = candidate(3.0, lost=12, stage="qat", precision="int8")
    control = entry(CONTROL, "onnxruntime", "fp32", 9.0, flipped(RIGHT, 200, 0, 5))
    judge([*baselines(), control, parent, quantized], LABELS, Budget(), control_expected=False)
    assert quantized.row.agreement == pytest.approx(1 - 12 / N)


def test_without_onnxruntime_another_fp32_engine_anchors_the_metric() -> None:
    evidence = [*baselines()[1:], one := candidate(3.3)]
    judge(evidence, LABELS, Budget(), control_expected=False)
    assert one.row.speedup is None
    assert "no such baseline row" in one.row.details["reasons"]["speedup"]
    assert one.row.details["metric_drop_vs"] == "finetune/minilm/openvino/fp32/1x128"
    assert one.row.verdict == "pays"


def test_shapes_are_compared_within_themselves() -> None:
    other = [entry(TEACHER, "onnxruntime", "fp32", 5.0, shape="data"), candidate(3.3, shape="data")]
    judge([*baselines(), *other], LABELS, Budget(), control_expected=False)
    assert other[1].row.speedup is not None
    assert other[1].row.speedup.vs.endswith("/data")
    assert other[1].row.speedup.ratio == pytest.approx(5 / 3.3, rel=0.05)


def test_rounds_that_cannot_be_paired_give_null_with_a_reason() -> None:
    row = verdict_of(candidate(3.3, rounds=5))
    assert row.speedup_best is None
    assert "5 rounds cannot be paired with the 8" in row.details["reasons"]["speedup_best"]
    assert row.verdict == "inconclusive"
    once = verdict_of(candidate(3.3, rounds=1))
    assert "two rounds" in once.details["reasons"]["speedup"]


def test_answers_that_are_not_finite_fail_the_row() -> None:
    bad = candidate(3.3)
    assert bad.logits is not None
    bad.logits[7, 1] = np.nan
    found = judge([*baselines(), bad], LABELS, Budget(), control_expected=False)
    assert (bad.row.status, bad.row.verdict, bad.row.metric) == ("failed", None, None)
    assert "1 of 1200 test items" in str(bad.row.why)
    assert found["verdict"] is None
    assert found["complete"] is False


def test_another_number_of_answers_is_an_error() -> None:
    with pytest.raises(ModelPressError, match="answered 1200 items, but there are 1199 labels"):
        judge(baselines(), LABELS[:-1], Budget(), control_expected=False)


def test_failed_rows_keep_their_reason_and_have_no_verdict() -> None:
    failed = Evidence(row_of(STUDENT, "openvino", "bf16", "1x128", status="failed", why="Out of memory."), None, None)
    judge([*baselines(), failed], LABELS, Budget(), control_expected=False)
    assert (failed.row.verdict, failed.row.why, failed.row.metric) == (None, "Out of memory.", None)


def test_without_labels_speed_and_agreement_are_still_compared() -> None:
    evidence = [*baselines(), one := candidate(3.3)]
    judge(evidence, None, Budget(), control_expected=False)
    assert one.row.metric is None
    assert one.row.verdict == "inconclusive"
    assert one.row.speedup_best is not None
    assert one.row.speedup_best.vs.endswith("onnxruntime/fp32/1x128") is False


@pytest.mark.parametrize(
    ("gains", "quality", "verdict"),
    [
        ([True], True, "pays"),
        ([False, True], True, "pays"),
        ([None, False], True, "inconclusive"),
        ([True], None, "inconclusive"),
        ([True], False, "does_not_pay"),
        ([None], False, "does_not_pay"),
        ([False], None, "does_not_pay"),
        ([False, False], True, "does_not_pay"),
    ],
)
def test_the_decision_table(gains: list[bool | None], quality: bool | None, verdict: str) -> None:
    assert decide(gains, quality) == verdict
