"""One execution context on one CUDA stream, with buffers for every shape it has met. Needs a GPU."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelpress.engines.trt.load import logger
from modelpress.engines.trt.profiles import Shapes, Sizes

TORCH_TYPES = {
    **{"FLOAT": "float32", "HALF": "float16", "BF16": "bfloat16", "BOOL": "bool"},
    **{"INT8": "int8", "UINT8": "uint8", "INT32": "int32", "INT64": "int64"},
}
PARTS = ("h2d", "compute", "d2h")
Key = tuple[int, tuple[tuple[str, Sizes], ...]]


@dataclass
class Buffers:
    """Tensors of one shape: pinned on the host, and on the device; ``graph`` where its launch was captured."""

    context: Any
    host: dict[str, Any]
    views: dict[str, NDArray[Any]]  # of the host's tensors
    device: dict[str, Any]
    graph: Any = None


class Stream:
    """Answers one request at a time: :meth:`begin` queues its copies and kernels, :meth:`finish` waits for them."""

    def __init__(self, trt: Any, torch: Any, engine: Any, *, graphs: bool, config: Any = None) -> None:
        self.torch, self.engine, self.config = torch, engine, config
        self.captures = graphs and not hasattr(trt, "CudaGraphStrategy")  # TensorRT-RTX captures by itself
        self.trt = trt
        self.stream = torch.cuda.Stream()
        self.events = [torch.cuda.Event(enable_timing=True) for _ in range(len(PARTS) + 1)]
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        modes = {name: engine.get_tensor_mode(name) for name in names}
        self.inputs = [name for name in names if modes[name] == trt.TensorIOMode.INPUT]
        self.outputs = [name for name in names if modes[name] == trt.TensorIOMode.OUTPUT]
        self.types = {name: getattr(torch, TORCH_TYPES[engine.get_tensor_dtype(name).name]) for name in names}
        self.shared = None if self.captures else self._context()
        self.bound: dict[Key, Buffers] = {}
        self.current: Buffers | None = None

    def begin(self, inputs: Mapping[str, NDArray[Any]], profile: int) -> None:
        """Copy the inputs into pinned memory and queue everything else on the stream."""
        buffers = self.buffers({name: inputs[name].shape for name in self.inputs}, profile)
        for name in self.inputs:
            np.copyto(buffers.views[name], inputs[name], casting="same_kind")
        with self.torch.cuda.stream(self.stream):
            self.events[0].record()
            for name in self.inputs:
                buffers.device[name].copy_(buffers.host[name], non_blocking=True)
            self.events[1].record()
            self._launch(buffers)
            self.events[2].record()
            for name in self.outputs:
                buffers.host[name].copy_(buffers.device[name], non_blocking=True)
            self.events[3].record()
        self.current = buffers

    def finish(self) -> dict[str, NDArray[Any]]:
        """Wait for the request; its outputs as arrays of their own."""
        assert self.current is not None
        self.events[-1].synchronize()
        return {name: self.current.views[name].copy() for name in self.outputs}

    def device_ms(self) -> dict[str, float]:
        """How long the copies and the kernels of the last request took, by events on the stream."""
        pairs = zip(PARTS, self.events, self.events[1:], strict=False)
        return {part: float(before.elapsed_time(after)) for part, before, after in pairs}

    def buffers(self, shapes: Shapes, profile: int) -> Buffers:
        """Tensors for these shapes; the context is set to them."""
        key = profile, tuple(shapes.items())
        found = self.bound.get(key)
        if found is None:
            context = self.shared or self._context()
            self._set(context, profile, shapes)
            found = self.bound[key] = self._allocated(context, shapes)
            self._address(found)
            if self.captures:
                self._capture(found)
        elif found is not self.current and not self.captures:  # a captured graph has a context of its own
            self._set(found.context, profile, shapes)
            self._address(found)
        return found

    def _context(self) -> Any:
        given = () if self.config is None else (self.config,)
        return self.engine.create_execution_context(*given)

    def _set(self, context: Any, profile: int, shapes: Shapes) -> None:
        if context.active_optimization_profile != profile:
            context.set_optimization_profile_async(profile, self.stream.cuda_stream)
        for name, shape in shapes.items():
            if not context.set_input_shape(name, tuple(shape)):
                raise RuntimeError(f"TensorRT refuses shape {tuple(shape)} of input {name}: {self._said()}")

    def _allocated(self, context: Any, shapes: Shapes) -> Buffers:
        torch = self.torch
        every = {**shapes, **{name: tuple(context.get_tensor_shape(name)) for name in self.outputs}}
        host = {n: torch.empty(tuple(s), dtype=self.types[n], pin_memory=True) for n, s in every.items()}
        device = {n: torch.empty(tuple(s), dtype=self.types[n], device="cuda") for n, s in every.items()}
        return Buffers(context, host, {name: tensor.numpy() for name, tensor in host.items()}, device)

    @staticmethod
    def _address(buffers: Buffers) -> None:
        for name, tensor in buffers.device.items():
            buffers.context.set_tensor_address(name, tensor.data_ptr())

    def _launch(self, buffers: Buffers) -> None:
        if buffers.graph is not None:
            buffers.graph.replay()
        elif not buffers.context.execute_async_v3(self.stream.cuda_stream):
            raise RuntimeError(f"TensorRT could not queue the request: {self._said()}")

    def _said(self) -> str:
        return "; ".join(logger(self.trt).taken()) or "it gives no reason"

    def _capture(self, buffers: Buffers) -> None:
        """Record the launch once. A first run outside comes before: it does what a capture must not do."""
        with self.torch.cuda.stream(self.stream):
            self._launch(buffers)
        self.stream.synchronize()
        graph = self.torch.cuda.CUDAGraph()
        with self.torch.cuda.graph(graph, stream=self.stream, capture_error_mode="thread_local"):
            self._launch(buffers)
        buffers.graph = graph
