"""A typed graph with its own roundings, against the same sums by hand."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest
import torch

from modelpress.export.onnx import graph_of
from modelpress.export.typed import convert
from modelpress.export.typed_run import parity, run
from tests.export.test_typed_nodes import SQUARE, graph
from tests.quantization import loud

NUMPY = {"fp16": np.float16, "bf16": ml_dtypes.bfloat16}


@pytest.mark.parametrize("kind", NUMPY)
@pytest.mark.parametrize("product", ["MatMul(x, w)", "Gemm<alpha=0.5, beta=2.0, transB=1>(x, w, v)", "Gemm(x, w)"])
def test_by_hand(kind: str, product: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    w, v, x = (rng.normal(size=shape).astype(np.float32) for shape in ((4, 4), 4, (5, 4)))
    proto = convert(graph(f"a = {product}  b = Relu(a)  y = MatMul(b, u)", w=w, v=v, u=SQUARE), kind)
    onnx.save(proto, tmp_path / "typed.onnx")

    def r(array: np.ndarray) -> np.ndarray:
        return array.astype(NUMPY[kind]).astype(np.float32)

    first = r(x) @ r(w)
    if "alpha" in product:
        first = 0.5 * (r(x) @ r(w).T) + 2 * r(v)
    expected = np.maximum(r(first), 0) @ SQUARE.astype(np.float32)
    assert run(tmp_path / "typed.onnx", {"x": x})["y"] == pytest.approx(expected, rel=1e-6, abs=1e-6)
    assert np.array_equal(run(proto, {"x": x})["y"], run(tmp_path / "typed.onnx", {"x": x})["y"])


def test_an_overflow_arrives_at_the_output() -> None:
    proto = graph("a = MatMul(x, w)  b = MatMul(a, w)  y = MatMul(b, w)", w=SQUARE * 3e3)
    x = np.full((1, 4), 100, np.float32)
    assert not np.isfinite(run(convert(proto, "fp16"), {"x": x})["y"]).any()
    assert np.isfinite(run(convert(proto, "bf16"), {"x": x})["y"]).all()


def test_the_gate_stops_an_overflow_that_onnx_runtime_hides(tmp_path: Path) -> None:
    from modelpress.export import check

    model, batches = loud.model(), loud.batches()
    proto = graph_of(model.towers()[0])
    for name, pinned in (("lost", ()), ("right", ("network.loud",))):
        onnx.save(convert(proto, "fp16", pinned=pinned), tmp_path / f"{name}.onnx")
    assert parity(model, tmp_path / "lost.onnx", batches) == np.inf
    assert check.parity(model, tmp_path / "lost.onnx", batches) < 0.02
    assert 0 < parity(model, tmp_path / "right.onnx", batches) < 0.02
    with pytest.raises(ValueError, match="at least one batch"):
        parity(model, tmp_path / "right.onnx", [])


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_convolutions_are_those_of_pytorch(groups: int) -> None:
    torch.manual_seed(0)
    layer = torch.nn.Conv2d(4, 8, (3, 2), stride=(2, 1), padding=(1, 2), dilation=(1, 2), groups=groups)
    x = torch.randn(2, 4, 9, 8)
    weight, bias = layer.weight.detach().numpy(), layer.bias.detach().numpy()
    options = {"strides": [2, 1], "pads": [1, 2, 1, 2], "dilations": [1, 2], "group": groups}
    node = onnx.helper.make_node("Conv", ["x", "w", "b"], ["y"], **options)
    values = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in ("x", "y")]
    constants = [onnx.numpy_helper.from_array(array, name) for array, name in ((weight, "w"), (bias, "b"))]
    made = onnx.helper.make_graph([node], "g", values[:1], values[1:], constants)
    found = run(onnx.helper.make_model(made), {"x": x.numpy()})["y"]
    torch.testing.assert_close(torch.from_numpy(found), layer(x).detach(), atol=1e-5, rtol=1e-5)
