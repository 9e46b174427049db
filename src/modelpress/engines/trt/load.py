"""The one place that imports TensorRT. What a module can do is asked of its attributes, never of its version."""

from __future__ import annotations

import importlib
import logging
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from typing import Any

from modelpress.engines import driver
from modelpress.engines.base import Unsupported
from modelpress.errors import one_of

log = logging.getLogger(__name__)
INSTALL = {
    "tensorrt": "pip install 'modelpress[tensorrt]' with NVIDIA's own index, as docs/tensorrt.md says",
    "tensorrt_rtx": "pip install 'modelpress[tensorrt-rtx]'",
}


def installed(flavour: str) -> dict[str, str]:
    """Versions of the packages that bring this module, without importing it: one wheel per CUDA, or one for all."""
    found = {}
    for name in (flavour.replace("_", "-") + ending for ending in ("", "-cu12", "-cu13")):
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


@dataclass(frozen=True)
class Capabilities:
    """What one TensorRT module has. All but the last two concern the build."""

    builds_without_gpu: bool  # TensorRT-RTX: kernels are compiled where the engine is opened
    strong_typing_flag: bool  # a network is strongly typed when asked to be; since 11 it always is
    calibrators: bool  # the classic INT8 calibrators, which 11 has removed
    own_graphs: bool  # captures CUDA graphs by itself
    runtime_cache: bool  # keeps the kernels that it compiles when it opens an engine


def load(flavour: str) -> tuple[Any, Capabilities]:
    """The module of this flavour and what it can do.

    Raises:
        Unsupported: it is not installed, or its libraries are missing; says what to install.
        ModelPressError: there is no such flavour.
    """
    one_of("flavour", flavour, INSTALL)
    try:
        trt = importlib.import_module(flavour)
    except ModuleNotFoundError as error:
        raise Unsupported(f"{flavour} is not installed ({error}); {INSTALL[flavour]}") from error
    except ImportError as error:
        raise Unsupported(
            f"{flavour} is installed without its libraries ({error}); its -libs package has them: {INSTALL[flavour]}"
        ) from error
    return trt, capabilities(trt)


def capabilities(trt: Any) -> Capabilities:
    """What a TensorRT module can do, by its attributes."""
    return Capabilities(
        builds_without_gpu=hasattr(trt, "ComputeCapability"),
        strong_typing_flag=hasattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED"),
        calibrators=hasattr(trt, "IInt8EntropyCalibrator2"),
        own_graphs=hasattr(trt, "CudaGraphStrategy"),
        runtime_cache=hasattr(trt, "IRuntimeCache"),
    )


def builder(trt: Any, able: Capabilities) -> Any:
    """A Builder. Raises Unsupported where it would need a GPU and there is none."""
    if not able.builds_without_gpu:
        gpu()
    return trt.Builder(logger(trt))


def gpu() -> driver.Device:
    """The GPU that engines run on, the first that this process sees.

    Asked before any Runtime: without a driver, TensorRT's does not raise but crashes the process. Raises Unsupported.
    """
    found = driver.probe()
    if found.reason:
        raise Unsupported(found.reason)
    return found.devices[0]


@cache
def logger(trt: Any) -> Any:
    """The logger of this process: TensorRT keeps the first that it is given. It collects warnings and errors."""

    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.lines: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR):
                self.lines.append(message)
            log.debug("%s", message)

        def taken(self) -> list[str]:
            """Errors since the last call."""
            lines, self.lines = self.lines, []
            return lines

    return Logger()
