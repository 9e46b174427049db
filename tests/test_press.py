"""Stage → ONNX → engines, each step in the store: what is made, found again, refused and made anew."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from hydra.utils import get_class

import tests.tiny as tiny
from modelpress.config import compose
from modelpress.engines import driver
from modelpress.engines.base import Plan
from modelpress.engines.trt import sidecar
from modelpress.job import Job
from modelpress.pipeline import execute
from modelpress.press import Pressed, export, export_request, is_pressed, press
from modelpress.pressing import Pressing
from modelpress.report.record import load

RTX = ("engine=[onnxruntime,tensorrt_rtx]", "engine.tensorrt_rtx.max_profiles=2")


def last(pressing: Pressing) -> Pressed:
    """The student, pressed."""
    stage = pressing.graph.last
    return press(pressing.job, stage, pressing.done[stage])


@pytest.fixture
def own(tmp_path: Path) -> list[str]:
    """Overrides with a copy of the finished run's store, for tests that change it."""
    shutil.copytree(tiny.finished() / "store", tmp_path / "store")
    return [f"store={tmp_path / 'store'}"]


def test_a_stage_becomes_a_graph_and_engines() -> None:
    found = last(tiny.pressing(tiny.finished(), "first"))
    assert list(found.plans) == ["tinybert/distill/onnxruntime/fp32"]
    assert found.absent == {}
    assert found.onnx["main"].is_file()
    assert found.facts["main"]["params_m"] > 0
    assert found.facts["main"]["parity_max_abs"] < 1e-3


def test_a_plan_opens_wherever_the_store_lies(own: list[str]) -> None:
    found = last(tiny.pressing(tiny.finished(), "first", *own))
    (plan,) = found.plans.values()
    assert Path(plan.file).is_relative_to(own[0].removeprefix("store="))
    engine = get_class(plan.target)
    ids = np.array([[2, 5, 6, 3]])
    inputs = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
    session = engine.open(Plan.from_json(plan.to_json()))
    assert session.run(inputs)["logits"].shape == (1, 2)
    session.close()


def test_finished_work_is_found() -> None:
    pressing = tiny.pressing(tiny.finished(), "first")
    assert all(is_pressed(pressing.job, entry) for entry in pressing.done.values())
    assert export(pressing.job, pressing.done[pressing.graph.last]).reused


def test_another_engine_is_missing_but_the_export_is_not() -> None:
    pressing = tiny.pressing(tiny.finished(), "first", "engine=[onnxruntime,openvino]")
    entry = pressing.done[pressing.graph.last]
    assert not is_pressed(pressing.job, entry)
    assert pressing.job.store.find(export_request(entry)) is not None


def test_an_engine_that_cannot_be_is_kept_with_its_reason(own: list[str]) -> None:
    """ONNX Runtime converts nothing, so a float graph has no fp16 plan."""
    extra = (*own, "engine.onnxruntime.precisions=[fp16]")
    pressing = tiny.pressing(tiny.finished(), "first", *extra)
    found = last(pressing)
    assert found.plans == {}
    assert "asked for fp16" in found.absent["main", "onnxruntime"]
    assert is_pressed(pressing.job, found.entry)
    assert last(tiny.pressing(tiny.finished(), "first", *extra)).absent == found.absent


@pytest.mark.parametrize("damage", ["changed", "missing", "record"])
def test_a_damaged_export_is_made_again(own: list[str], tmp_path: Path, damage: str) -> None:
    pressing = tiny.pressing(tiny.finished(), "first", *own)
    entry = pressing.done[pressing.graph.last]
    before = last(pressing)
    folder = before.export.folder
    hurt(folder, damage)
    assert not is_pressed(pressing.job, entry)
    after = last(tiny.pressing(tiny.finished(), "first", *own))
    assert not after.export.reused
    assert after.export.digest_of("model.onnx") == before.export.digest_of("model.onnx")
    assert list(after.plans) == list(before.plans)
    assert [path.name.split("-")[0] for path in (tmp_path / "store" / "damaged").iterdir()] == [folder.name]


def hurt(folder: Path, how: str) -> None:
    """Without touching other names of the same bytes: engines link the graph."""
    target = folder / ("entry.json" if how == "record" else "model.onnx")
    content = target.read_bytes()
    os.unlink(target)
    if how != "missing":
        target.write_bytes(content[: len(content) // 2])


def test_a_damaged_engine_is_made_again(own: list[str]) -> None:
    before = last(tiny.pressing(tiny.finished(), "first", *own))
    (plan,) = before.plans.values()
    Path(plan.file).unlink()
    after = last(tiny.pressing(tiny.finished(), "first", *own))
    assert after.export.reused
    assert Path(plan.file).is_file()
    assert after.plans == before.plans


def test_facts_are_those_of_the_file() -> None:
    found = last(tiny.pressing(tiny.finished(), "first"))
    assert found.facts == json.loads((found.export.folder / "facts.json").read_text())
    from modelpress.models.base import load as load_model
    from modelpress.models.base import parameter_count

    network = load_model(found.entry.folder / "model")
    assert found.facts["main"]["params_m"] == pytest.approx(parameter_count(network) / 1e6)


def test_profiles_are_fitted_to_the_training_texts_and_part_of_the_key(own: list[str]) -> None:
    pressing = tiny.pressing(tiny.finished(), "first", *own, *RTX)
    found = last(pressing)
    known = sidecar.read(Path(found.plans["tinybert/distill/tensorrt_rtx/fp32"].file))
    assert known.fit is not None
    assert len(known.fit["edges"]) == 2
    assert known.fit["gain"] > 1
    longest = [profile["max"]["input_ids"][1] for profile in known.profiles]
    assert longest == [*known.fit["edges"], 128]
    assert is_pressed(pressing.job, found.entry)
    other = tiny.pressing(tiny.finished(), "first", *own, *RTX, "engine.tensorrt_rtx.max_profiles=1")
    assert not is_pressed(other.job, found.entry)


def test_a_tensorrt_row_without_a_gpu_says_built_and_not_executed(own: list[str], tmp_path: Path) -> None:
    if driver.probe().devices:
        pytest.skip("this machine has a GPU and executes the engine")
    folder = tmp_path / "run"
    folder.mkdir()
    assert execute(Job.of(compose(tiny.fast(tiny.finished(), *own, *RTX)), folder, "test")) is not None
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
