"""What an engine file does not say of itself: a JSON file beside it. An engine made elsewhere is refused by it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from modelpress.engines.base import Unsupported
from modelpress.engines.driver import Device
from modelpress.engines.trt.profiles import Profile

Axes = Mapping[str, list[int | str]]


@dataclass(frozen=True)
class Sidecar:
    """``compute_capability``: of the GPU it was built on; ``None`` where the build needed none (TensorRT-RTX)."""

    flavour: str  # tensorrt or tensorrt_rtx
    version: str
    gpu: str | None
    compute_capability: list[int] | None
    precision: str
    floats: str  # in which type the layers that are not quantized compute
    tf32: bool
    profiles: list[dict[str, dict[str, list[int]]]]
    inputs: Axes  # sizes and names of dynamic axes
    outputs: Axes
    onnx_sha256: str
    engine_sha256: str
    build_seconds: float
    fit: dict[str, Any] | None = None  # of profiles that were fitted to lengths
    products: dict[str, str] = field(default_factory=dict)  # nodes that multiply -> layer, for the engine inspector
    calibration: str = "qdq"  # who made the INT8 ranges: the graph, or a calibrator of TensorRT's own
    parse_seconds: float = 0.0  # of reading the graph, before the build

    def save(self, engine: Path) -> None:
        """Write it beside the engine."""
        path_of(engine).write_text(json.dumps(asdict(self), indent=1) + "\n")

    def opened_profiles(self) -> list[Profile]:
        """The profiles as they were built."""
        return [Profile(**{kind: _tuples(shapes) for kind, shapes in found.items()}) for found in self.profiles]


def path_of(engine: Path) -> Path:
    """``main.engine`` -> ``main.json``."""
    return engine.with_suffix(".json")


def profiles_record(profiles: list[Profile]) -> list[dict[str, dict[str, list[int]]]]:
    """Profiles as JSON."""
    return [{kind: {k: list(v) for k, v in shapes.items()} for kind, shapes in asdict(p).items()} for p in profiles]


def read(engine: Path) -> Sidecar:
    """The sidecar of an engine file. Raises Unsupported if it is missing, damaged or another engine's."""
    try:
        found = Sidecar(**json.loads(path_of(engine).read_text()))
    except FileNotFoundError as error:
        raise Unsupported(
            f"{engine} has no {path_of(engine).name} beside it; ModelPress opens engines that it built: build it again"
        ) from error
    except (ValueError, TypeError) as error:
        raise Unsupported(f"{path_of(engine)} is damaged ({error}); build the engine again") from error
    if digest(engine.read_bytes()) != found.engine_sha256:
        raise Unsupported(f"{engine} is not the engine that {path_of(engine).name} describes; build it again")
    return found


def refuse_foreign(sidecar: Sidecar, flavour: str, version: str) -> None:
    """Raise Unsupported for an engine of another runtime or version: it cannot be read."""
    if (sidecar.flavour, sidecar.version) != (flavour, version):
        raise Unsupported(
            f"the engine was built by {sidecar.flavour} {sidecar.version} and this is {flavour} {version}; engines are "
            "read by the version that built them: build it again"
        )


def refuse_other_gpu(sidecar: Sidecar, device: Device) -> None:
    """Raise Unsupported for an engine whose kernels were compiled for another kind of GPU."""
    if sidecar.compute_capability is not None and sidecar.compute_capability != list(device.compute_capability):
        major, minor = sidecar.compute_capability
        here = ".".join(map(str, device.compute_capability))
        raise Unsupported(
            f"the engine was built on {sidecar.gpu} (compute capability {major}.{minor}) and this is {device.name} "
            f"({here}); build it again here"
        )


def digest(data: bytes) -> str:
    """sha256 in hex."""
    return hashlib.sha256(data).hexdigest()


def _tuples(shapes: Mapping[str, list[int]]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(sizes) for name, sizes in shapes.items()}
