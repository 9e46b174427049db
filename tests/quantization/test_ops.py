"""The two graph operators: equal to ONNX Runtime's, known to torch.export, translated one to one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper
from torch import Tensor, nn

from modelpress.quantization import ops

X = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(0)) * 4
ZERO = torch.zeros((), dtype=torch.int8)


def onnxruntime_pair(x: Tensor, scale: Tensor, axis: int) -> list[np.ndarray]:
    """Integers and floats of QuantizeLinear and DequantizeLinear."""
    names = ["x", "scale", "zero"]
    shapes = [x.shape, scale.shape, scale.shape]
    kinds = [TensorProto.FLOAT, TensorProto.FLOAT, TensorProto.INT8]
    inputs = [helper.make_tensor_value_info(*given) for given in zip(names, kinds, shapes, strict=True)]
    outputs = [
        helper.make_tensor_value_info("q", TensorProto.INT8, x.shape),
        helper.make_tensor_value_info("y", TensorProto.FLOAT, x.shape),
    ]
    nodes = [
        helper.make_node("QuantizeLinear", names, ["q"], axis=axis),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["y"], axis=axis),
    ]
    graph = helper.make_graph(nodes, "pair", inputs, outputs)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    zero = np.zeros(scale.shape, np.int8)
    return list(session.run(None, {"x": x.numpy(), "scale": scale.numpy(), "zero": zero}))


def test_one_scale_as_in_onnxruntime() -> None:
    scale = torch.tensor(0.0211)
    q, y = onnxruntime_pair(X, scale, 0)
    found = ops.quantize(X, scale, ZERO)
    np.testing.assert_array_equal(found.numpy(), q)
    np.testing.assert_array_equal(ops.dequantize(found, scale, ZERO, 0).numpy(), y)
    assert {-128, 127} <= set(q.ravel().tolist())


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_a_scale_per_channel_as_in_onnxruntime(axis: int) -> None:
    scale = torch.rand(X.shape[axis]) * 0.1 + 0.01
    q, y = onnxruntime_pair(X, scale, axis)
    found = ops.dequantize(torch.from_numpy(q), scale, torch.zeros_like(scale, dtype=torch.int8), axis)
    np.testing.assert_array_equal(found.numpy(), y)


def test_torch_knows_their_shapes_and_that_they_change_nothing() -> None:
    scales = torch.rand(4) + 0.1
    for operator, arguments in (
        (ops.quantize, (X, torch.tensor(0.1), ZERO)),
        (ops.dequantize, (X.to(torch.int8), scales, torch.zeros(4, dtype=torch.int8), 2)),
    ):
        result = torch.library.opcheck(operator, arguments, test_utils=("test_schema", "test_faketensor"))
        assert set(result.values()) == {"SUCCESS"}


class Pair(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scale", torch.tensor(0.02))
        self.register_buffer("zero", ZERO)
        self.register_buffer("weight", torch.arange(-6, 6, dtype=torch.int8).reshape(4, 3))
        self.register_buffer("weight_scale", torch.tensor([0.1, 0.2, 0.3]))
        self.register_buffer("weight_zero", torch.zeros(3, dtype=torch.int8))

    def forward(self, x: Tensor) -> Tensor:
        y = ops.dequantize(ops.quantize(x, self.scale, self.zero), self.scale, self.zero, 0)
        product: Tensor = y @ ops.dequantize(self.weight, self.weight_scale, self.weight_zero, 1)
        return product


def test_export_writes_onnx_nodes_with_dynamic_axes(tmp_path: Path) -> None:
    module = Pair().eval()
    dims = {0: torch.export.Dim("a", min=1, max=64), 1: torch.export.Dim("b", min=2, max=64)}
    program = torch.onnx.export(
        module,
        (X,),
        dynamic_shapes=(dims,),
        opset_version=20,
        dynamo=True,
        custom_translation_table=ops.translations(),
        verbose=False,
    )
    assert program is not None
    proto = program.model_proto
    onnx.checker.check_model(proto, full_check=True)
    assert sorted(node.op_type for node in proto.graph.node) == [
        "DequantizeLinear",
        "DequantizeLinear",
        "MatMul",
        "QuantizeLinear",
    ]
    assert {node.domain for node in proto.graph.node} == {""}
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    for shape in ((3, 5), (1, 2), (7, 40)):
        x = torch.randn(*shape, 4)
        found = session.run(None, {proto.graph.input[0].name: x.numpy()})[0]
        np.testing.assert_allclose(found, module(x).numpy(), atol=1e-5)
