"""TensorRT 10's own INT8 calibration, by its name and only where it exists. The default is the Q/DQ graph."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelpress.benchmark.requests import read
from modelpress.engines.trt.build import Built, Options, configure, parsed, profile_of, serialized
from modelpress.engines.trt.load import Capabilities, builder, load, logger
from modelpress.engines.trt.profiles import Profile
from modelpress.errors import ModelPressError

NAME = "entropy_calibrator_2"
BATCH = 8


def require(flavour: str, able: Capabilities, version: str) -> None:
    """Raise ModelPressError where the classic calibrators do not exist."""
    if not able.calibrators:
        raise ModelPressError(
            f"engine.{flavour}.calibration is {NAME!r}, which {flavour} {version} does not have (TensorRT 10 does). "
            f"Use engine.{flavour}.calibration=qdq and calibrate in the stage before: technique=ptq "
            "technique.ptq.transform.calibrator=entropy."
        )


def build(flavour: str, onnx: bytes, options: Options, requests: Path, *, fp16: bool) -> Built:
    """INT8 from a float32 graph: a weakly typed network whose ranges TensorRT finds itself, by entropy.

    ``requests``: a requests file with the inputs to calibrate on. Raises as :func:`modelpress.engines.trt.build.build`.
    """
    trt, able = load(flavour)
    require(flavour, able, trt.__version__)
    maker = builder(trt, able)
    logger(trt).taken()
    network, _parser = parsed(trt, able, maker, onnx, typed=False)
    config = configure(trt, able, maker, options)
    config.set_flag(trt.BuilderFlag.INT8)
    if fp16:
        config.set_flag(trt.BuilderFlag.FP16)
    given = batches(requests)
    if options.profiles:  # the network has dynamic axes
        shapes = {name: given[0][name].shape for name in options.profiles[0].min}
        config.set_calibration_profile(profile_of(maker, Profile(shapes, shapes, shapes)))
    config.int8_calibrator = calibrator(trt, iter(given))
    return serialized(trt, maker, network, config, options.timing_cache)


def batches(requests: Path) -> list[dict[str, NDArray[Any]]]:
    """Whole batches of the requests file, each padded to its longest item."""
    arrays = read(requests).arrays
    count = len(next(iter(arrays.values())))
    if count < BATCH:
        raise ModelPressError(f"calibration_requests {requests} has {count} items; it needs at least {BATCH}.")
    starts = range(0, count - count % BATCH, BATCH)
    return [{n: np.ascontiguousarray(array[start : start + BATCH]) for n, array in arrays.items()} for start in starts]


def calibrator(trt: Any, given: Iterator[Mapping[str, NDArray[Any]]]) -> Any:
    """An ``IInt8EntropyCalibrator2`` over batches, which it holds on the GPU while TensorRT reads them."""
    import torch

    class Calibrator(trt.IInt8EntropyCalibrator2):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IInt8EntropyCalibrator2.__init__(self)
            self.held: dict[str, torch.Tensor] = {}

        def get_batch_size(self) -> int:
            return BATCH

        def get_batch(self, names: list[str]) -> list[int] | None:
            arrays = next(given, None)
            if arrays is None:
                return None
            self.held = {name: torch.from_numpy(arrays[name]).to("cuda") for name in names}
            return [self.held[name].data_ptr() for name in names]

        def read_calibration_cache(self) -> None:
            return None

        def write_calibration_cache(self, cache: Any) -> None:
            """Ranges are found anew for every build: a cache would hide other data."""

    return Calibrator()
