"""FP16 and BF16: which layers may run in 16 bits, found out before anything is shipped."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from torch import nn

from modelpress.errors import ModelPressError, one_of
from modelpress.models.base import Model, parameter_count
from modelpress.models.numerics import Numerics
from modelpress.quantization.half import TYPES
from modelpress.quantization.overflow import Limits, Search, Settled
from modelpress.transforms.base import Transform

if TYPE_CHECKING:
    from modelpress.transforms.base import Context

log = logging.getLogger(__name__)


class Precision(Transform):
    """The network's export becomes a strongly typed 16-bit graph (see :func:`modelpress.export.typed.convert`).

    The weights stay float32 in PyTorch; ``model.numerics`` says what is to become of them. With epochs the stage
    trains first, in the precision of the hardware (``hardware.precision``: AMP is Lightning's), and converts then.

    ``numerics.details``: ``float_layers`` (for the export: the head and all pinned ones), ``pinned`` and ``overflow``
    (layer -> largest value seen), ``largest`` (the 16-bit layer nearest to the limit, and the limit), ``difference``
    and ``agreement`` with float32 as simulated on ``items`` texts, ``max_difference``.

    Args:
        kind: fp16 or bf16.
        max_difference: of a logit (of a dual encoder: of a cosine) from float32, absolute; layers are left in float32
            until it holds.
        min_agreement: share of equal predictions, likewise.
        samples: calibration items that are run.
        pinned: layers (names of modules, as the error of a wrong one lists them) that stay float32 in any case.
    """

    kind: ClassVar[str] = "precision"
    # a quantized graph is typed by its scales, and a second conversion would look for float32 in vain
    forbidden_after: ClassVar[tuple[str, ...]] = ("precision", "quantize")

    def __init__(
        self,
        kind: str,
        max_difference: float,
        min_agreement: float = 0.98,
        samples: int = 256,
        pinned: Sequence[str] = (),
    ) -> None:
        self.numbers = one_of("precision.kind", kind, TYPES)
        if not 0 < max_difference < math.inf or not 0 <= min_agreement <= 1:
            raise ModelPressError(
                f"precision.max_difference is {max_difference} and min_agreement {min_agreement}; allowed: above 0, "
                "and 0 to 1."
            )
        if samples < 1:
            raise ModelPressError(f"precision.samples is {samples}; at least one text must be run.")
        self.limits = Limits(max_difference, min_agreement)
        self.samples = samples
        self.pinned = tuple(pinned)
        self.settled: Settled | None = None
        self._search_on: Sequence[Mapping[str, Any]] = ()

    def prepare(self, model: nn.Module, context: Context) -> nn.Module:
        """Fetch the calibration batches and look at the network once, so that what is hopeless stops before training.

        Raises:
            ModelPressError: an unknown layer is pinned, there is no layer to convert, or float32 is broken already.
        """
        layers = [name for name, _ in model.named_modules() if name]
        for name in self.pinned:
            one_of("precision.pinned", name, layers)
        self._search_on = context.calibration(self.samples)
        if not self._search(model).look(self.pinned, batches=1).parameters:
            raise ModelPressError(f"{self.numbers}: the network has no layer that could run in 16 bits.")
        return model

    def finalize(self, model: nn.Module) -> nn.Module:
        """Find the layers that stay float32, on the trained weights, and say so in ``model.numerics``."""
        assert isinstance(model, Model)
        settled = self._search(model).settle(self.pinned, self.limits)
        for name, value in settled.overflowed.items():
            log.warning("%s overflows in %s (largest value %.4g): it stays float32.", name, self.numbers, value)
        if others := [name for name in settled.pinned if name not in settled.overflowed]:
            log.info("%s: also left in float32: %s", self.numbers, ", ".join(others))
        self.settled = settled
        model.numerics = Numerics(self.numbers, self._details(settled))
        return model

    def _search(self, model: nn.Module) -> Search:
        assert isinstance(model, Model)
        return Search(model, self.numbers, self._search_on)

    def _details(self, settled: Settled) -> dict[str, Any]:
        layer, value = settled.largest
        return {
            "float_layers": list(dict.fromkeys(name for name in (*settled.pinned, *settled.heads) if name)),
            "pinned": dict(settled.pinned),
            "overflow": dict(settled.overflowed),
            "largest": {"layer": layer, "value": value},
            "difference": settled.difference,
            "agreement": settled.agreement,
            "max_difference": self.limits.difference,
            "items": sum(len(next(iter(batch.values()))) for batch in self._search_on),
        }

    def coverage(self, model: nn.Module) -> Mapping[str, Any]:
        """Share of the parameters that the typed graph reads in 16 bits; known after :meth:`finalize`."""
        if self.settled is None:
            return {}
        sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
        low = sum(size for name, size in sizes.items() if name in self.settled.parameters)
        excluded = [name for name in (*self.settled.pinned, *self.settled.heads) if name]
        return {"parameters": low / parameter_count(model), "excluded": excluded}
