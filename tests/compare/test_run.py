from __future__ import annotations

import gc
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from modelpress.compare.overrides import overrides
from modelpress.compare.run import Run, read, read_all
from tests.compare.worlds import TEMPERATURE, lineage, put, report, rows, status


def test_a_finished_run(tmp_path: Path) -> None:
    run = read(put(tmp_path / "t1", report(temperature=4, seed=3)))
    assert (run.status, run.seed, run.name, run.seconds) == ("done", 3, "reviews_tinybert_distill", 12.0)
    assert run.overrides == {"technique": "distill", TEMPERATURE: 4.0}
    assert run.origin.machine == "AMD EPYC, 2 cores"
    assert run.report is not None
    assert run.report.rows[0].details == {"p50_interval_ms": pytest.approx([8.82, 9.18])}


def test_a_default_is_found_in_the_lineage(tmp_path: Path) -> None:
    run = read(put(tmp_path / "t1", report(temperature=2, command="python run.py")))
    assert (run.setting(TEMPERATURE), run.setting("technique"), run.setting("benchmark")) == (2.0, "distill", "quick")
    assert (run.setting("model"), run.setting("model@teacher")) == ("tinybert", "minilm")
    assert run.setting("engine") == "[onnxruntime,openvino]"
    assert run.setting("model.nothing") is None


def test_seeds_share_a_recipe_and_other_settings_do_not(tmp_path: Path) -> None:
    def recipe(name: str, **changes: object) -> str:
        return read(put(tmp_path / name, replace(report(), **changes))).origin.recipe  # type: ignore[arg-type]

    first = recipe("a", seed=1, lineage=lineage(1, 2))
    assert recipe("b", seed=2, lineage=lineage(2, 2)) == first
    assert recipe("c", lineage=lineage(1, 4)) != first
    assert recipe("d", dataset={"name": "reviews", "fingerprint": "other"}) != first
    assert recipe("e", environment={"before": {"cpu": "other", "cores": 2}}) != first


@pytest.mark.parametrize(
    ("name", "state", "reason"),
    [
        ("9", "failed", "temperature is -1; it must be positive."),
        ("10", "stopped", "there is no process 4194305 here"),
        ("11", "unreadable", "cut off or damaged"),
        ("12", "unreadable", "schema_version 99; this ModelPress reads up to 1"),
    ],
)
def test_what_did_not_finish_is_kept_with_its_reason(runs: list[Run], name: str, state: str, reason: str) -> None:
    run = next(run for run in runs if run.folder.name == name)
    assert (run.status, run.report) == (state, None)
    assert reason in run.reason
    assert TEMPERATURE in run.overrides


def test_running_told_to_write_nothing_and_damaged_status(tmp_path: Path) -> None:
    assert read(status(tmp_path / "a", "running", pid=os.getpid())).status == "running"
    assert read(status(tmp_path / "b", "done")).status == "no report"
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "status.json").write_text('{"sta')
    assert read(tmp_path / "c").status == "unreadable"
    (tmp_path / "c" / "status.json").write_text("[]")
    assert "no JSON object" in read(tmp_path / "c").reason
    assert read(status(tmp_path / "d", "odd")).reason == "its status.json is odd."


def test_a_report_of_another_shape_does_not_stop_the_others(tmp_path: Path) -> None:
    put(tmp_path / "good", report())
    content = json.loads((tmp_path / "good" / "report.json").read_text())
    for name, change in {"environment": [], "lineage": [1], "rows": [{"id": 1}], "dataset": None}.items():
        folder = status(tmp_path / name, "done")
        (folder / "report.json").write_text(json.dumps(content | {name: change}))
    states = {run.folder.name: run.status for run in read_all(sorted(tmp_path.iterdir()))}
    assert states.pop("good") == "done"
    assert set(states.values()) == {"unreadable"}


def test_a_run_that_failed_after_its_report_keeps_both(tmp_path: Path) -> None:
    put(tmp_path / "t1", report())
    run = read(status(tmp_path / "t1", "failed", "the tracker was unreachable"))
    assert (run.status, run.reason) == ("failed", "the tracker was unreachable")
    assert run.report is not None
    assert len(run.report.rows) == len(rows(3.0, 0.82))


def test_the_collector_is_on_again_after_reading(tmp_path: Path) -> None:
    read_all([put(tmp_path / "t1", report())])
    assert gc.isenabled()


def test_a_command_that_nobody_typed() -> None:
    assert overrides("python -m bench accuracy (seed 3)") == {}
    assert overrides("run.py 'unclosed") == {}
    assert overrides("modelpress run --config-dir=x ++a.b=null ~c hydra/launcher=ray") == {"a.b": None}


def test_a_job_of_another_machine_is_not_called_stopped(tmp_path: Path) -> None:
    facts = {"pid": 2**22 + 1, "command": "python run.py"}
    here = read(status(tmp_path / "1", "running", host=os.uname().nodename, **facts))
    there = read(status(tmp_path / "2", "running", host="elsewhere", **facts))
    assert (here.status, there.status) == ("stopped", "running")
    assert "on another machine" in there.reason
    assert "elsewhere" not in there.reason  # tables are passed on; names of machines stay at home


def test_a_trained_job_waits(tmp_path: Path) -> None:
    run = read(status(tmp_path / "1", "trained", command="python run.py"))
    assert (run.status, run.report) == ("trained", None)
    assert "waits to be measured" in run.reason
