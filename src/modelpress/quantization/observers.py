"""Observers watch activations pass and say which range [-amax, amax] the eight bits represent.

The ones here follow the extremes; those that weigh rounding against clipping are in calibrators.py.
"""

from __future__ import annotations

import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from modelpress.errors import ModelPressError, one_of

NAMES = ("minmax", "moving_average", "percentile", "entropy", "mse")
EXPONENT_MIN = -100
SMALLEST = 2.0**EXPONENT_MIN  # below it, amax / 127 and the width of a histogram's bin come near float32's underflow


def make(kind: str, /, **options: Any) -> Observer:
    """The observer called ``kind``, one of ``NAMES``, with the options of its constructor.

    Raises:
        ModelPressError: an unknown kind or option, or a value out of range
    """
    from modelpress.quantization import calibrators  # which builds on this module

    kinds: tuple[type[Observer], ...] = (
        MinMax,
        MovingAverage,
        calibrators.Percentile,
        calibrators.Entropy,
        calibrators.Mse,
    )
    chosen = dict(zip(NAMES, kinds, strict=True))[one_of("calibrator", kind, NAMES)]
    for option in options:
        one_of(f"an option of calibrator {kind!r}", option, inspect.signature(chosen).parameters)
    return chosen(**options)


class Observer(ABC):
    """Sees tensors of any shape and float type, one after the other, in constant memory.

    ``name`` is that of the layer, for messages. ``maximum`` is the largest magnitude so far, ``count`` the number of
    values. A constant that is not 0 is no fault: eight bits hold it, exactly or (``mse``) to within a bin.
    """

    def __init__(self, name: str = "") -> None:
        self.name = name
        self.maximum = 0.0
        self.count = 0
        self._device = torch.device("cpu")

    @torch.no_grad()
    def observe(self, x: Tensor) -> None:
        """Take ``x`` (any shape) into account, in float32.

        Raises:
            ModelPressError: ``x`` holds NaN or infinite values; they are not taken into account
        """
        x = x.float()
        if not x.numel():
            return
        low, high = x.aminmax()  # both propagate NaN
        largest = max(-float(low), float(high))
        if not math.isfinite(largest):
            raise self._broken(x)
        self.maximum = max(self.maximum, largest)
        self.count += x.numel()
        self._device = x.device
        self._take(x, largest)

    def amax(self) -> Tensor:
        """The end of the range: float32, without axes, above 0, never above the largest magnitude seen.

        Raises:
            ModelPressError: nothing was seen, or only zeros
        """
        if not self.count:
            raise self._fault(
                "saw no value",
                "Run calibration batches through the network, and check that this layer is used in its forward pass",
            )
        if self.maximum < SMALLEST:
            nearly = f" or nearly 0 (the largest magnitude is {self.maximum:g})" if self.maximum else ""
            raise self._fault(
                f"cannot choose a range: every value was 0{nearly}, over {self.count} values",
                "Check the calibration data, or leave this layer in float",
            )
        return torch.tensor(min(self._threshold(), self.maximum), dtype=torch.float32, device=self._device)

    @abstractmethod
    def _take(self, x: Tensor, largest: float) -> None:
        """Add ``x``, finite float32, of which ``largest`` is the largest magnitude."""

    @abstractmethod
    def _threshold(self) -> float:
        """The range's end, given that a value of at least ``SMALLEST`` was seen."""

    def _broken(self, x: Tensor) -> ModelPressError:
        nan, infinite = int(x.isnan().sum()), int(x.isinf().sum())
        return self._fault(
            f"met {nan} NaN and {infinite} infinite values among {x.numel()}",
            "Check that the network's weights and the calibration data are finite, and calibrate in float32",
        )

    def _fault(self, what: str, fix: str) -> ModelPressError:
        layer = f" of {self.name!r}" if self.name else ""
        return ModelPressError(f"The activation observer{layer} {what}. {fix}.")


class MinMax(Observer):
    """The largest magnitude: nothing is clipped."""

    def _take(self, x: Tensor, largest: float) -> None:
        pass  # the base class keeps the maximum

    def _threshold(self) -> float:
        return self.maximum


class MovingAverage(Observer):
    """Average of the largest magnitudes of the batches, older ones weighted by ``momentum`` again with every batch.

    "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", arXiv:1712.05877.
    The first batch starts the average; batches of zeros only are passed over. It depends on the order of the batches
    and on their size.
    """

    def __init__(self, momentum: float = 0.9, name: str = "") -> None:
        super().__init__(name)
        self.momentum = checked("momentum", momentum, "a number from 0 to below 1", lambda given: 0 <= given < 1)
        self._average = 0.0

    def _take(self, x: Tensor, largest: float) -> None:
        keep = self.momentum if self._average else 0.0
        if largest:
            self._average = keep * self._average + (1 - keep) * largest

    def _threshold(self) -> float:
        return self._average


def checked(name: str, given: object, allowed: str, fits: Callable[[float], bool]) -> float:
    """``given`` if it is a number that ``fits``; otherwise raise, saying in words what is ``allowed``.

    >>> checked("momentum", 0.9, "a number from 0 to below 1", lambda given: 0 <= given < 1)
    0.9
    """
    if isinstance(given, bool) or not isinstance(given, int | float) or not fits(given):
        raise ModelPressError(f"{name} is {given!r}; it must be {allowed}.")
    return given
