"""A typed graph with its own roundings, against the same sums by hand."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest

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
