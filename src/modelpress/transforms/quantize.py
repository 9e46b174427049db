"""INT8: post-training quantization, and the start of quantization-aware training."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from torch import nn

from modelpress.errors import ModelPressError, one_of
from modelpress.models.base import Model
from modelpress.models.numerics import Numerics
from modelpress.quantization import attach, batch_norm
from modelpress.quantization.calibrate import Recipe, calibrate
from modelpress.quantization.observers import checked
from modelpress.quantization.quantizers import InputQuantizer
from modelpress.quantization.search import search
from modelpress.transforms.base import Context, Transform

log = logging.getLogger(__name__)
RANGES = ("fixed", "running", "learned")


class Quantize(Transform):
    """Symmetric INT8 weights (per channel) and activations (per tensor), calibrated before anything trains.

    With ``trainer.max_epochs: 0`` this is post-training quantization (PTQ). With epochs it is quantization-aware
    training (QAT, arXiv:1712.05877): the forward pass computes on the grid, gradients pass straight through.

    Args:
        activations: ``static`` ranges from calibration, or ``dynamic``: found at run time, nothing to calibrate.
        calibrator: how a range is chosen: minmax, moving_average, percentile, entropy or mse.
        calibrator_options: e.g. ``{percentile: 99.9}``.
        samples: calibration items.
        draw: seeds which of the calibration split they are.
        balance: SmoothQuant's alpha, ``search`` (one per input) or null.
        bias_correction: move the mean error of every layer into its bias.
        embeddings: whether tables are quantized too.
        attention: whether the two products inside attention are.
        exclude: names or patterns of layers that stay float.
        bits: 8; other widths have no kernels on the engines here.
        ranges: of activations while training: ``fixed``, ``running`` (moving average) or ``learned`` (LSQ,
            arXiv:1902.08153).
        momentum: of running ranges.
        freeze_at: share of training after which ranges stand.
        dropout: whether the network's dropout stays on while it trains on its grid. Its noise is larger than that of
            rounding, so a network that only has to adapt to rounding drifts away from what it was.
        max_metric_drop: on the validation split, absolute; layers are left in float until it holds. null: no search.
    """

    kind: ClassVar[str] = "quantize"
    forbidden_after: ClassVar[tuple[str, ...]] = ("quantize", "precision")

    def __init__(
        self,
        activations: str = "static",
        calibrator: str = "minmax",
        calibrator_options: Mapping[str, Any] | None = None,
        samples: int = 256,
        draw: int = 0,
        balance: float | str | None = "search",
        bias_correction: bool = True,
        embeddings: bool = True,
        attention: bool = False,
        exclude: Sequence[str] = (),
        bits: int = 8,
        ranges: str = "fixed",
        momentum: float = 0.99,
        freeze_at: float = 0.8,
        dropout: bool = False,
        max_metric_drop: float | None = None,
    ) -> None:
        if bits != 8:
            raise ModelPressError(f"transform.bits is {bits}; allowed: 8. No engine here has kernels for other widths.")
        if max_metric_drop is not None and not 0 <= max_metric_drop < 1:
            raise ModelPressError(
                f"transform.max_metric_drop is {max_metric_drop}; allowed: 0 to 1 (0.005: half a point), or null."
            )
        self.ranges = one_of("transform.ranges", ranges, RANGES)
        activations = one_of("transform.activations", activations, ("static", "dynamic"))
        if attention and activations == "dynamic":
            raise ModelPressError(
                "transform.attention=true needs transform.activations=static: both operands of those products are "
                "activations, and no engine here finds the ranges of both at run time."
            )
        self.scope = attach.Scope(activations, embeddings, attention, tuple(exclude))
        self.recipe = Recipe(calibrator, dict(calibrator_options or {}), balance, bias_correction)
        self.samples = int(checked("transform.samples", samples, "a whole number from 1", _whole_from(1)))
        self.draw = int(checked("transform.draw", draw, "a whole number from 0", _whole_from(0)))
        self.momentum = checked("transform.momentum", momentum, "a number from 0 to below 1", lambda m: 0 <= m < 1)
        self.freeze_at = checked("transform.freeze_at", freeze_at, "a share from 0 to 1", lambda s: 0 <= s <= 1)
        self.dropout = dropout
        self.max_metric_drop = max_metric_drop
        self.report: dict[str, Any] = {}
        self.folded: list[tuple[str, str]] = []
        self.quantizers: list[InputQuantizer] = []  # found once: step runs before every batch

    def check(self, model: nn.Module) -> None:
        """Fold batch norms and attach quantizers.

        Raises:
            ModelPressError: a name or pattern matches nothing, or too much of the network cannot be quantized.
        """
        assert isinstance(model, Model)
        self.folded = batch_norm.fold(model)
        attach.attach(model, self.scope)
        self._check_coverage(model)

    def prepare(self, model: nn.Module, context: Context) -> nn.Module:
        """:meth:`check`, calibrate, find layers that must stay float if there is a limit, make ranges trainable."""
        assert isinstance(model, Model)
        self.check(model)
        batches = context.calibration(self.samples, self.draw)
        self.report = calibrate(model, batches, self.recipe, context.track)
        if self.max_metric_drop is not None:
            self._leave_in_float(model, context)
        model.numerics = self._numerics(model)
        self._set_ranges(model)
        if not self.dropout:
            without_dropout(model)
        return model

    def _check_coverage(self, model: nn.Module) -> None:
        share, names = attach.escaped(model, self.scope.exclude)
        if share > 1 - attach.LEAST_COVERAGE:
            raise ModelPressError(
                f"{100 * share:.0f} % of the weights lie in layers that cannot be quantized: {', '.join(names[:6])}"
                f"{' …' if len(names) > 6 else ''}. Name them in transform.exclude if they are to stay float."
            )

    def _leave_in_float(self, model: Model, context: Context) -> None:
        assert self.max_metric_drop is not None
        names, self.report["search"] = search(model, context.validation(), self.max_metric_drop, context.track)
        attach.release(model, names)
        log.info("Mixed precision: %s.", self.report["search"]["why"])

    def _set_ranges(self, model: nn.Module) -> None:
        self.quantizers = list(attach.quantizers_of(model).values())
        for quantizer in self.quantizers:
            if self.ranges == "running":
                quantizer.momentum = self.momentum
            elif self.ranges == "learned" and self.scope.activations == "static":
                quantizer.learn()

    def step(self, model: nn.Module, progress: float) -> None:
        """Late in training the ranges stand, so that the weights settle on one grid."""
        for quantizer in self.quantizers:
            quantizer.hold()
            if progress >= self.freeze_at:
                quantizer.freeze()

    def finalize(self, model: nn.Module) -> nn.Module:
        """The network computes in INT8; ``model.numerics`` says what was done."""
        assert isinstance(model, Model)
        for quantizer in self.quantizers:
            quantizer.freeze()
        model.numerics = self._numerics(model)
        return model.eval()

    def _numerics(self, model: Model) -> Numerics:
        details = {
            "activations": self.scope.activations,
            "embeddings": self.scope.embeddings,
            "attention": self.scope.attention,
            "float_layers": attach.float_layers(model, self.scope),
            "coverage": attach.coverage(model),
            "samples": self.samples,
            "draw": self.draw,
            "folded": [list(names) for names in self.folded],
            **self.report,
        }
        return Numerics("int8", details)

    def coverage(self, model: nn.Module) -> Mapping[str, Any]:
        """Share of the weights in INT8, and the layers that are not."""
        assert isinstance(model, Model)
        return {"parameters": attach.coverage(model), "excluded": attach.float_layers(model, self.scope)}


def without_dropout(model: nn.Module) -> None:
    """No random zeros from now on, in training either."""
    for module in model.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.p = 0.0


def _whole_from(least: int) -> Callable[[float], bool]:
    return lambda given: given >= least and given % 1 == 0
