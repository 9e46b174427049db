"""Which layers cannot run in a 16-bit type: those whose values overflow it, then those that change the answers most."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from modelpress.errors import ModelPressError
from modelpress.export.typed_nodes import inside
from modelpress.models.base import Batch, Model, Output
from modelpress.quantization.half import TYPES, Half, Layer, Seen

TIE = 1e-5  # answers as good as the best one: a caption that stands twice is the same answer both times


@dataclass(frozen=True)
class Limits:
    """How far 16-bit answers may be from float32: logits or cosines (largest, absolute), share of equal predictions."""

    difference: float
    agreement: float

    def hold(self, difference: float, agreement: float) -> bool:
        """Whether both are kept."""
        return difference <= self.difference and agreement >= self.agreement


@dataclass(frozen=True)
class Settled:
    """What stays float32 and what the rest then does. Layers are names of modules, with the largest value they saw."""

    pinned: Mapping[str, float]
    overflowed: Mapping[str, float]  # those of ``pinned`` that left the type's range
    heads: tuple[str, ...]  # the layer behind the logits or embeddings of each tower, float32 in every typed graph
    largest: tuple[str, float]  # the 16-bit layer that comes nearest to the limit
    parameters: frozenset[str]  # names of those read in 16 bits
    difference: float
    agreement: float


class Search:
    """One network in evaluation mode, one type, and the batches that stand for its work.

    Raises:
        ModelPressError: there is no batch, or the network is broken already in float32.
    """

    def __init__(self, model: Model, kind: str, batches: Sequence[Batch]) -> None:
        if not batches:
            raise ModelPressError(f"{kind}: no calibration data, so that an overflow could not be seen.")
        self.model, self.kind, self.batches = model.eval(), kind, batches
        self.limit = torch.finfo(TYPES[kind]).max
        model.capture(frozenset())
        self.inputs = [tuple(tower.example) for tower in model.towers()]
        with torch.no_grad():
            self.reference = self._logits(self._run())  # (items, C)
        if not self.reference.isfinite().all():
            raise ModelPressError(f"{kind}: the network answers NaN or infinity already in float32.")

    def settle(self, asked: Sequence[str], limits: Limits) -> Settled:
        """Leave ``asked``, then what overflows, then the least exact layers in float32, until the limits hold.

        Raises:
            ModelPressError: nothing would be left in 16 bits.
        """
        free = self.look()
        heads = tuple(free.heads)
        overflowed = self.overflows((*asked, *heads)) if _beyond(free, self.limit) else {}
        pinned = {name: _largest(free.layers, name) for name in asked} | overflowed
        difference, agreement = self.compare((*pinned, *heads))
        ranking = sorted(free.layers, key=lambda name: free.layers[name].error, reverse=True)
        for name in (name for name in ranking if name and free.layers[name].error > 0):
            if limits.hold(difference, agreement):
                break
            if not inside(name, (*pinned, *heads)):
                pinned[name] = free.layers[name].largest
                difference, agreement = self.compare((*pinned, *heads))
        seen = self.look((*pinned, *heads)) if pinned else free
        parameters = {name for name in seen.parameters if not inside(name, heads)}
        if not parameters or not limits.hold(difference, agreement):
            raise ModelPressError(self._refusal(pinned, overflowed, difference, agreement, limits))
        low = {name: layer.largest for name, layer in seen.layers.items() if not inside(name, heads)}
        nearest = max(low.items(), key=lambda item: item[1])
        return Settled(pinned, overflowed, heads, nearest, frozenset(parameters), difference, agreement)

    def overflows(self, pinned: Sequence[str] = ()) -> dict[str, float]:
        """Layers with values beyond the type's largest (65504 in fp16), and those values, in the order of execution.

        Products first: what only passes their results on is float32 as soon as they are.
        """
        found: dict[str, float] = {}
        while beyond := _beyond(self.look((*pinned, *found)), self.limit):
            if "" in beyond:
                raise ModelPressError(
                    f"{self.kind}: {beyond[''].largest:.3g} overflows outside all layers of "
                    f"{type(self.model).__name__}, so that none can be kept in float32. Use bf16."
                )
            products = {name: layer for name, layer in beyond.items() if layer.multiplies}
            found |= {name: layer.largest for name, layer in (products or beyond).items()}
        return found

    def look(self, pinned: Sequence[str] = (), batches: int | None = None) -> Seen:
        """What the batches (or the first so many) do in float32, layer by layer; see :class:`Half`."""
        half = Half(self.model, self.kind, pinned, rounding=False)
        with half.running():
            for tower in range(len(self.inputs)):
                self._run(batches, tower)
                half.seen.heads.append(half.seen.last_product)
        return half.seen

    def compare(self, pinned: Sequence[str] = ()) -> tuple[float, float]:
        """Largest difference of logits and share of equal predictions, 16-bit against float32; NaN counts as inf."""
        with Half(self.model, self.kind, pinned, rounding=True).running():
            outputs = self._run()
        logits = self._logits(outputs)
        difference = (logits - self.reference).abs().nan_to_num(math.inf, math.inf).max()
        chosen = self.reference.gather(-1, logits.argmax(-1, keepdim=True)).squeeze(-1)
        same = (self.reference.amax(-1) - chosen <= TIE) & logits.isfinite().all(-1)
        return float(difference), float(same.float().mean())

    def _run(self, batches: int | None = None, tower: int | None = None) -> list[Output]:
        """Every tower (or the one of this number) on the batches, by itself: what joins towers is in no graph."""
        parts = self.inputs if tower is None else [self.inputs[tower]]
        given = [
            {name: batch[name] for name in names if name in batch}
            for names in parts
            for batch in self.batches[:batches]
        ]
        return [self.model(batch) for batch in given]

    def _logits(self, outputs: Sequence[Output]) -> Tensor:
        """(items, C); of a dual encoder the cosines of all images with all texts, (items, items).

        Without its scale, which reaches 100: a limit on scaled logits would ask for ever more digits of the embeddings.
        """
        embeddings = [output.embeddings or {} for output in outputs]
        images, texts = ([e[tower].float() for e in embeddings if tower in e] for tower in ("image", "text"))
        if images and texts:
            return torch.cat(images) @ torch.cat(texts).T
        given = [output.logits.float() for output in outputs if output.logits is not None]
        if len(given) != len(outputs):
            raise ModelPressError(f"{self.kind}: {type(self.model).__name__} returns no logits to compare.")
        return torch.cat(given)

    def _refusal(
        self,
        pinned: Mapping[str, float],
        overflowed: Mapping[str, float],
        difference: float,
        agreement: float,
        limits: Limits,
    ) -> str:
        cause = f" (in {', '.join(overflowed)} values overflow)" if overflowed else ""
        advice = "Use bf16, whose range is that of float32." if self.kind == "fp16" else "Raise max_difference."
        return (
            f"{self.kind} is of no use here: with {len(pinned)} layers left in float32{cause} nothing remains in 16 "
            f"bits, or the logits still differ by {difference:.3g} (limit {limits.difference:g}), {agreement:.1%} of "
            f"the predictions agree (at least {limits.agreement:.0%}). {advice}"
        )


def _beyond(seen: Seen, limit: float) -> dict[str, Layer]:
    return {name: layer for name, layer in seen.layers.items() if layer.largest > limit}


def _largest(layers: Mapping[str, Layer], name: str) -> float:
    return max((layer.largest for owner, layer in layers.items() if inside(owner, (name,))), default=0.0)
