from __future__ import annotations

import math

import pytest

from modelpress.report.numbers import (
    beside,
    decimals,
    fixed,
    latency_text,
    plural,
    points_text,
    ratio_text,
    share_text,
    significant,
    wilson,
)
from modelpress.report.record import Interval, Latency, Ratio
from tests.report.example import STUDENT, row_of


@pytest.mark.parametrize(
    ("half_width", "places"),
    [(12.0, 0), (3.5, 0), (1.4, 1), (0.96, 1), (0.3, 1), (0.24, 2), (0.14, 2), (0.05, 2), (0.001, 2), (0.0, 2)],
)
def test_decimals_follow_the_uncertainty(half_width: float, places: int) -> None:
    assert decimals(half_width) == places


def test_no_more_digits_than_the_interval_supports() -> None:
    assert ratio_text(Ratio("b", 4.6379, 4.5912, 4.6801)) == "4.64x [4.59, 4.68]"
    assert ratio_text(Ratio("b", 4.6379, 4.2, 5.1)) == "4.6x [4.2, 5.1]"
    assert ratio_text(Ratio("b", 4.6379, 1.2, 9.1)) == "5x [1, 9]"
    assert points_text(Interval(0.00412, -0.0061, 0.0143)) == "0.4 [-0.6, 1.4]"
    assert ratio_text(Ratio("b", 1.0, 1.0, 1.0)) == "1x"
    assert points_text(Interval(0.0, -0.0015, 0.0015), interval=False) == "0.00"


def test_fixed_has_no_negative_zero_and_significant_no_exponent() -> None:
    assert fixed(-0.0001, 1) == "0.0"
    assert [significant(value) for value in (0.0, 0.01234, 1.005, 14.26, 123.4, 12345.6)] == [
        *("0", "0.0123", "1.00", "14.3", "123", "12346"),
    ]
    assert plural(1.0, "point") == "1 point"
    assert plural(0.2, "point") == "0.2 points"


def test_bounds_and_thresholds_never_look_equal_unless_they_are() -> None:
    assert beside(1.004, 1.0, 1) == ("1.004", "1.000")
    assert beside(1.0, 1.0, 1) == ("1.0", "1.0")
    assert beside(0.8, 1.0, 1) == ("0.8", "1.0")


@pytest.mark.parametrize(("hits", "n"), [(0, 10), (7, 10), (2156, 2591), (50, 50)])
def test_wilson_bounds_solve_the_score_equation(hits: int, n: int) -> None:
    """Wilson's bounds are the shares p at which |hits/n - p| is z standard errors of p itself."""
    z = 1.959963984540054
    for bound in wilson(hits / n, n):
        if 0 < bound < 1:
            assert abs(hits / n - bound) == pytest.approx(z * math.sqrt(bound * (1 - bound) / n), rel=1e-9)
        else:
            assert hits in (0, n)


def test_shares_show_what_the_items_support() -> None:
    assert share_text(0.83212, 2591) == "83.2"
    assert share_text(0.83212, 40) == "83"
    assert share_text(0.83212, None) == "83.2"


def test_latency_takes_its_digits_from_the_interval() -> None:
    row = row_of(STUDENT, "openvino", "bf16", "1x128")
    assert latency_text(row) == "–"
    row.latency_ms = Latency(16.3187, 18.0, 19.0, None, 15.0, 0.1, 200)
    assert latency_text(row) == "16.3"
    row.details["p50_interval_ms"] = [12.0, 20.0]
    assert latency_text(row) == "16"
    row.details["p50_interval_ms"] = [16.31, 16.33]
    assert latency_text(row) == "16.3"
    assert latency_text(row, "p99") == "–"
