from __future__ import annotations

import statistics
from dataclasses import replace
from pathlib import Path

import pytest

from modelpress.compare.columns import known
from modelpress.compare.lines import Line, compare, in_reading_order, mark_front, sort, swept
from modelpress.compare.run import Run, read_all
from modelpress.compare.where import parse
from modelpress.report.record import Report
from tests.compare.worlds import TEMPERATURE, put, report

BEST = "tinybert/distill/openvino/bf16/1x128"


def candidates(lines: list[Line]) -> list[Line]:
    return [line for line in lines if line.role == "candidate"]


def where(runs: list[Run], *texts: str) -> list[Line]:
    return compare(runs, [parse(text, known(runs)) for text in texts])


def made(tmp_path: Path, *reports: Report) -> list[Run]:
    return read_all([put(tmp_path / str(n), one, f"2026-11-22T0{n}:00:00") for n, one in enumerate(reports)])


def test_seeds_are_one_line_and_baselines_stand_once(runs: list[Run]) -> None:
    lines = compare(runs)
    assert [line.role for line in lines].count("baseline") == 2
    found = {line.values[TEMPERATURE]: line for line in candidates(lines)}
    assert set(found) == {1.0, 2.0, 4.0}
    metrics, p50s = [0.823, 0.825, 0.827], [3.15, 3.2, 3.25]
    assert [row.id for row in found[2.0].rows] == [BEST] * 3
    assert found[2.0].values["metric"] == pytest.approx(statistics.mean(metrics))
    assert found[2.0].spreads["metric"] == pytest.approx(statistics.stdev(metrics))
    assert found[2.0].values["latency_ms.p50"] == pytest.approx(statistics.mean(p50s))
    assert found[2.0].spreads["latency_ms.p50"] == pytest.approx(statistics.stdev(p50s))
    assert found[2.0].values["seed"] == "1, 2, 3"


def test_nothing_is_dropped(runs: list[Run]) -> None:
    lines = compare(runs)
    assert {run.folder for line in lines for run in line.runs} >= {run.folder for run in runs if run.report is None}
    unfinished = {line.values[TEMPERATURE]: line.values["status"] for line in lines if not line.rows}
    assert unfinished == {-1.0: "failed", 8.0: "stopped", 16.0: "unreadable", 32.0: "unreadable"}


def test_seeds_apart_and_all_rows(runs: list[Run]) -> None:
    apart = compare(runs, seeds_apart=True)
    assert len(candidates(apart)) == 9
    assert [line.role for line in apart].count("baseline") == 2 * 3  # a baseline per seed
    assert not any(line.spreads for line in apart)
    every = compare(runs, every=True)
    assert len(candidates(every)) == 3 * 4
    assert [line.role for line in every].count("baseline") == 4


def test_conditions_on_rows_choose_another_best_row(runs: list[Run]) -> None:
    lines = where(runs, "engine=onnxruntime", "temperature>1")
    assert {line.values["engine"] for line in lines if line.rows} == {"onnxruntime"}
    assert [line.values[TEMPERATURE] for line in candidates(lines)] == [2.0, 4.0]
    assert {line.values[TEMPERATURE] for line in lines if not line.rows} == {8.0, 16.0, 32.0}


def test_conditions_on_figures_judge_the_mean_and_not_one_seed(runs: list[Run]) -> None:
    lines = candidates(where(runs, "metric>=0.8249"))
    assert [line.values[TEMPERATURE] for line in lines] == [2.0]
    assert len(lines[0].runs) == 3  # its worst seed has 0.823
    assert {line.values["status"] for line in where(runs, "status=failed")} == {"failed"}


def test_seeds_whose_best_rows_differ_show_the_same_row(tmp_path: Path) -> None:
    other = {"verdict": "pays", "row": "tinybert/distill/onnxruntime/fp32/1x128", "words": "…"}
    runs = made(tmp_path, report(seed=1), report(seed=2, verdict=other), report(seed=3))
    assert [row.id for line in candidates(compare(runs)) for row in line.rows] == [BEST] * 3


def test_the_newest_run_of_a_seed_speaks(tmp_path: Path) -> None:
    runs = made(tmp_path, report(seed=1, metric=0.7), report(seed=1, metric=0.8), report(seed=2, metric=0.82))
    line = candidates(compare(runs))[0]
    assert (line.values["metric"], line.older) == (pytest.approx(0.81), 1)


def test_other_data_is_another_scene_with_a_front_of_its_own(tmp_path: Path) -> None:
    small = {"name": "reviews", "fingerprint": "beef"}
    runs = made(tmp_path, report(p50=1.0, metric=0.9), report(temperature=4, p50=2.0, metric=0.7, dataset=small))
    lines = compare(runs)
    assert mark_front(lines, "latency_ms.p50", "metric")
    assert len({line.scene for line in lines}) == 2
    assert all(line.front for line in candidates(lines))


def test_the_front_of_the_sweep(runs: list[Run]) -> None:
    lines = compare(runs)
    assert mark_front(lines, "latency_ms.p50", "metric")
    assert {line.values[TEMPERATURE] for line in candidates(lines) if line.front} == {1.0, 2.0}
    assert not mark_front(lines, TEMPERATURE, "metric")


def test_sorting_puts_the_best_first_and_gaps_last(runs: list[Run]) -> None:
    lines = compare(runs)
    metrics = [line.values.get("metric") for line in sort(lines, "metric")]
    known_ = [value for value in metrics if value is not None]
    assert known_ == sorted(known_, reverse=True)
    assert metrics[-4:] == [None] * 4
    assert sort(lines, "latency_ms.p50")[0].values[TEMPERATURE] == 1.0
    assert sort(lines, "latency_ms.p50", reverse=True)[0].values["latency_ms.p50"] == 9.0
    assert [line.role for line in in_reading_order(lines, "latency_ms.p50")][:2] == ["baseline"] * 2


def test_what_differs(tmp_path: Path, runs: list[Run]) -> None:
    assert swept(compare(runs), runs) == [TEMPERATURE]
    defaults = made(tmp_path, report(temperature=2, command="python run.py"), report(temperature=4))
    assert swept(compare(defaults), defaults) == [TEMPERATURE]
    assert {line.values[TEMPERATURE] for line in candidates(compare(defaults))} == {2.0, 4.0}


def test_an_unstable_seed_shows(tmp_path: Path) -> None:
    shaky = report(seed=2)
    shaky.rows = [
        replace(row, status="unstable", verdict="inconclusive") if row.id == BEST else row for row in shaky.rows
    ]
    line = candidates(compare(made(tmp_path, report(seed=1), shaky)))[0]
    assert (line.values["status"], line.values["verdict"]) == ("1 ok, 1 unstable", "1 pays, 1 inconclusive")


def test_a_run_that_compressed_nothing_shows_its_baselines(tmp_path: Path) -> None:
    bare = report(verdict={"verdict": None, "row": None, "words": "No verdict"})
    bare.rows = [row for row in bare.rows if row.role == "baseline"]
    lines = compare(made(tmp_path, bare))
    assert [(line.role, line.values["shape"]) for line in lines] == [("baseline", "1x128")] * 2
