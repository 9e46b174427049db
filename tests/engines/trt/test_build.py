"""Real engines by TensorRT-RTX, which builds without a GPU; and what it and we refuse."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from modelpress.engines.base import Artifact, Hardware, Unsupported
from modelpress.engines.graph import inspect
from modelpress.engines.tensorrt import TensorRTRtx
from modelpress.engines.trt import build as building
from modelpress.engines.trt import sidecar
from modelpress.engines.trt.build import Options, build
from modelpress.engines.trt.load import load
from modelpress.engines.trt.profiles import Profile, parse
from modelpress.errors import ModelPressError
from tests.engines.trt.conftest import Exported
from tests.engines.trt.exported import FAMILIES, FURTHER, THOROUGH

RTX = "tensorrt_rtx"


def graph(nodes: list[Any], constants: dict[str, Any], kind: int = TensorProto.FLOAT) -> bytes:
    """``x`` (batch, 8) of a type to ``y``."""
    tensors = [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()]
    values = [helper.make_tensor_value_info("x", kind, ["batch", 8])], [helper.make_tensor_value_info("y", 1, None)]
    made = helper.make_graph(nodes, "g", *values, tensors)
    data: bytes = helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=9).SerializeToString()
    return data


def linear() -> bytes:
    return graph([helper.make_node("MatMul", ["x", "w"], ["y"], name="product")], {"w": np.eye(8, dtype=np.float32)})


def shapes(low: int, best: int, high: int, width: int = 8) -> Profile:
    return Profile({"x": (low, width)}, {"x": (best, width)}, {"x": (high, width)})


PROFILE = shapes(1, 4, 16)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_every_exported_network_builds_with_dynamic_batch_and_sequence(
    family: str, files: Exported, tmp_path: Path
) -> None:
    """FP32, FP16 and BF16 of the float graph; INT8 with float32 and with fp16 in its other layers."""
    thorough = family in THOROUGH
    floats = ["fp32", "fp16", *["bf16"] * thorough]
    for tower, file in files(family, "fp32").items():
        plans = engines(file, tower, floats, tmp_path, several=thorough)
        assert {precision: known.floats for precision, known in plans.items()} == {kind: kind for kind in floats}
    for tower, file in files(family, "int8").items():
        for kind in ["fp32", *["fp16"] * thorough]:
            [(precision, known)] = engines(file, tower, [kind], tmp_path, several=thorough).items()
            assert (precision, known.floats) == ("int8", kind)


@pytest.mark.slow
@pytest.mark.parametrize(("numbers", "family"), [(n, family) for n, names in FURTHER.items() for family in names])
def test_the_numbers_of_every_technique_build(numbers: str, family: str, files: Exported, tmp_path: Path) -> None:
    """A file that a technique has typed is built in its own types, whatever is asked for."""
    for tower, file in files(family, numbers).items():
        for floats in ("fp32", "fp16"):
            [(precision, known)] = engines(file, tower, [floats], tmp_path).items()
            typed = numbers in ("fp16", "bf16")
            assert (precision, known.floats) == ((numbers, numbers) if typed else ("int8", floats))


def engines(
    file: Path, tower: str, precisions: list[str], folder: Path, *, several: bool = False
) -> dict[str, sidecar.Sidecar]:
    """What was built of a file, by precision, with one profile or ``several``; checked to be engines for every batch
    and length.
    """
    engine = TensorRTRtx(precisions, batch=(1, 4, 32), max_profiles=4 if several else 1)
    made = engine.build(Artifact(file, tower=tower, lengths={5: 3, 9: 1}), Hardware(), folder)
    found = {plan.precision: sidecar.read(Path(plan.file)) for plan in made}
    graph = inspect(file)
    images = [[32, *graph.inputs[0].shape[1:]]]
    for plan in made:
        assert Path(plan.file).read_bytes()[:4] == b"vtrt"
        ends = [next(iter(shapes["max"].values())) for shapes in found[plan.precision].profiles]
        edges = [*[[32, 5], [32, 9]] * several, [32, graph.longest]]
        assert ends == (edges if graph.longest else images)
    return found


def test_the_same_graph_builds_the_same_engine() -> None:
    first, again = (build(RTX, linear(), Options([PROFILE])) for _ in range(2))
    assert first.plan == again.plan
    assert first.messages == []
    assert first.plan != build(RTX, linear(), Options([shapes(1, 4, 17)])).plan


def test_tf32_is_off_unless_asked_for() -> None:
    trt, able = load(RTX)
    maker = building.builder(trt, able)
    for wanted in (False, True):
        config = building.configure(trt, able, maker, Options([PROFILE], tf32=wanted))
        assert config.get_flag(trt.BuilderFlag.TF32) is wanted
        assert config.profiling_verbosity == trt.ProfilingVerbosity.DETAILED


def test_gpus_to_build_for() -> None:
    assert build(RTX, linear(), Options([PROFILE], compute_capabilities=["86", "120"])).plan
    with pytest.raises(ModelPressError, match="has '90'; this tensorrt_rtx knows 75, 80, 86, 89, 120, 121"):
        build(RTX, linear(), Options([PROFILE], compute_capabilities=["90"]))


def pair(zero: Any, kind: str = "DequantizeLinear") -> list[Any]:
    return [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], name="quantize"),
        helper.make_node(kind, ["q", "s", "z"], ["d"], name="dequantize"),
        helper.make_node("MatMul", ["d", "w"], ["y"], name="product"),
    ]


W, S = np.eye(8, dtype=np.float32), np.float32(0.02)
BIAS = [
    helper.make_node("DequantizeLinear", ["b", "s"], ["bias"], name="bias_dequantize"),
    helper.make_node("Gemm", ["x", "w", "bias"], ["y"], name="product"),
]
DYNAMIC = [
    helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"], name="ranges"),
    helper.make_node("MatMulInteger", ["q", "w", "z"], ["total"], name="product"),
    helper.make_node("Cast", ["total"], ["y"], to=TensorProto.FLOAT),
]
REFUSED = {
    "unsupported operator": (
        graph([helper.make_node("Unique", ["x"], ["y"], name="the_node")], {}), "Unique 'the_node': ",
    ),
    "unknown operator": (
        graph([helper.make_node("Mystery", ["x"], ["y"], name="the_node", domain="mine")], {}),
        "'the_node'.*Plugin not found",
    ),
    "asymmetric zero point": (graph(pair(0), {"s": S, "z": np.int8(3), "w": W}), "'quantize'.*Non-zero zero point"),
    "INT32 bias": (
        graph(BIAS, {"b": np.zeros(8, np.int32), "s": S, "w": W}), "bias_dequantize.*Int32 but must have type",
    ),
    "mixed types": (
        graph([helper.make_node("MatMul", ["x", "w"], ["y"], name="the_node")], {"w": W}, TensorProto.FLOAT16), "type",
    ),
    "text": (graph([helper.make_node("Identity", ["x"], ["y"])], {}, TensorProto.STRING), "ONNX date type"),
    "integers computed at run time": (
        graph(DYNAMIC, {"w": np.eye(8, dtype=np.int8)}),
        "DynamicQuantizeLinear 'ranges': TensorRT has no such operator; MatMulInteger 'product': TensorRT has no such",
    ),
    "no ONNX file": (b"garbage", "cannot read the graph"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_tensorrt_refuses_is_said_with_its_node(name: str) -> None:
    data, message = REFUSED[name]
    with pytest.raises(Unsupported, match=message):
        build(RTX, data, Options([PROFILE]))


@pytest.mark.parametrize(
    ("profiles", "message"),
    [
        ([], "no optimization profile has been defined"),
        ([shapes(1, 4, 16, width=7)], "axis 1, profile has min=7, opt=7, max=7 but tensor has 8"),
        ([Profile({"z": (1, 8)}, {"z": (1, 8)}, {"z": (1, 8)})], "x is missing dimensions in profile 0"),
    ],
)
def test_profiles_that_came_past_our_checks_are_refused_in_tensorrts_words(
    profiles: list[Profile], message: str
) -> None:
    with pytest.raises(Unsupported, match=message):
        build(RTX, linear(), Options(profiles))


def test_a_profile_out_of_order_is_refused_before_the_build() -> None:
    with pytest.raises(ModelPressError, match="profile 0 .* is refused: .*MIN<=OPT<=MAX"):
        build(RTX, linear(), Options([shapes(4, 2, 16)]))
    inputs = inspect_inputs()
    with pytest.raises(ModelPressError, match="min 4, opt 2, max 16"):
        parse({"min": 4, "opt": 2, "max": 16}, inputs)


def inspect_inputs() -> Any:
    from modelpress.engines.graph import GraphInput

    return [GraphInput("x", "float32", ("batch", 8))]


def test_foreign_quantized_graphs_are_named_by_our_own_check(int8_graph: Path, tmp_path: Path) -> None:
    with pytest.raises(
        Unsupported, match=r"tensorrt does not run tiny_int8.onnx:\n  - QuantizeLinear 'q' has zero poi"
    ):
        TensorRTRtx().build(Artifact(int8_graph), Hardware(), tmp_path)


def test_ranges_found_at_run_time_are_refused_before_the_build_with_what_to_do_instead(tmp_path: Path) -> None:
    file = tmp_path / "dynamic.onnx"
    file.write_bytes(graph(DYNAMIC, {"w": np.eye(8, dtype=np.int8)}))
    with pytest.raises(Unsupported) as refusal:
        TensorRTRtx().build(Artifact(file), Hardware(), tmp_path)
    instead = "write it as QuantizeLinear and DequantizeLinear with stored scales (technique=ptq)."
    assert str(refusal.value).splitlines() == [
        "tensorrt does not run dynamic.onnx:",
        f"  - DynamicQuantizeLinear 'ranges' runs in ONNX Runtime only: {instead}",
        f"  - MatMulInteger 'product' runs in ONNX Runtime only: {instead}",
    ]
    assert not list(tmp_path.glob("*.engine"))
