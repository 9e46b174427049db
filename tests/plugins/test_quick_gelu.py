"""The worked plug-in on a CPU: its maths, its ONNX node, its shapes and formats. Only a GPU runs it in TensorRT."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun
from torch import nn

from modelpress.plugins import quick_gelu as plugin

trt = pytest.importorskip("tensorrt_rtx", reason="pip install 'modelpress[tensorrt-rtx]'")


def reference(x: np.ndarray, slope: float = 1.702) -> np.ndarray:
    return x / (1.0 + np.exp(-slope * x.astype(np.float64)))


class QuickGelu(OpRun):
    """The node for ONNX's own evaluator."""

    op_domain = plugin.DOMAIN

    def _run(self, x: np.ndarray, slope: float) -> tuple[np.ndarray]:
        return (reference(x, slope).astype(x.dtype),)


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Linear(8, 16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return plugin.operator(self.up(x), 1.702)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Block, Path]:
    torch.manual_seed(0)
    block, file = Block().eval(), tmp_path_factory.mktemp("plugin") / "block.onnx"
    program = torch.onnx.export(
        block,
        (torch.zeros(2, 8),),
        dynamo=True,
        input_names=["x"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        custom_translation_table=plugin.translations(),
        verbose=False,
    )
    assert program is not None
    program.save(str(file))
    return block, file


@pytest.mark.parametrize("slope", [1.0, 1.702])
def test_maths(slope: float) -> None:
    x = torch.linspace(-8, 8, 101)
    np.testing.assert_allclose(plugin.quick_gelu(x, slope), reference(x.numpy(), slope), rtol=1e-5, atol=1e-7)


def test_the_operator_is_sound() -> None:
    found = torch.library.opcheck(plugin.operator, (torch.randn(3, 5), 1.702))
    assert set(found.values()) == {"SUCCESS"}


def test_it_exports_as_one_node_that_computes_the_same(exported: tuple[Block, Path]) -> None:
    block, file = exported
    model = onnx.load(str(file))
    [node] = [node for node in model.graph.node if node.op_type == plugin.NAME]
    assert node.domain == plugin.DOMAIN
    assert {opset.domain: opset.version for opset in model.opset_import}[plugin.DOMAIN] == 1
    assert [(a.name, pytest.approx(a.f)) for a in node.attribute] == [("slope", 1.702)]
    assert "Sigmoid" not in {node.op_type for node in model.graph.node}
    x = np.random.default_rng(0).standard_normal((5, 8)).astype(np.float32)
    [answer] = ReferenceEvaluator(model, new_ops=[QuickGelu]).run(None, {"x": x})
    with torch.no_grad():
        np.testing.assert_allclose(answer, block(torch.from_numpy(x)), rtol=1e-5, atol=1e-6)


@pytest.fixture
def shell() -> Any:
    return plugin.plugin(trt)(1.5)


def test_shape_and_type_are_those_of_the_input(shell: Any) -> None:
    dimensions = object()
    assert shell.get_output_shapes([dimensions], [], None) == [dimensions]
    assert shell.get_output_data_types([trt.DataType.HALF]) == [trt.DataType.HALF]
    assert shell.num_outputs == 1


def described(kind: Any, layout: Any = trt.TensorFormat.LINEAR) -> Any:
    return SimpleNamespace(desc=SimpleNamespace(type=kind, format=layout))


@pytest.mark.parametrize(
    ("own", "first", "accepted"),
    [("FLOAT", "FLOAT", True), ("HALF", "HALF", True), ("FLOAT", "HALF", False), ("INT8", "INT8", False)],
)
def test_formats(shell: Any, own: str, first: str, accepted: bool) -> None:
    in_out = [described(getattr(trt.DataType, name)) for name in (first, own)]
    assert shell.supports_format_combination(1, in_out, 1) is accepted
    assert not shell.supports_format_combination(0, [described(trt.DataType.FLOAT, trt.TensorFormat.CHW32)], 1)


def test_one_object_answers_for_core_build_and_runtime(shell: Any) -> None:
    for kind in trt.PluginCapabilityType.__members__.values():
        assert shell.get_capability_interface(kind) is shell
    for copy in (shell.clone(), shell.attach_to_context(None)):
        assert copy is not shell
        assert (copy.slope, copy.plugin_name, copy.plugin_version) == (1.5, "QuickGelu", "1")


def test_the_creator_reads_what_the_plugin_keeps(shell: Any) -> None:
    maker = plugin.creator(trt)()
    assert (maker.name, maker.plugin_version, maker.plugin_namespace) == ("QuickGelu", "1", "")
    again = maker.create_plugin("one", shell.get_fields_to_serialize(), trt.TensorRTPhase.RUNTIME)
    assert again.slope == 1.5
    assert maker.create_plugin("two", trt.PluginFieldCollection([]), trt.TensorRTPhase.BUILD).slope == plugin.SLOPE


def test_memory_is_described_as_torch_reads_it() -> None:
    about = plugin.DeviceMemory(4096, (2, 3), "<f2").__cuda_array_interface__
    assert about == {"shape": (2, 3), "typestr": "<f2", "data": (4096, False), "version": 3}
    assert [np.dtype(kind).itemsize for kind in plugin.TYPES.values()] == [4, 2]


@pytest.mark.gpu
def test_tensorrt_runs_it(exported: tuple[Block, Path]) -> None:
    full = pytest.importorskip("tensorrt", reason="TensorRT is not installed: docs/tensorrt.md")
    from modelpress.engines.trt.load import logger

    plugin.register(full)
    block, file = exported
    builder = full.Builder(logger(full))
    flags = full.NetworkDefinitionCreationFlag
    network = builder.create_network(1 << int(flags.STRONGLY_TYPED) if hasattr(flags, "STRONGLY_TYPED") else 0)
    parser = full.OnnxParser(network, logger(full))
    assert parser.parse(file.read_bytes()), [parser.get_error(i).desc() for i in range(parser.num_errors)]
    config, profile = builder.create_builder_config(), builder.create_optimization_profile()
    profile.set_shape("x", (1, 8), (4, 8), (8, 8))
    config.add_optimization_profile(profile)
    engine = full.Runtime(logger(full)).deserialize_cuda_engine(builder.build_serialized_network(network, config))
    context, stream = engine.create_execution_context(), torch.cuda.Stream()
    x, y = torch.randn(4, 8, device="cuda"), torch.empty(4, 16, device="cuda")
    torch.cuda.synchronize()
    context.set_input_shape("x", (4, 8))
    context.set_tensor_address("x", x.data_ptr())
    context.set_tensor_address(engine.get_tensor_name(1), y.data_ptr())
    assert context.execute_async_v3(stream.cuda_stream)
    stream.synchronize()
    torch.testing.assert_close(y.cpu(), block(x.cpu()), rtol=1e-4, atol=1e-5)
