"""A job of a search that is behind stops in the middle of its training."""

from __future__ import annotations

from pathlib import Path

import pytest

import tests.sweep.jobs as jobs
import tests.toy as toy
from modelpress.callbacks.median import Median, medians
from modelpress.objectives.task import Task
from modelpress.status import Status
from modelpress.sweep import curve
from modelpress.sweep.rules import Rules, Skipped

RULES = Rules({"metric": "maximize"}, pruner="median")
METRIC = "toy/validation/accuracy"


def fit(job: Path, epochs: int = 4) -> None:
    module = toy.technique(Task(), steps=epochs * toy.BATCHES)
    trainer = toy.trainer(job, Median(METRIC, job, RULES), max_epochs=epochs)
    with toy.known_warnings():
        trainer.fit(module, toy.loader(), toy.loader(2, seed=9))


def siblings(sweep: Path, value: float) -> None:
    for number in range(curve.STARTUP):
        place = sweep / str(number)
        place.mkdir(parents=True)
        curve.write(place, {epoch * toy.BATCHES: value for epoch in range(1, 9)})
        jobs.report_of(place, metric=value, p50=1.0).save(place / "report.json")
        Status(place, "x").done(value)


def test_a_job_that_is_behind_stops_at_its_second_validation(tmp_path: Path) -> None:
    siblings(tmp_path, 2.0)  # better than any accuracy
    with pytest.raises(Skipped, match="where half of the jobs had 2 or more"):
        fit(tmp_path / "9")
    assert list(curve.read(tmp_path / "9")) == [toy.BATCHES, 2 * toy.BATCHES]


def test_a_job_that_is_not_goes_on(tmp_path: Path) -> None:
    siblings(tmp_path, -1.0)
    fit(tmp_path / "9", epochs=3)
    assert list(curve.read(tmp_path / "9")) == [toy.BATCHES * epoch for epoch in (1, 2, 3)]
    fit(tmp_path / "9", epochs=1)  # from the start, not continued: the old curve is gone
    assert list(curve.read(tmp_path / "9")) == [toy.BATCHES]


def test_only_the_last_stage_of_a_search_that_asks_for_it(tmp_path: Path) -> None:
    job = tmp_path / "0"
    assert medians(job, METRIC, is_last=True) == []
    Rules({"metric": "maximize"}).write(tmp_path)
    assert medians(job, METRIC, is_last=True) == []
    RULES.write(tmp_path)
    assert medians(job, METRIC, is_last=False) == []
    assert len(medians(job, METRIC, is_last=True)) == 1
