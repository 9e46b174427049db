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
from modelpress.engines.base import Plan
from modelpress.press import Pressed, export, export_request, is_pressed, press
from modelpress.pressing import Pressing


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
    from modelpress.models.base import load, parameter_count

    network = load(found.entry.folder / "model")
    assert found.facts["main"]["params_m"] == pytest.approx(parameter_count(network) / 1e6)
