from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modelpress.benchmark import energy
from modelpress.benchmark import measure as module
from modelpress.benchmark.lane import Lane
from modelpress.benchmark.measure import Session, Subject, Workload, load_session, measure
from modelpress.benchmark.process import process_state
from modelpress.benchmark.statistics import ratio_interval
from modelpress.engines.base import Artifact, Hardware
from modelpress.engines.onnxruntime import OnnxRuntime
from modelpress.engines.openvino import OpenVino
from modelpress.errors import ModelPressError
from tests.benchmark.fakes import plan, settings
from tests.engines import graphs

ONE = Hardware(threads=1)


def of(subject: str, session: Session) -> set[str]:
    return {row.status for row in session.measurements if row.subject == subject}


@pytest.mark.usefixtures("no_leftovers")
def test_real_engines(float_graph: Path, fixed: Path, ragged: Path, tmp_path: Path) -> None:
    built = [
        *OnnxRuntime().build(Artifact(float_graph), ONE, tmp_path / "ort"),
        *OpenVino(["fp32"]).build(Artifact(float_graph), ONE, tmp_path / "ov"),
    ]
    subjects = [Subject(f"tiny/{p.engine}/{p.precision}", p) for p in built]
    workloads = [Workload("1x16", fixed), Workload("data", ragged)]
    session = measure(
        subjects, workloads, {"main": ragged}, settings(rounds=4, block_queries=16), ONE, tmp_path / "bench"
    )

    assert [(row.subject, row.shape) for row in session.measurements] == [
        (subject.id, shape) for subject in subjects for shape in ("1x16", "data")
    ]
    for row in session.measurements:
        assert (row.status, row.why, row.precision) == ("ok", None, "fp32")
        assert row.latency_ms is not None
        assert row.latency_ms.n == sum(map(len, row.rounds)) >= 64
        assert row.latency_ms.p90 is not None
        assert len(row.rounds) == 4
        assert row.peak_memory_mb is not None
        assert row.memory_above_interpreter_mb is not None
        assert 5 < row.memory_above_interpreter_mb < row.peak_memory_mb
        assert row.cold_start_ms == pytest.approx(row.details["cold_start"]["total_ms"])
        assert row.throughput_per_s is not None
        assert row.throughput_per_s > 0
        assert row.details["throughput"]["batch"] == 4
        assert row.details["evaluation"]["items"] == 22
        assert (row.energy_j_per_sample is None) == (energy.read() is None)

    lengths = np.load(ragged)["lengths"]
    ids, mask = np.load(ragged)["input_ids"], np.load(ragged)["attention_mask"]
    for subject in subjects:
        logits = np.load(session.logits[subject.id])
        # batches of 4 of similar length: the tiny graph averages over padding, so compare items as they were batched
        order = np.argsort(lengths, kind="stable")
        for start in range(0, 22, 4):
            part = order[start : start + 4]
            width = lengths[part].max()
            expected = graphs.reference(ids[part, :width], mask[part, :width])
            np.testing.assert_allclose(logits[part], expected, rtol=1e-4, atol=1e-5)

    again = load_session(tmp_path / "bench")
    assert again.measurements == session.measurements
    assert again.logits == session.logits
    assert again.machine_before["cpu"] == session.machine_after["cpu"]
    ratio = ratio_interval(again.of(subjects[0].id, "1x16").rounds, again.of(subjects[1].id, "1x16").rounds)
    assert ratio.ci_low <= ratio.value <= ratio.ci_high


@pytest.mark.usefixtures("no_leftovers")
def test_the_faults_of_some_do_not_stop_the_others(
    fixed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    block = Lane.block

    def shoot(self: Lane, number: int, position: int) -> None:
        if self.subject.id == "shot" and number == 2 and self.worker is not None:
            os.kill(self.worker.pid, signal.SIGKILL)
        block(self, number, position)

    monkeypatch.setattr(Lane, "block", shoot)
    subjects = [
        Subject("shot", plan()),
        Subject("segfault", plan(fault="segfault")),
        Subject("steady", plan(sleep_ms=0.5)),
        Subject("unsupported", plan(precision="bf16", fault="unsupported")),
        Subject("absent", plan("Absent")),
    ]
    session = measure(subjects, [Workload("1x16", fixed)], {"main": fixed}, settings(), ONE, tmp_path)
    rows = {row.subject: row for row in session.measurements}
    assert {name: row.status for name, row in rows.items()} == {
        "shot": "failed", "segfault": "failed", "steady": "ok", "unsupported": "unsupported", "absent": "failed",
    }  # fmt: skip
    assert "SIGKILL" in str(rows["shot"].why)
    assert len(rows["shot"].rounds) == 2
    assert rows["shot"].latency_ms is None
    assert "SIGSEGV" in str(rows["segfault"].why)
    assert (rows["unsupported"].why, rows["unsupported"].precision) == ("this machine lacks a flux capacitor", "bf16")
    assert (tmp_path / rows["segfault"].details["log"]).is_file()
    assert list(session.logits) == ["steady"]
    assert rows["steady"].latency_ms is not None
    assert rows["steady"].latency_ms.min >= 0.5
    assert load_session(tmp_path).measurements == session.measurements


@pytest.mark.usefixtures("no_leftovers")
def test_only_the_engine_whose_turn_it_is_runs(fixed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lanes: list[Lane] = []
    turns: list[tuple[str, tuple[str, ...]]] = []
    make, block = module.Lane.__init__, Lane._block

    def remember(self: Lane, *arguments: Any) -> None:
        make(self, *arguments)
        lanes.append(self)

    def look(self: Lane, shape: str, number: int) -> None:
        others = tuple(str(process_state(lane.worker.pid)) for lane in lanes if lane is not self and lane.worker)
        turns.append((self.subject.id, others))
        block(self, shape, number)

    monkeypatch.setattr(Lane, "__init__", remember)
    monkeypatch.setattr(Lane, "_block", look)
    subjects = [Subject(name, plan()) for name in "abc"]
    session = measure(subjects, [Workload("1x16", fixed)], {}, settings(rounds=6), ONE, tmp_path)
    assert {states for _, states in turns} == {("T", "T")}
    assert "".join(name for name, _ in turns) == "abccbabcaacbcabbac"
    assert [np.mean(row.details["positions"]) for row in session.measurements] == [1, 1, 1]


def test_a_cold_start_says_whether_compiled_kernels_were_kept(fixed: Path, tmp_path: Path) -> None:
    """They are kept after the warm-up, so all cold starts of one measurement are alike."""
    kernels = str(tmp_path / "kernels")
    subjects = [Subject("compiles", plan(kernels=kernels)), Subject("does not", plan())]
    found = []
    for turn in ("first", "second"):
        place, short = tmp_path / turn, settings(rounds=2, cold_starts=2)
        rows = measure(subjects, [Workload("1x16", fixed)], {}, short, ONE, place).measurements
        found.append([row.details["cold_start"].get("kernels_kept") for row in rows])
    assert found == [[False, None], [True, None]]


def test_several_cold_starts_give_their_median(fixed: Path, tmp_path: Path) -> None:
    session = measure(
        [Subject("a", plan())], [Workload("1x16", fixed)], {}, settings(rounds=2, cold_starts=3), ONE, tmp_path
    )
    [row] = session.measurements
    assert row.details["cold_starts"] == 3
    assert row.cold_start_ms == row.details["cold_start"]["total_ms"] > 0


def test_foreign_load_marks_the_row(fixed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modelpress.benchmark.load.Usage.foreign_share", property(lambda _: 0.4))
    strict = settings(rounds=2, max_foreign_share=0.05)
    [row] = measure([Subject("a", plan())], [Workload("1x16", fixed)], {}, strict, ONE, tmp_path).measurements
    assert row.status == "unstable"
    assert row.why == "other processes used 40% of the processor (limit 5%)"
    assert row.latency_ms is not None


@pytest.mark.usefixtures("no_leftovers")
@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_ctrl_c_kills_the_workers(
    error: type[BaseException], fixed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pids: list[int] = []

    def interrupt(self: Lane, shape: str, number: int) -> None:
        assert self.worker is not None
        pids.append(self.worker.pid)
        raise error

    monkeypatch.setattr(Lane, "_block", interrupt)
    with pytest.raises(error):
        measure([Subject(n, plan()) for n in "ab"], [Workload("1x16", fixed)], {}, settings(), ONE, tmp_path)
    assert [process_state(pid) for pid in pids] == [None]
    assert not (tmp_path / "measurements.json").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s, w: (s * 2, w), "engine given twice in one benchmark: a"),
        (lambda s, w: (s, w * 2), "shape given twice in one benchmark: 1x16"),
        (lambda s, w: ([], w), "0 engines and 1 shapes"),
        (lambda s, w: (s, [Workload("x", Path("absent.npz"))]), r"absent\.npz does not exist"),
    ],
)
def test_bad_arguments(
    change: Callable[[list[Subject], list[Workload]], tuple[list[Subject], list[Workload]]],
    message: str,
    fixed: Path,
    tmp_path: Path,
) -> None:
    subjects, workloads = change([Subject("a", plan())], [Workload("1x16", fixed)])
    with pytest.raises(ModelPressError, match=message):
        measure(subjects, workloads, {}, settings(), ONE, tmp_path)


def test_a_damaged_session_says_so(tmp_path: Path) -> None:
    with pytest.raises(ModelPressError, match="Run the benchmark again"):
        load_session(tmp_path)
    (tmp_path / "measurements.json").write_text(json.dumps({"measurements": []}))
    with pytest.raises(ModelPressError, match="no readable benchmark"):
        load_session(tmp_path)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"rounds": 3}, r"benchmark\.rounds is 3; it must be even"),
        ({"cold_starts": 0}, r"benchmark\.cold_starts is 0"),
        ({"block_ms": -1}, r"benchmark\.block_ms is -1"),
    ],
)
def test_settings_are_checked(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelPressError, match=message):
        settings(**values)
