"""Two towers as one engine: which plans meet, and that the pair answers as its parts do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from modelpress.engines.base import Artifact, Engine, Hardware, Plan, Session
from modelpress.engines.onnxruntime import OnnxRuntime
from modelpress.engines.openvino import OpenVino
from modelpress.engines.pair import Pair, PairSession, paired

ONE = Hardware(threads=1)


def tower(folder: Path, name: str, given: str, seed: int) -> Artifact:
    """``<name>_embeddings`` = ``given`` (B, 3) times a fixed matrix."""
    weight = np.random.default_rng(seed).standard_normal((3, 4)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", [given, "w"], [f"{name}_embeddings"])],
        name,
        [helper.make_tensor_value_info(given, TensorProto.FLOAT, ["batch", 3])],
        [helper.make_tensor_value_info(f"{name}_embeddings", TensorProto.FLOAT, ["batch", 4])],
        [numpy_helper.from_array(weight, "w")],
    )
    file = folder / f"{name}.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), file)
    return Artifact(file, tower=name)


def built(engine: Engine, folder: Path) -> list[Plan]:
    made = folder / "built"
    made.mkdir(parents=True)
    towers = [tower(folder, "image", "pixel_values", 1), tower(folder, "text", "vector", 2)]
    return [replace(plan, tower=one.tower) for one in towers for plan in engine.build(one, ONE, made)]


@pytest.mark.parametrize("engine", [OnnxRuntime(), OpenVino(["fp32"])], ids=["onnxruntime", "openvino"])
def test_the_pair_answers_as_its_parts_do(engine: Engine, tmp_path: Path) -> None:
    plans = built(engine, tmp_path / "towers")
    [pair] = paired(plans)
    rng = np.random.default_rng(0)
    inputs = {name: rng.standard_normal((2, 3)).astype(np.float32) for name in ("pixel_values", "vector")}
    session = Pair.open(Plan.from_json(pair.to_json()))
    found = session.run(inputs)
    for plan in plans:
        alone = type(engine).open(plan)
        for name, array in alone.run(inputs).items():
            np.testing.assert_array_equal(found[name], array)
        alone.close()
    assert set(found) == {"image_embeddings", "text_embeddings"}
    assert session.precision == "fp32"
    assert set(session.details()) == {"image", "text"}
    session.close()


def test_a_plan_survives_json_with_its_parts(tmp_path: Path) -> None:
    [pair] = paired(built(OnnxRuntime(), tmp_path / "towers"))
    again = Plan.from_json(pair.to_json())
    assert again == pair
    assert [part.tower for part in again.single()] == ["image", "text"]
    assert again.parts[0].single() == (again.parts[0],)


def test_only_plans_of_one_engine_and_precision_meet() -> None:
    def plan(tower: str, engine: str, precision: str) -> Plan:
        return Plan(engine, "", precision, f"{tower}-{engine}-{precision}", {"threads": 1}, tower)

    both = [plan(tower, "openvino", kind) for tower in ("image", "text") for kind in ("fp32", "bf16")]
    lonely = plan("image", "onnxruntime", "int8")
    found = paired([*both, lonely])
    assert [(p.engine, p.precision) for p in found] == [("openvino", "fp32"), ("openvino", "bf16")]
    assert all([part.precision for part in pair.parts] == [pair.precision] * 2 for pair in found)
    assert paired([plan("main", "openvino", "fp32")]) == []


def test_parts_of_different_precision_are_mixed() -> None:
    class Part(Session):
        def __init__(self, precision: str) -> None:
            self.precision = precision

    assert PairSession([Part("int8"), Part("bf16")], ["image", "text"]).precision == "mixed"  # type: ignore[list-item]


def test_towers_in_one_process_leave_each_other_the_cores(tmp_path: Path) -> None:
    """A tower alone may spin while it waits for work; beside another one it would take that one's cores."""
    for engine, spins in ((OnnxRuntime(), [True, True]), (OpenVino(["fp32"]), [None, None])):
        plans = built(engine, tmp_path / engine.name)
        [pair] = paired(plans)
        assert [plan.settings.get("spinning") for plan in plans] == spins
        assert [part.settings.get("spinning") for part in pair.parts] == [False if spin else None for spin in spins]
        assert [part.file for part in pair.parts] == [plan.file for plan in plans]


@pytest.mark.parametrize(
    ("kept", "both"), [((True, True), True), ((True, False), False), ((False, False), False), ((True, None), None)]
)
def test_a_pair_has_kept_kernels_if_both_towers_have(kept: tuple[bool | None, ...], both: bool | None) -> None:
    parts, warm = [Session() for _ in kept], []
    for part, known in zip(parts, kept, strict=True):
        part.precision, part.kernels_kept = "fp16", known
        part.warmed = lambda: warm.append(1)  # type: ignore[method-assign]
    session = PairSession(parts, ["image", "text"])
    session.warmed()
    assert (session.kernels_kept, len(warm)) == (both, 2)
