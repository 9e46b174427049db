"""How TensorRT-RTX opens an engine: graphs that it captures itself, and kernels kept from an earlier opening.

An engine of TensorRT-RTX holds no kernels: they are compiled for the GPU where it is opened, and for new shapes as they
come. A runtime cache keeps them, so that the next opening compiles nothing again.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

from modelpress.engines.driver import Device
from modelpress.engines.trt.sidecar import Sidecar, digest

log = logging.getLogger(__name__)
COLD, WARM, REFUSED = "cold", "warm", "refused"


def cache_path(file: Path, known: Sidecar, device: Device) -> Path:
    """Beside the engine, one file per version, kind of GPU and engine: ``main_fp16.<key>.kernels``.

    The driver is not in the key: TensorRT-RTX asks it itself, and takes kernels of an older one.
    """
    key = repr((known.flavour, known.version, device.name, device.compute_capability, known.engine_sha256))
    return file.with_suffix(f".{digest(key.encode())[:16]}.kernels")


class RuntimeCache:
    """The kernels of one opened engine, in memory and in ``file``.

    ``state``: ``cold`` (there was no file), ``warm`` (its kernels are used) or ``refused`` (TensorRT-RTX does not take
    them, as after a change of the driver; they are compiled and written again).
    """

    def __init__(self, file: Path) -> None:
        self.file, self.state = file, COLD
        self.compiled: Any = None  # TensorRT's own object
        self.saved = b""

    def attach(self, config: Any) -> None:
        """Give what was kept to a runtime configuration, whose contexts then add to it.

        A CUDA context must be current: reading an engine makes one. Raises ``RuntimeError`` if it is not taken.
        """
        kernels = config.create_runtime_cache()
        self.saved = self.file.read_bytes() if self.file.is_file() else b""
        if self.saved:
            self.state = WARM if kernels.deserialize(self.saved) else REFUSED
        if not config.set_runtime_cache(kernels):
            raise RuntimeError("TensorRT-RTX takes no runtime cache; set engine.tensorrt_rtx.runtime_cache=false")
        self.compiled = kernels

    def save(self) -> None:
        """Write what has been compiled so far; a disk that cannot be written costs the next opening, not this one."""
        kernels = self.compiled
        data = bytes(kernels.serialize())
        if data == self.saved:
            return
        half = self.file.with_suffix(f".{os.getpid()}.tmp")
        try:
            half.write_bytes(data)
            half.replace(self.file)
        except OSError as error:
            half.unlink(missing_ok=True)
            log.warning("Compiled kernels are not kept in %s: %s", self.file, error)
            return
        self.saved = data

    def details(self) -> dict[str, Any]:
        """For the row: what it found when it was opened, and how much there is now."""
        return {"state": self.state, "size_mb": round(len(self.saved) / 1e6, 3)}


def context_config(trt: Any, engine: Any, cache: RuntimeCache | None, *, graphs: bool) -> Any:
    """What the contexts of an engine are made with; ``None``: nothing but the defaults."""
    own_graphs = graphs and hasattr(trt, "CudaGraphStrategy")
    if not own_graphs and cache is None:
        return None
    config = engine.create_runtime_config()
    if own_graphs:
        config.cuda_graph_strategy = trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
    if cache is not None:
        cache.attach(config)
    return config
