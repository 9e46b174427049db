from __future__ import annotations

import pytest

from modelpress.benchmark import statistics
from modelpress.report.extras import Extras
from modelpress.report.record import Report
from tests.report.example import example_extras, example_report


@pytest.fixture
def fewer_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bootstrap itself is tested in tests/benchmark; here only what is done with it."""
    exact = statistics.ratio_interval
    monkeypatch.setattr(statistics, "ratio_interval", lambda base, row, **_: exact(base, row, resamples=150))


@pytest.fixture(scope="session")
def example() -> tuple[Report, Extras]:
    """A judged report with everything in it, and its curves, traces and diagnostics. Do not change it."""
    report, entries = example_report()
    return report, example_extras(entries)


@pytest.fixture(scope="session")
def report(example: tuple[Report, Extras]) -> Report:
    return example[0]


@pytest.fixture(scope="session")
def extras(example: tuple[Report, Extras]) -> Extras:
    return example[1]
