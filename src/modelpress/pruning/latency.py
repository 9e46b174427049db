"""The shape of a network for a latency budget: layer costs are measured, a shape is chosen, and measured itself."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from modelpress.errors import ModelPressError
from modelpress.models.dual import DualEncoder
from modelpress.pruning import blocks, select, structure
from modelpress.pruning.sizing import Sizing
from modelpress.pruning.table import Point, nearest, point, predict, search, spread
from modelpress.report.record import Interval

if TYPE_CHECKING:
    from modelpress.models.base import Model
    from modelpress.pruning.shapes import Shape

log = logging.getLogger(__name__)
Latency = Callable[[Any], Interval]
Track = Callable[[Iterable[Any], str], Iterable[Any]]
TOKENS = 128  # multiply-adds are counted at this length; only their ratios matter
POINTS = 4  # shapes of layers that are measured
DEEP = 3  # layers of the network whose further layers give the cost of one
STEPS = 64  # shares of the parameters that are tried
ALL: Track = lambda items, title: items  # noqa: E731


def fit(sizing: Sizing, latency: Latency | None, budget_ms: float | None, track: Track = ALL) -> Shape:
    """The largest shape of ``sizing.model`` whose p50 is certainly within ``budget_ms``, found by measuring.

    Of a text classifier, networks of one and of a few layers are measured at up to four layer shapes, and their costs
    predict every candidate; of a dual encoder the whole network and the smallest one, and between them the p50 of an
    image with a text is taken to grow with the multiply-adds. The candidate chosen is measured untrained and the
    prediction corrected, at most eight times.

    Raises:
        ModelPressError: there is no engine or no budget, or the budget cannot be reached; then the smallest latency
            that can is named.
    """
    measure, budget_ms = _required(latency, budget_ms)
    model, remove = sizing.model, sizing.remove
    ladder = _ladder(sizing)

    def at(index: int) -> Interval:
        kept, shape = sizing.measurable(ladder[index])
        return measure(sized(model, shape, kept))

    if isinstance(model, DualEncoder):
        predicted = _line(model, ladder, at)
    else:
        predicted = _predictions(model, ladder, measure, track)
    index, tried = search(predicted, at, budget_ms)
    found, words = tried[index], described(sizing.measurable(ladder[index])[1])
    if found.ci_high > budget_ms:
        raise ModelPressError(
            f"budget.latency_ms is {budget_ms:g}, but removing {', '.join(remove)} reaches {found.value:.3g} ms "
            f"[{found.ci_low:.3g}, {found.ci_high:.3g}] at the least ({words}) in {measure}. "
            f"Allow {found.ci_high * 1.02:.3g} ms or more, or let more be removed (transform.remove)."
        )
    log.info(
        "Latency: %.3g ms [%.3g, %.3g] for a budget of %g: %s (%d networks measured).",
        *(found.value, found.ci_low, found.ci_high, budget_ms, words, len(tried)),
    )
    return ladder[index]


def _ladder(sizing: Sizing) -> list[Shape]:
    """What is :func:`reachable`; every tower of a dual encoder keeps a layer."""
    model = sizing.model
    if not isinstance(model, DualEncoder):
        return reachable(sizing.full, sizing.remove, sizing.round_to)
    cost, least = partial(structure.parameters, model), blocks.least_layers(model)
    shapes = reachable(sizing.full, sizing.remove, sizing.round_to, cost)
    return [shape for shape in shapes if len(shape.layers) >= least]


def _line(model: DualEncoder, ladder: Sequence[Shape], at: Callable[[int], Interval]) -> list[float]:
    """p50 in ms of every shape, on a line through the largest and the smallest over their multiply-adds."""
    macs = [structure.products(model, shape) for shape in ladder]
    least, most = at(len(ladder) - 1).value, at(0).value
    return [float(ms) for ms in np.interp(macs, [macs[-1], macs[0]], [least, most])]


def equal(model: Model, latency: Latency, rival: Model, *, remove: Sequence[str], round_to: int) -> Shape:
    """The shape of ``model``, reached by ``remove``, whose measured p50 is nearest to that of ``rival``."""
    target = latency(rival)
    ladder = reachable(structure.shape_of(model), remove, round_to)
    index, tried = nearest(len(ladder), lambda i: latency(sized(model, ladder[i])), target.value)
    log.info("Equal latency: %.3g ms for %.3g: %s.", tried[index].value, target.value, described(ladder[index]))
    return ladder[index]


def _required(latency: Latency | None, budget_ms: float | None) -> tuple[Latency, float]:
    if budget_ms is None:
        raise ModelPressError("transform.target is latency_ms, and there is no budget. Set it: budget.latency_ms=3.0")
    if latency is None:
        raise ModelPressError(
            "transform.target is latency_ms, and there is no engine here to measure on. Set parameters."
        )
    return latency, budget_ms


def reachable(dense: Shape, remove: Sequence[str], round_to: int, cost: select.Cost = select.weights) -> list[Shape]:
    """``dense`` and every shape that leaves a share of its parameters, largest first."""
    found = {dense: None}
    for step in range(STEPS - 1, 0, -1):
        try:
            found[select.candidates(dense, remove=remove, round_to=round_to, share=step / STEPS, cost=cost)] = None
        except ModelPressError:  # fewer parameters than that cannot be reached
            break
    return list(found)


def _predictions(model: Model, ladder: Sequence[Shape], latency: Latency, track: Track) -> list[float]:
    chosen = spread(len(ladder), POINTS)
    if len({ladder[i].layers[0] for i in chosen} | {ladder[i].width for i in chosen}) == 2:
        chosen = chosen[:1]  # only layers go: all of them are alike
    points = [layer_cost(model, ladder[i], latency) for i in track(chosen, "measuring layers")]
    return [predict(points, layer_macs(shape)) for shape in ladder]


def layer_cost(model: Model, shape: Shape, latency: Latency) -> Point:
    """Measure networks of one and of a few layers like the first of ``shape``."""
    further = min(DEEP, len(structure.shape_of(model).layers)) - 1
    shallow, deep = (latency(sized(model, with_layers(shape, count))) for count in (1, 1 + further))
    return point(layer_macs(with_layers(shape, 1))[0], shallow.value, deep.value, further)


def with_layers(shape: Shape, count: int) -> Shape:
    """``count`` layers, each like the first."""
    return type(shape)(shape.width, (shape.layers[0],) * count)


def layer_macs(shape: Shape) -> list[float]:
    """Multiply-adds of each layer: what a second one of its kind would add."""
    kinds = [type(shape)(shape.width, (layer,)) for layer in shape.layers]
    twice = [type(shape)(shape.width, (layer, layer)) for layer in shape.layers]
    pairs = zip(kinds, twice, strict=True)
    return [float(structure.macs(two, TOKENS) - structure.macs(one, TOKENS)) for one, two in pairs]


def sized(model: Model, shape: Shape, kept: Sequence[int] | None = None) -> Model:
    """A copy of ``model`` cut to ``shape`` without any care for its weights, in evaluation mode.

    ``kept``: the layers that stay, by default the first ones.
    """
    return structure.shrink(copy.deepcopy(model), shape, kept_layers=kept).eval()


def described(shape: Shape) -> str:
    """``6 layers of 384, 12 heads of 32 and 1536 neurons``; ranges where layers differ."""
    heads, widths, neurons = (
        sorted({getattr(layer, name) for layer in shape.layers}) for name in ("heads", "head_width", "neurons")
    )
    spans = [f"{values[0]}–{values[-1]}" if len(values) > 1 else str(values[0]) for values in (heads, widths, neurons)]
    width = "" if shape.width == blocks.STREAM else f" of {shape.width}"
    return f"{len(shape.layers)} layers{width}, {spans[0]} heads of {spans[1]} and {spans[2]} neurons"
