"""A worked plug-in: QuickGELU, the GELU of OpenAI's CLIP, as one TensorRT layer instead of a Mul, a Sigmoid and a Mul.

The maths is a plain function of tensors, tested on a CPU. Around it: an operator that exports to ONNX as the node
``modelpress::QuickGelu``, and an ``IPluginV3`` shell of the same name, by which TensorRT's parser finds it once
:func:`register` was called in the process that parses and in every process that opens the engine. TensorRT only:
TensorRT-RTX aborts the process when it parses a plug-in written in Python.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

NAME, VERSION, NAMESPACE = "QuickGelu", "1", ""
DOMAIN = "modelpress"  # of the ONNX node; TensorRT looks at the name alone
SLOPE = 1.702
TYPES = {"FLOAT": "<f4", "HALF": "<f2"}  # DataType -> NumPy's spelling, for memory that torch did not allocate


def quick_gelu(x: Tensor, slope: float = SLOPE) -> Tensor:
    """``x * sigmoid(slope * x)``, of any shape (Gaussian Error Linear Units, arXiv:1606.08415, section 2)."""
    return x * torch.sigmoid(slope * x)


@torch.library.custom_op("modelpress::quick_gelu", mutates_args=())
def operator(x: Tensor, slope: float) -> Tensor:
    """:func:`quick_gelu` as one operator, which exports as one node."""
    return quick_gelu(x, slope)


@operator.register_fake
def _(x: Tensor, slope: float) -> Tensor:
    return torch.empty_like(x)


@cache
def translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """For ``torch.onnx.export(custom_translation_table=…)``."""
    from onnx.defs import OpSchema
    from onnxscript import values

    schema = OpSchema(
        NAME,
        DOMAIN,
        1,
        inputs=[OpSchema.FormalParameter("x", "T")],
        outputs=[OpSchema.FormalParameter("y", "T")],
        type_constraints=[("T", ["tensor(float)", "tensor(float16)"], "")],
        attributes=[OpSchema.Attribute("slope", OpSchema.AttrType.FLOAT)],
    )
    node = values.Op(values.Opset(DOMAIN, 1), NAME, schema)

    def translated(x: Any, slope: float) -> Any:
        return node(x, slope=slope)

    return {torch.ops.modelpress.quick_gelu.default: translated}


def register(trt: Any) -> None:
    """Make the plug-in known to this process. ``trt``: the tensorrt module."""
    trt.get_plugin_registry().register_creator(creator(trt)(), NAMESPACE)


@cache
def creator(trt: Any) -> Any:
    """The class by which TensorRT makes the plug-in from a node's attributes, or from what an engine has kept."""

    class Creator(trt.IPluginCreatorV3One):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IPluginCreatorV3One.__init__(self)
            self.name, self.plugin_version, self.plugin_namespace = NAME, VERSION, NAMESPACE
            self.field_names = fields(trt, SLOPE)

        def create_plugin(self, name: str, collection: Any, phase: Any) -> Any:
            given = {one.name: float(np.asarray(one.data).ravel()[0]) for one in collection}
            return plugin(trt)(given.get("slope", SLOPE))

    return Creator


def fields(trt: Any, slope: float) -> Any:
    """The attributes of the node, as TensorRT keeps them."""
    kept = trt.PluginField("slope", np.array([slope], np.float32), trt.PluginFieldType.FLOAT32)
    return trt.PluginFieldCollection([kept])


@cache
def plugin(trt: Any) -> Any:
    """The plug-in's class: what it computes with (core), what it accepts (build), how it runs (runtime)."""
    bases = (trt.IPluginV3, trt.IPluginV3OneCore, trt.IPluginV3OneBuild, trt.IPluginV3OneRuntime)

    class Plugin(*bases):  # type: ignore[misc]
        def __init__(self, slope: float) -> None:
            for base in bases:
                base.__init__(self)
            self.slope = slope
            self.plugin_name, self.plugin_version, self.plugin_namespace = NAME, VERSION, NAMESPACE
            self.num_outputs = 1

        def get_capability_interface(self, type: Any) -> Any:
            return self

        def clone(self) -> Any:
            return Plugin(self.slope)

        def get_output_data_types(self, input_types: Sequence[Any]) -> list[Any]:
            return [input_types[0]]

        def get_output_shapes(self, inputs: Sequence[Any], shape_inputs: Sequence[Any], builder: Any) -> list[Any]:
            return [inputs[0]]

        def supports_format_combination(self, position: int, in_out: Sequence[Any], num_inputs: int) -> bool:
            own, first = in_out[position].desc, in_out[0].desc
            known = [getattr(trt.DataType, name) for name in TYPES]
            return own.format == trt.TensorFormat.LINEAR and own.type in known and own.type == first.type

        def configure_plugin(self, inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
            """Nothing depends on shapes."""

        def on_shape_change(self, inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
            """Nothing depends on shapes."""

        def attach_to_context(self, context: Any) -> Any:
            return self.clone()

        def get_fields_to_serialize(self) -> Any:
            self.kept = fields(trt, self.slope)  # TensorRT reads it after this call has ended
            return self.kept

        def enqueue(
            self,
            input_desc: Sequence[Any],
            output_desc: Sequence[Any],
            inputs: Sequence[int],
            outputs: Sequence[int],
            workspace: int,
            stream: int,
        ) -> None:
            with torch.cuda.stream(torch.cuda.ExternalStream(stream)):
                x, y = (on_device(one, at) for one, at in ((input_desc[0], inputs[0]), (output_desc[0], outputs[0])))
                y.copy_(quick_gelu(x, self.slope))

    return Plugin


class DeviceMemory:
    """Memory of the GPU that belongs to someone else, in the form that torch reads."""

    def __init__(self, address: int, shape: Sequence[int], kind: str) -> None:
        about = {"shape": tuple(shape), "typestr": kind, "data": (address, False), "version": 3}
        self.__cuda_array_interface__ = about


def on_device(description: Any, address: int) -> Tensor:
    """A tensor over TensorRT's own buffer; nothing is copied."""
    memory = DeviceMemory(address, description.dims, TYPES[description.type.name])
    return torch.as_tensor(memory, device="cuda")
