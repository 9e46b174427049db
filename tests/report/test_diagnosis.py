from __future__ import annotations

import pytest

from modelpress.report import diagnosis
from modelpress.report.evidence import Evidence
from modelpress.report.record import Row
from tests.report.example import STUDENT, TEACHER, row_of


def row(**details: object) -> Row:
    return row_of(STUDENT, "openvino", "int8", "1x128", details=details)


def test_fallback_names_both_precisions() -> None:
    one = row(precision_asked="bf16")
    one.precision = "fp32"
    assert diagnosis.fallback(one) == "BF16 was asked for, but OpenVINO ran FP32."
    assert diagnosis.fallback(row(precision_asked="int8")) == ""
    assert diagnosis.fallback(row()) == ""


def test_widths_that_do_not_fit() -> None:
    words = diagnosis.widths(row(widths=[26, 312, 1200, 26], kernel_multiple=16))
    assert words.startswith("Widths of 312 and 26 are no multiples of 16")
    assert diagnosis.widths(row(widths=[32, 320], kernel_multiple=16)) == ""
    assert diagnosis.widths(row(widths=[26])) == ""


@pytest.mark.parametrize(("operators", "said"), [(100, True), (40, False), (None, False)])
def test_launch_bound(operators: int | None, said: bool) -> None:
    """1 ms over 100 operators is 10 microseconds each; over 40 it is 25."""
    one = Evidence(row(operators=operators), [[1.0, 1.0], [1.0, 1.0]], None)
    assert ("Launch-bound" in diagnosis.launches(one)) is said


def test_zeros_that_nobody_skips() -> None:
    one = row()
    one.sparsity = 0.5
    assert diagnosis.zeros(one).startswith("50 % of the weights are zero")
    one.details["sparse_kernels"] = True
    assert diagnosis.zeros(one) == ""


@pytest.mark.parametrize(("sparsity", "said"), [(0.7, True), (0.02, False), (None, False)])
def test_zeros_are_told_from_a_share_on_that_rounding_does_not_make(sparsity: float | None, said: bool) -> None:
    one = row()
    one.sparsity = sparsity
    assert diagnosis.is_sparse(one) is said
    assert (diagnosis.zeros(one) != "") is said


def test_unfused_patterns() -> None:
    assert diagnosis.unfused(row(unfused=["attention", "LayerNorm"])) == (
        "The graph was not fused: attention and LayerNorm."
    )


def test_arithmetic_rate_against_the_baseline_in_the_same_engine() -> None:
    """Baseline 1.45 GMAC in 5 ms: 290 GMAC/s; candidate 0.62 GMAC in 5 ms: 124, less than half."""
    base = Evidence(row_of(TEACHER, "openvino", "int8", "1x128"), [[5.0], [5.0]], None)
    slow = Evidence(row(), [[5.0], [5.0]], None)
    quick = Evidence(row(), [[3.0], [3.0]], None)
    assert "It does 124 GMAC/s where the baseline does 290" in " ".join(diagnosis.diagnose([base, slow], slow))
    assert diagnosis.diagnose([base, quick], quick) == []
