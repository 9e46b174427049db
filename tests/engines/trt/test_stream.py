"""What a stream does, in which order, with fakes of TensorRT and of PyTorch's CUDA: the arithmetic needs a GPU."""

from __future__ import annotations

from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from modelpress.engines.trt.stream import Stream

LOG: list[str] = []


class FakeTensor:
    def __init__(self, shape: tuple[int, ...], dtype: Any, **where: Any) -> None:
        self.array, self.where = np.zeros(shape, dtype), where

    def numpy(self) -> Any:
        return self.array

    def data_ptr(self) -> int:
        return id(self)

    def copy_(self, other: FakeTensor, non_blocking: bool) -> None:
        assert non_blocking
        LOG.append("copy to device" if "device" in self.where else "copy to host")
        self.array[...] = other.array


class FakeEvent:
    clock = 0.0

    def __init__(self, enable_timing: bool) -> None:
        assert enable_timing
        self.at = 0.0

    def record(self) -> None:
        FakeEvent.clock += 1.5
        self.at = FakeEvent.clock

    def synchronize(self) -> None:
        LOG.append("wait")

    def elapsed_time(self, later: FakeEvent) -> float:
        return later.at - self.at


class FakeContext:
    """Doubles what stands at the address of its input."""

    def __init__(self) -> None:
        self.active_optimization_profile = 0
        self.shape: tuple[int, ...] = ()
        self.tensors: dict[str, int] = {}

    def set_optimization_profile_async(self, profile: int, stream: int) -> None:
        LOG.append(f"profile {profile}")
        self.active_optimization_profile = profile

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        LOG.append(f"shape {shape}")
        self.shape = shape
        return max(shape) < 100

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return (self.shape[0], 2)

    def set_tensor_address(self, name: str, address: int) -> None:
        LOG.append(f"address of {name}")

    def execute_async_v3(self, stream: int) -> bool:
        LOG.append("execute")
        return stream == 7


class FakeEngine:
    num_io_tensors = 2

    def __init__(self) -> None:
        self.contexts: list[Any] = []

    def get_tensor_name(self, index: int) -> str:
        return ("ids", "logits")[index]

    def get_tensor_mode(self, name: str) -> str:
        return {"ids": "in", "logits": "out"}[name]

    def get_tensor_dtype(self, name: str) -> Any:
        return SimpleNamespace(name={"ids": "INT64", "logits": "FLOAT"}[name])

    def create_execution_context(self, config: Any = None) -> FakeContext:
        self.contexts.append(config)
        return FakeContext()


@contextmanager
def entered(*given: Any, **options: Any) -> Any:
    yield


class FakeGraph:
    def replay(self) -> None:
        LOG.append("replay")


@contextmanager
def capture(graph: FakeGraph, stream: Any, capture_error_mode: str) -> Any:
    LOG.append("capture begins")
    yield
    LOG.append("capture ends")


TORCH = SimpleNamespace(
    int64=np.int64,
    float32=np.float32,
    empty=FakeTensor,
    cuda=SimpleNamespace(
        Stream=lambda: SimpleNamespace(cuda_stream=7, synchronize=lambda: None),
        Event=FakeEvent,
        stream=entered,
        CUDAGraph=FakeGraph,
        graph=capture,
    ),
)
PLAIN = {"ILogger": type("ILogger", (), {"__init__": lambda self: None, "ERROR": 1, "INTERNAL_ERROR": 0})}
MODES = SimpleNamespace(INPUT="in", OUTPUT="out")


class FakeModule(SimpleNamespace):
    __hash__ = object.__hash__  # type: ignore[assignment]


TRT = FakeModule(TensorIOMode=MODES, **PLAIN)
RTX = FakeModule(TensorIOMode=MODES, CudaGraphStrategy=SimpleNamespace(WHOLE_GRAPH_CAPTURE="whole"), **PLAIN)


def stream(trt: Any = TRT, *, graphs: bool = False, config: Any = None) -> Stream:
    LOG.clear()
    return Stream(trt, TORCH, FakeEngine(), graphs=graphs, config=config)


def ask(made: Stream, length: int, profile: int = 0) -> list[str]:
    LOG.clear()
    made.begin({"ids": np.ones((1, length), np.int64)}, profile)
    assert made.finish()["logits"].shape == (1, 2)
    return list(LOG)


RUN = ["copy to device", "execute", "copy to host", "wait"]


def test_fake_a_new_shape_is_bound_once_and_the_same_again_only_runs() -> None:
    made = stream()
    bound = ["shape (1, 5)", "address of ids", "address of logits"]
    assert ask(made, 5) == [*bound, *RUN]
    assert ask(made, 5) == RUN
    assert ask(made, 9, 1)[:2] == ["profile 1", "shape (1, 9)"]
    assert ask(made, 5) == ["profile 0", *bound, *RUN]  # the context is set back, the buffers are the old ones
    assert len(made.bound) == 2
    assert len(made.engine.contexts) == 1


def test_fake_host_tensors_are_pinned_and_inputs_arrive() -> None:
    made = stream()
    ask(made, 3)
    [buffers] = made.bound.values()
    assert buffers.host["ids"].where == {"pin_memory": True}
    assert buffers.device["logits"].where == {"device": "cuda"}
    assert buffers.device["ids"].array.tolist() == [[1, 1, 1]]
    assert buffers.host["logits"].array.dtype == np.float32


def test_fake_the_device_clock_splits_a_request() -> None:
    made = stream()
    ask(made, 3)
    assert made.device_ms() == {"h2d": 1.5, "compute": 1.5, "d2h": 1.5}


def test_fake_every_captured_graph_has_its_context_and_is_replayed() -> None:
    made = stream(graphs=True)
    first = ask(made, 5)
    assert first[3:] == [
        "execute", "capture begins", "execute", "capture ends", "copy to device", "replay", "copy to host", "wait"
    ]  # fmt: skip
    ask(made, 9, 1)
    assert ask(made, 5) == ["copy to device", "replay", "copy to host", "wait"]
    assert len(made.engine.contexts) == 2


def test_fake_rtx_captures_by_itself() -> None:
    made = stream(RTX, graphs=True, config="captures")
    assert ask(made, 5)[-4:] == RUN
    assert made.engine.contexts == ["captures"]
    assert stream(RTX).engine.contexts == [None]


def test_fake_refusals_are_errors() -> None:
    with pytest.raises(RuntimeError, match=r"refuses shape \(1, 200\) of input ids: it gives no reason"):
        ask(stream(), 200)
    made = stream()
    made.stream.cuda_stream = 8
    with pytest.raises(RuntimeError, match="could not queue the request"):
        ask(made, 5)
