from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from onnxruntime.quantization.calibrate import CalibrationDataReader, MinMaxCalibrater
from torch import Tensor

from modelpress.errors import ModelPressError
from modelpress.quantization.observers import NAMES, MinMax, MovingAverage, Observer, checked, make

BATCHES = [torch.randn(4, 6, generator=torch.Generator().manual_seed(seed)) * (1 + seed % 3) for seed in range(5)]


def found(observer: Observer, *batches: Tensor) -> float:
    for batch in batches:
        observer.observe(batch)
    return float(observer.amax())


class Reader(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, batch: Tensor) -> None:
        self.rows: Iterator[dict[str, Any]] = iter([{"x": batch.numpy()}])

    def get_next(self) -> dict[str, Any] | None:
        return next(self.rows, None)


def onnxruntime_range(folder: Path, **options: Any) -> float:
    """What ONNX Runtime finds for an input x when batches come one by one."""
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 6]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [x], [y])
    opset = [helper.make_opsetid("", 20)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=10), folder / "x.onnx")
    calibrator = MinMaxCalibrater(
        folder / "x.onnx", augmented_model_path=str(folder / "augmented.onnx"), symmetric=True, **options
    )
    calibrator.augment_graph()
    calibrator.create_inference_session()
    for batch in BATCHES:
        calibrator.collect_data(Reader(batch))
    low, high = calibrator.compute_data()["x"].range_value
    assert low == -high
    return float(np.asarray(high).item())


def test_minmax_is_that_of_onnxruntime(tmp_path: Path) -> None:
    assert found(MinMax(), *BATCHES) == onnxruntime_range(tmp_path)


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_moving_average_is_that_of_onnxruntime(tmp_path: Path, momentum: float) -> None:
    reference = onnxruntime_range(tmp_path, moving_average=True, averaging_constant=1 - momentum)
    assert found(MovingAverage(momentum), *BATCHES) == pytest.approx(reference, rel=1e-6)


def test_moving_average_by_hand() -> None:
    batches = [torch.zeros(2), torch.tensor([1.0, -2.0]), torch.tensor([4.0]), torch.zeros(3), torch.tensor(-1.0)]
    assert found(MovingAverage(0.75), *batches) == pytest.approx((2.0 * 0.75 + 4.0 * 0.25) * 0.75 + 1.0 * 0.25)


@pytest.mark.parametrize("name", NAMES)
def test_make_gives_every_observer_the_same_shape_of_answer(name: str) -> None:
    observer = make(name, name="encoder.0")
    observer.observe(torch.randn(2, 3, 50))
    amax = observer.amax()
    assert amax.shape == ()
    assert amax.dtype == torch.float32
    assert 0 < float(amax) <= observer.maximum
    assert observer.count == 300
    assert observer.name == "encoder.0"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_are_observed_in_float32(name: str, dtype: torch.dtype) -> None:
    x = torch.randn(500, generator=torch.Generator().manual_seed(1)).to(dtype)
    assert found(make(name), x) == found(make(name), x.float())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [3.0, -0.3, 1e-29, 3e38])
def test_a_constant_is_the_range(name: str, value: float) -> None:
    exact = name != "mse"  # which takes values as spread within their bin, here the last of 2048
    amax = found(make(name), torch.full((7, 5), value))
    assert amax == pytest.approx(abs(value), rel=1e-6 if exact else 1 / 2000)


@pytest.mark.parametrize("name", NAMES)
def test_zeros_first_or_last_change_nothing(name: str) -> None:
    x = torch.randn(999, generator=torch.Generator().manual_seed(2)) * 1e-3
    with_zeros = found(make(name), torch.zeros(1), x, torch.zeros(1))
    assert with_zeros == pytest.approx(found(make(name), x), rel=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_what_was_not_seen_is_an_error(name: str) -> None:
    observer = make(name, name="encoder.0.query")
    observer.observe(torch.empty(0, 3))
    with pytest.raises(ModelPressError, match="observer of 'encoder.0.query' saw no value. Run calibration batches"):
        observer.amax()


@pytest.mark.parametrize("name", NAMES)
def test_zeros_only_are_an_error(name: str) -> None:
    observer = make(name)
    observer.observe(torch.zeros(2, 3))
    with pytest.raises(ModelPressError, match="The activation observer cannot.* every value was 0, over 6 values"):
        observer.amax()
    observer.observe(torch.tensor([1e-38]))
    with pytest.raises(ModelPressError, match=r"every value was 0 or nearly 0 \(the largest magnitude is 1e-38\)"):
        observer.amax()


@pytest.mark.parametrize("name", NAMES)
def test_values_that_are_not_finite_are_counted_and_leave_no_trace(name: str) -> None:
    observer = make(name, name="pooler")
    observer.observe(torch.ones(4))
    before = copy.deepcopy(observer)
    for bad, said in [
        ([float("nan"), 1.0, float("nan")], "'pooler' met 2 NaN and 0 infinite values among 3"),
        ([float("inf"), -float("inf"), 9.0, float("nan")], "'pooler' met 1 NaN and 2 infinite values among 4"),
    ]:
        with pytest.raises(ModelPressError, match=said):
            observer.observe(torch.tensor(bad))
    assert observer.count == before.count
    assert observer.amax() == before.amax()


def test_a_double_that_float32_cannot_hold_is_infinite() -> None:
    with pytest.raises(ModelPressError, match="0 NaN and 1 infinite values among 1"):
        MinMax().observe(torch.tensor([1e300], dtype=torch.float64))


def test_observing_leaves_gradients_alone() -> None:
    x = torch.ones(3, requires_grad=True)
    observer = MinMax()
    observer.observe(x * 2)
    assert not observer.amax().requires_grad
    assert x.grad is None


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("entrophy", {}, "calibrator is 'entrophy'; allowed: 'minmax'.* Did you mean 'entropy'?"),
        ("minmax", {"percentile": 99}, "an option of calibrator 'minmax' is 'percentile'; allowed: 'name'"),
        ("entropy", {"bin": 4096}, "allowed: 'bins', 'levels', 'name'. Did you mean 'bins'?"),
        ("moving_average", {"momentum": 1.0}, "momentum is 1.0; it must be a number from 0 to below 1"),
        ("moving_average", {"momentum": "0.9"}, "momentum is '0.9'; it must be a number"),
        ("moving_average", {"momentum": float("nan")}, "momentum is nan"),
        ("percentile", {"percentile": 50}, "percentile is 50; it must be a number above 50 and at most 100"),
        ("percentile", {"percentile": 100.1}, "percentile is 100.1"),
        ("percentile", {"percentile": True}, "percentile is True"),
        ("percentile", {"bins": 128}, "bins is 128; it must be a whole number from 256 to 16384"),
        ("entropy", {"bins": 255}, "bins is 255; it must be a whole number from 256 to 16384"),
        ("entropy", {"bins": 500, "levels": 256}, "bins is 500; it must be a whole number from 512"),
        ("entropy", {"levels": 1}, "levels is 1; it must be a whole number from 2 to 8192"),
        ("mse", {"bins": 1000.5}, "bins is 1000.5; it must be a whole number"),
        ("mse", {"bins": float("inf")}, "bins is inf"),
    ],
)
def test_options_out_of_range_are_refused(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelPressError, match=message):
        make(name, **options)


def test_checked_returns_what_was_given() -> None:
    assert checked("x", 0, "a number", lambda given: given == 0) == 0
