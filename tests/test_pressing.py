"""The end of a run: what is measured again, what is not, and what becomes of engines that cannot be built."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import tests.tiny as tiny
from modelpress.config import compose
from modelpress.errors import ModelPressError
from modelpress.job import Job
from modelpress.pipeline import execute, plan
from modelpress.report.record import Report

ROOT = Path(__file__).parents[1]


@pytest.fixture
def own(tmp_path: Path) -> str:
    """A copy of the finished run's store, for tests that add to it."""
    shutil.copytree(tiny.finished() / "store", tmp_path / "store")
    return f"store={tmp_path / 'store'}"


def run(folder: Path, *extra: str) -> Report:
    folder.mkdir()
    report = execute(Job.of(compose(tiny.fast(tiny.finished(), *extra)), folder, "test"))
    assert report is not None
    return report


def kinds(report: Report) -> dict[str, set[bool]]:
    """Kind of store entry -> whether they came from the store."""
    found: dict[str, set[bool]] = {}
    for entry in report.lineage:
        found.setdefault(entry["kind"], set()).add(entry["reused"])
    return found


def test_what_is_finished_counts_as_measured() -> None:
    assert tiny.pressing(tiny.finished(), "first").is_measured()


@pytest.mark.parametrize(
    "change", ["benchmark.rounds=4", "benchmark.shapes=[1x16]", "benchmark.requests=17", "benchmark.repeat=1"]
)
def test_other_settings_are_another_measurement_of_the_same_networks(change: str) -> None:
    assert not tiny.pressing(tiny.finished(), "first", change).is_measured()
    steps = plan(compose(tiny.fast(tiny.finished(), change)))
    assert [(step.kind, step.hit) for step in steps] == [("stage", True), ("stage", True), ("press", False)]


@pytest.mark.parametrize("change", ["name=other", "budget.max_metric_drop=0.5", "logger=none"])
def test_what_only_names_or_judges_measures_nothing(change: str) -> None:
    assert tiny.pressing(tiny.finished(), "first", change).is_measured()


def test_measured_again_but_not_trained_again(own: str, tmp_path: Path) -> None:
    report = run(tmp_path / "again", own, "benchmark.shapes=[1x16]")
    assert kinds(report) == {"stage": {True}, "export": {True}, "measurement": {False}}
    assert {row.shape for row in report.rows} == {"1x16"}
    assert all("latency_from" not in row.details for row in report.rows)


def test_an_engine_that_cannot_be_built_becomes_rows_with_its_reason(own: str, tmp_path: Path) -> None:
    engines = ("engine=[onnxruntime,openvino]", "engine.onnxruntime.precisions=[fp16]")
    report = run(tmp_path / "mixed", own, *engines, "engine.openvino.precisions=[fp32]")
    absent = [row for row in report.rows if row.engine == "onnxruntime"]
    built = [row for row in report.rows if row.engine == "openvino"]
    assert [(row.status, row.precision, row.latency_ms, row.metric) for row in absent] == [
        ("unsupported", "fp16", None, None)
    ] * 2
    assert all("converts nothing" in str(row.why) for row in absent)
    assert all(row.status in ("ok", "unstable") and row.metric is not None for row in built)
    assert {row.role for row in built} == {row.role for row in absent} == {"baseline", "candidate"}
    assert "converts nothing" in (tmp_path / "mixed" / "report.html").read_text()


def test_no_engine_at_all_is_an_error_with_the_reasons(own: str, tmp_path: Path) -> None:
    with pytest.raises(ModelPressError, match="onnxruntime.*converts nothing"):
        run(tmp_path / "none", own, "engine.onnxruntime.precisions=[fp16]")
    assert not (tmp_path / "none" / "report.json").exists()


def test_what_is_in_the_store_is_told_again_without_torch(tmp_path: Path) -> None:
    world = tiny.finished()
    code = (
        "import sys\nfrom pathlib import Path\nimport tests.tiny as tiny\nfrom modelpress.config import compose\n"
        "from modelpress.job import Job\nfrom modelpress.pipeline import execute\n"
        f"report = execute(Job.of(compose(tiny.fast(Path({str(world)!r}))), Path({str(tmp_path)!r})))\n"
        "print('rows', len(report.rows), sorted({'torch', 'lightning', 'transformers'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "rows 2 []"
