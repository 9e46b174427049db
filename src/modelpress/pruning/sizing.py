"""From the share that is asked for to the shape of an encoder, and the layers that it keeps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from modelpress.models.classifier import TextClassifier
from modelpress.models.dual import DualEncoder
from modelpress.pruning import blocks, select, structure
from modelpress.pruning.shapes import Shape

Encoder = TextClassifier | DualEncoder
COSTS = {"parameters": structure.parameters, "macs": structure.products, "latency_ms": structure.parameters}


@dataclass
class Sizing:
    """What one encoder becomes.

    A shape says how many layers stay; which ones is a matter of scores. Layers of a text classifier are alike, so that
    changes no cost; the towers of a dual encoder differ, so its shapes are settled again once it is known.

    Args:
        model: as it enters the stage.
        remove: units that may go.
        round_to: see :func:`modelpress.pruning.select.candidates`.
        target: what the share is a share of.
        choose: the layers to keep of that many, ascending; asked once for each number.
    """

    model: Encoder
    remove: Sequence[str]
    round_to: int
    target: str
    choose: Callable[[int], Sequence[int]]
    chosen: dict[int, list[int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.full = structure.shape_of(self.model)
        self.remove = structure.removable(self.model, self.remove)

    def by_share(self, share: float) -> Shape:
        """The largest shape that costs at most ``share`` of the whole.

        Raises:
            ModelPressError: no shape is that small.
        """
        cost = partial(COSTS[self.target], self.model)
        shape = select.candidates(self.full, remove=self.remove, round_to=self.round_to, share=share, cost=cost)
        if isinstance(self.model, DualEncoder):
            blocks.check_count(self.model, len(shape.layers))
        return shape

    def settled(self, shape: Shape) -> tuple[list[int], Shape]:
        """The layers that stay, and the shape that they get for the cost of ``shape``."""
        kept = self._kept(len(shape.layers))
        if isinstance(self.model, TextClassifier) or len(kept) == len(self.full.layers):
            return kept, shape
        cost: select.Cost = partial(COSTS[self.target], self.model, kept=kept)
        whole = Shape(self.full.width, tuple(self.full.layers[i] for i in kept))
        share = COSTS[self.target](self.model, shape) / cost(whole)
        others = [unit for unit in self.remove if unit != "layers"]
        if not others or share >= 1:
            return kept, whole
        return kept, select.candidates(whole, remove=others, round_to=self.round_to, share=share, cost=cost)

    def measurable(self, shape: Shape) -> tuple[list[int], Shape]:
        """:meth:`settled`, without scores where they change no latency."""
        if isinstance(self.model, TextClassifier):
            return list(range(len(shape.layers))), shape
        return self.settled(shape)

    def _kept(self, count: int) -> list[int]:
        if count == len(self.full.layers):
            return list(range(count))
        if count not in self.chosen:
            self.chosen[count] = list(self.choose(count))
        return self.chosen[count]
