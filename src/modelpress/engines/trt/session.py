"""An opened engine: its streams, its profiles, and what the report wants to know of it. Needs a GPU."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelpress.engines.base import Arrays, Plan, Session, Unsupported
from modelpress.engines.precision import effective
from modelpress.engines.trt import layers
from modelpress.engines.trt.load import logger
from modelpress.engines.trt.profiles import Sizes, choose
from modelpress.engines.trt.runtime import WARM, RuntimeCache, context_config
from modelpress.engines.trt.sidecar import Sidecar
from modelpress.engines.trt.stream import Stream


def deserialized(trt: Any, data: bytes) -> Any:
    """The engine of a plan file. Raises Unsupported with TensorRT's reason; a driver must have been found before."""
    runtime = trt.Runtime(logger(trt))
    engine = runtime.deserialize_cuda_engine(data)
    if engine is None:
        why = "; ".join([*invalidity(trt, runtime, data), *logger(trt).taken()]) or "it gives no reason"
        raise Unsupported(f"{trt.__name__} does not read this engine: {why}. Build it again on this machine.")
    return engine


def invalidity(trt: Any, runtime: Any, data: bytes) -> list[str]:
    """What TensorRT-RTX says against an engine on this machine, such as ``UNSUPPORTED_CC``; TensorRT is mute."""
    if not hasattr(runtime, "get_engine_validity"):
        return []
    _, bits = runtime.get_engine_validity(data)
    return [name for name, flag in trt.EngineInvalidityDiagnostics.__members__.items() if bits & int(flag)]


class TensorRTSession(Session):
    """``streams`` execution contexts on as many CUDA streams; :meth:`run` uses the first, :meth:`answers` all."""

    def __init__(self, trt: Any, engine: Any, plan: Plan, sidecar: Sidecar, cache: RuntimeCache | None = None) -> None:
        import torch

        self.trt, self.engine, self.plan, self.sidecar = trt, engine, plan, sidecar
        self.cache = cache
        self.profiles = sidecar.opened_profiles()
        graphs = plan.settings["cuda_graphs"]
        config = context_config(trt, engine, cache, graphs=graphs)
        self.streams = [
            Stream(trt, torch, engine, graphs=graphs, config=config) for _ in range(plan.settings["streams"])
        ]
        self.kernels_kept = None if cache is None else cache.state == WARM
        self.padding: str = plan.settings["padding"]
        self.layers = layers.read(
            engine.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON), sidecar.products
        )
        self.work = layers.counts(self.layers)
        self.precision = precision_of(self.work, sidecar)

    def run(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """One request. Raises ModelPressError for a shape outside every profile."""
        self._begin(self.streams[0], inputs)
        return cut(self.streams[0].finish(), self.sidecar, inputs)

    def answers(self, requests: Iterable[Arrays]) -> Iterator[dict[str, NDArray[Any]]]:
        """As many requests in flight as there are streams."""
        waiting: deque[tuple[Stream, Arrays]] = deque()
        for turn, inputs in enumerate(requests):
            if len(waiting) == len(self.streams):
                stream, earlier = waiting.popleft()
                yield cut(stream.finish(), self.sidecar, earlier)
            stream = self.streams[turn % len(self.streams)]
            self._begin(stream, inputs)
            waiting.append((stream, inputs))
        for stream, earlier in waiting:
            yield cut(stream.finish(), self.sidecar, earlier)

    def _begin(self, stream: Stream, inputs: Arrays) -> None:
        known = {name: inputs[name] for name in stream.inputs}
        shapes = {name: known[name].shape for name in stream.inputs}
        profile, wanted = choose(self.profiles, shapes, self.padding) if self.profiles else (0, shapes)
        stream.begin({name: padded(array, wanted[name]) for name, array in known.items()}, profile)

    def device_ms(self) -> dict[str, float]:
        """Of the last :meth:`run`: ``h2d``, ``compute`` and ``d2h``."""
        return self.streams[0].device_ms()

    def warmed(self) -> None:
        """Keep what was compiled for the shapes that were met."""
        if self.cache is not None:
            self.cache.save()

    def close(self) -> None:
        """Keep what was compiled since."""
        self.warmed()

    def details(self) -> dict[str, Any]:
        """Version, profiles with their device memory, streams, CUDA graphs, and what the layers compute in."""
        return {
            "runtime": f"{self.sidecar.flavour} {self.sidecar.version}",
            "threads": self.plan.settings["threads"],
            "streams": len(self.streams),
            "cuda_graphs": self.plan.settings["cuda_graphs"],
            "padding": self.padding,
            "tf32": self.sidecar.tf32,
            **({"runtime_cache": self.cache.details()} if self.cache is not None else {}),
            "precision_asked": self.sidecar.precision,
            "floats": self.sidecar.floats,
            "profiles": [str(profile) for profile in self.profiles],
            "context_memory_mb": context_memory_mb(self.engine),
            "fit": self.sidecar.fit,
            "build_seconds": self.sidecar.build_seconds,
            "working_layers": self.work,
            **({"int8_matmuls": layers.int8_matmuls(self.layers)} if self.sidecar.precision == "int8" else {}),
        }


def precision_of(work: Mapping[str, int], sidecar: Sidecar) -> str:
    """What most products compute in, by the inspector's word; it calls TF32 float32, which the report does not."""
    found = effective(work) if work else sidecar.precision
    return "tf32" if found == "fp32" and sidecar.tf32 else found


def context_memory_mb(engine: Any) -> list[float]:
    """Device memory that an execution context needs in each profile, MB (weights not included)."""
    sizes = map(engine.get_device_memory_size_for_profile_v2, range(engine.num_optimization_profiles))
    return [round(size / 1e6, 2) for size in sizes]


def padded(array: NDArray[Any], shape: Sizes) -> NDArray[Any]:
    """The array with zeros behind it up to ``shape``: padding tokens that the attention mask leaves out."""
    if array.shape == tuple(shape):
        return array
    result = np.zeros(shape, array.dtype)
    result[tuple(map(slice, array.shape))] = array
    return result


def cut(outputs: Mapping[str, NDArray[Any]], sidecar: Sidecar, inputs: Arrays) -> dict[str, NDArray[Any]]:
    """Outputs without what padding added: axes that share their name with an input's are as long as that input's."""
    sizes = {
        key: size
        for name, axes in sidecar.inputs.items()
        for key, size in zip(axes, inputs[name].shape, strict=True)
        if isinstance(key, str)
    }
    return {
        name: array[tuple(slice(sizes.get(key) if isinstance(key, str) else None) for key in sidecar.outputs[name])]
        for name, array in outputs.items()
    }
