"""A run whose last stage becomes a TensorRT-RTX engine on a machine without a GPU: built, and its row says the rest."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import tests.tiny as tiny
from modelpress.config import compose
from modelpress.engines import driver
from modelpress.engines.trt import sidecar
from modelpress.job import Job
from modelpress.pipeline import execute
from modelpress.press import is_pressed, press
from modelpress.report.record import load


@pytest.fixture
def own(tmp_path: Path) -> list[str]:
    """A copy of the finished run's store, and both engines."""
    shutil.copytree(tiny.finished() / "store", tmp_path / "store")
    return [f"store={tmp_path / 'store'}", "engine=[onnxruntime,tensorrt_rtx]", "engine.tensorrt_rtx.max_profiles=2"]


def test_profiles_are_fitted_to_the_training_texts_and_part_of_the_key(own: list[str]) -> None:
    pressing = tiny.pressing(tiny.finished(), "first", *own)
    stage = pressing.graph.last
    found = press(pressing.job, stage, pressing.done[stage])
    known = sidecar.read(Path(found.plans["tinybert/distill/tensorrt_rtx/fp32"].file))
    assert known.fit is not None
    assert len(known.fit["edges"]) == 2
    assert known.fit["gain"] > 1
    longest = [profile["max"]["input_ids"][1] for profile in known.profiles]
    assert longest == [*known.fit["edges"], 128]
    assert is_pressed(pressing.job, pressing.done[stage])
    other = tiny.pressing(tiny.finished(), "first", *own, "engine.tensorrt_rtx.max_profiles=1")
    assert not is_pressed(other.job, pressing.done[stage])


def test_the_row_says_built_and_not_executed(own: list[str], tmp_path: Path) -> None:
    if driver.probe().devices:
        pytest.skip("this machine has a GPU and executes the engine")
    folder = tmp_path / "run"
    folder.mkdir()
    assert execute(Job.of(compose(tiny.fast(tiny.finished(), *own)), folder, "test")) is not None
    rows = [row for row in load(folder / "report.json").rows if row.engine == "tensorrt_rtx"]
    assert rows
    for row in rows:
        assert (row.status, row.latency_ms, row.metric, row.verdict) == ("unsupported", None, None, None)
        assert row.why is not None
        assert row.why.startswith("built, not executed: no usable NVIDIA driver")
        assert row.size_mb is not None
        assert row.size_mb > 0.1
    engines = json.loads((folder / "deploy" / "deploy.json").read_text())["engines"]
    assert engines[0]["runtime"] == "onnxruntime"
