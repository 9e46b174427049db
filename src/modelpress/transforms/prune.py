"""Unstructured and n:m pruning: single weights become zero, step by step, while the network trains."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from modelpress.errors import ModelPressError, one_of
from modelpress.models.base import Batch, Model, parameter_count
from modelpress.pruning import masks, scores
from modelpress.pruning.rewind import Rewind
from modelpress.pruning.schedules import Schedule
from modelpress.pruning.targets import check_pattern, excluded, targets
from modelpress.quantization.observers import checked
from modelpress.transforms.base import Context, Transform

log = logging.getLogger(__name__)
SCOPES = ("global", "layer")


class Prune(Transform):
    """Weights of low score become zero and stay it, in this stage and in all that follow.

    A weight that is gone does not come back: every renewal of the masks only adds to them. The rest keeps training;
    what the masks cover is set to zero again after every optimizer step, so validation sees the pruned network. With
    ``trainer.max_epochs: 0``, or where training ends before ``end``, what is left to prune goes at the end, at once.

    Args:
        sparsity: share of the prunable weights that becomes zero; null with a ``pattern``, which implies it.
        scope: ``global`` ranks all weights together; ``layer`` takes the same share of every layer.
        importance: ``lamp`` (magnitude within the layer, arXiv:2010.07611), ``magnitude`` (L1; ranked globally it may
            empty a layer of small weights), ``random`` (the control), ``taylor`` (|w · gradient| on calibration items,
            renewed with the masks) or ``movement`` (arXiv:2005.07683; summed over the steps, so it needs some first).
        pattern: ``"n:m"``: of every m weights in a row along the inputs only n stay, e.g. ``"2:4"``; null: any may go.
        schedule: ``cubic`` (arXiv:1710.01878), ``linear`` or ``one_shot``.
        begin: share of the training before pruning starts (warm-up).
        end: share of the training at which the final sparsity is reached; what follows is recovery.
        updates: how often masks are renewed between ``begin`` and ``end``.
        embeddings: whether tables are pruned too.
        exclude: names or patterns of layers that stay dense.
        rewind: null; or, once the masks are final, all weights go back to what they were at this share of the training
            (``init`` is 0: as they entered the stage) and train on from there with the masks (lottery ticket, see
            :class:`modelpress.pruning.rewind.Rewind`).
        samples: calibration items, for ``taylor`` only.
        draw: seeds which of the calibration split they are.
        seed: of ``random``.
    """

    kind: ClassVar[str] = "prune"
    # a quantized or 16-bit network was calibrated with the weights that pruning would take
    forbidden_after: ClassVar[tuple[str, ...]] = ("quantize", "precision")

    def __init__(
        self,
        sparsity: float | None = 0.5,
        scope: str = "global",
        importance: str = "lamp",
        pattern: str | None = None,
        schedule: str = "cubic",
        begin: float = 0.05,
        end: float = 0.5,
        updates: int = 20,
        embeddings: bool = False,
        exclude: Sequence[str] = (),
        rewind: float | str | None = None,
        samples: int = 128,
        draw: int = 0,
        seed: int = 0,
    ) -> None:
        self.pattern = masks.parse_pattern(pattern)
        self.sparsity = _share(sparsity, self.pattern)
        self.scope = one_of("transform.scope", scope, SCOPES)
        self.importance = one_of("transform.importance", importance, scores.NAMES)
        self.schedule = Schedule(schedule, begin, end, updates)
        self.final_from = self.schedule.final_from
        self.embeddings, self.exclude, self.seed, self.draw = embeddings, tuple(exclude), seed, draw
        checked("transform.samples", samples, "a whole number from 1", lambda n: n >= 1 and n % 1 == 0)
        self.samples = samples if importance == "taylor" else 0
        self.rewind = Rewind(rewind, self.final_from)
        if importance == "movement" and schedule == "one_shot" and begin == 0:
            raise ModelPressError(
                "transform.importance is movement, which is summed up while training, and one_shot at transform.begin "
                "0 prunes before any. Set transform.begin above 0, or choose magnitude or taylor."
            )
        self.names: list[str] = []
        self.initial = self.level = 0.0
        self._movement: dict[str, Tensor] = {}
        self._batches: Sequence[Batch] = ()
        self._masks = masks.Masks({})  # the model's

    def check(self, model: nn.Module) -> None:
        """Find what may be pruned.

        Raises:
            ModelPressError: an exclusion matches nothing, layers of unknown kinds, or a pattern that does not fit.
        """
        assert isinstance(model, Model)
        self.names = targets(model, embeddings=self.embeddings, exclude=self.exclude)
        if self.pattern is not None:
            check_pattern(model, self.names, self.pattern)

    def reshaped(self, model: nn.Module) -> nn.Module:
        """As it is: engines multiply zeros like any number."""
        return model

    def prepare(self, model: nn.Module, context: Context) -> nn.Module:
        """:meth:`check` the network; nothing is zero yet but what an earlier stage pruned, which may be too much."""
        assert isinstance(model, Model)
        self.check(model)
        if self.samples:
            self._batches = context.calibration(self.samples, self.draw)
        before = model.masks.gone if model.masks is not None else {}
        dense = {name: torch.zeros_like(model.get_parameter(name), dtype=torch.bool) for name in self.names}
        model.masks = self._masks = masks.Masks({**dense, **before})
        self.initial = self.level = model.masks.sparsity(self.names)
        if self.initial > self.sparsity:
            raise ModelPressError(
                f"transform.sparsity is {self.sparsity:g}, but {self.initial:.3g} of these weights were pruned by an "
                "earlier stage already. Ask for more."
            )
        return model

    def step(self, model: nn.Module, progress: float) -> None:
        """Renew the masks where the schedule asks for more; remember early weights, and go back to them."""
        assert isinstance(model, Model)
        self.rewind.remember(model, progress)
        level = self.schedule.sparsity(progress, self.sparsity, self.initial)
        if level > self.level:
            self._renew(model, level)
        if self.rewind.go_back(model, progress):
            self._masks.apply(model)

    def gradients(self, model: nn.Module) -> None:
        """Movement of every weight, until the masks are final."""
        if self.importance != "movement" or self.level >= self.sparsity:
            return
        for name in self.names:
            weight = model.get_parameter(name)
            if weight.grad is not None and bool(weight.grad.isfinite().all()):
                moved = scores.movement(weight, weight.grad)
                before = self._movement.get(name)
                self._movement[name] = moved if before is None else before.to(moved.device) + moved

    def _renew(self, model: Model, level: float) -> None:
        before = {name: self._masks.gone[name].to(model.get_parameter(name).device) for name in self.names}
        worth = self._scores(model)
        worth = {name: worth[name].masked_fill(before[name], -math.inf) for name in self.names}
        chosen = masks.choose(worth, level, scope=self.scope, pattern=self.pattern)
        self._masks.gone |= {name: chosen[name] | before[name] for name in self.names}
        self._masks.apply(model)
        self.level = level
        if level >= self.sparsity:
            self._movement = {}

    def _scores(self, model: Model) -> dict[str, Tensor]:
        """The higher, the longer a weight stays."""
        if self.importance == "taylor":
            return scores.taylor_scores(model, self.names, self._batches)
        if self.importance == "movement":
            if len(self._movement) < len(self.names):
                raise ModelPressError(
                    "transform.importance is movement, which is summed up while training, and this stage did not train "
                    "before it pruned. Set trainer.max_epochs and transform.begin above 0, or choose magnitude or "
                    "taylor."
                )
            return self._movement
        weights = {name: model.get_parameter(name) for name in self.names}
        if self.importance == "random":
            return {name: scores.random(weight, name, self.seed) for name, weight in weights.items()}
        score = scores.lamp if self.importance == "lamp" else scores.magnitude
        return {name: score(weight) for name, weight in weights.items()}

    def finalize(self, model: nn.Module) -> nn.Module:
        """Make the masks permanent; prune what training did not come to."""
        assert isinstance(model, Model)
        if self.level < self.sparsity:
            if self.level > self.initial:
                log.warning(
                    "Training ended at a sparsity of %.3g; the rest up to %.3g is pruned without recovery.",
                    self.level,
                    self.sparsity,
                )
            self._renew(model, self.sparsity)
        self._masks.apply(model)
        self._masks.details = self._details(model)
        masks.warn_of_empty(self._masks)
        log.info("Pruned %.1f %% of %.1f M weights.", 100 * self._masks.sparsity(self.names), self._size(model) / 1e6)
        return model

    def _details(self, model: Model) -> dict[str, Any]:
        return {
            "scope": self.scope,
            "importance": self.importance,
            "pattern": None if self.pattern is None else ":".join(map(str, self.pattern)),
            "schedule": self.schedule.name,
            "rewind": self.rewind.to,
            **self.coverage(model),
        }

    def coverage(self, model: nn.Module) -> Mapping[str, Any]:
        """Share of the parameters that could be pruned, layers that could not, and the share of the former that is."""
        assert isinstance(model, Model)
        return {
            "parameters": self._size(model) / parameter_count(model),
            "excluded": excluded(model, self.names),
            "sparsity": self._masks.sparsity(self.names),
        }

    def _size(self, model: nn.Module) -> int:
        return sum(model.get_parameter(name).numel() for name in self.names)

    def metrics(self) -> Mapping[str, float]:
        """Share of the prunable weights that is zero by now."""
        return {"sparsity": self.level}

    def state(self) -> Mapping[str, Any]:
        """How far pruning is: the masks, what scores were summed up so far, and the early weights."""
        return {
            "level": self.level,
            "gone": dict(self._masks.gone),
            "movement": dict(self._movement),
            "rewind": self.rewind.state(),
        }

    def restore(self, model: nn.Module, state: Mapping[str, Any]) -> None:
        """Go on from :meth:`state`."""
        self.level = state["level"]
        self._masks.gone = dict(state["gone"])
        self._movement = dict(state["movement"])
        self.rewind.restore(state["rewind"])


def _share(sparsity: float | None, pattern: masks.Pattern | None) -> float:
    """The sparsity asked for, or what the pattern implies."""
    if pattern is None:
        return checked("transform.sparsity", sparsity, "a share from 0 to below 1", lambda s: 0 <= s < 1)
    implied = 1 - pattern[0] / pattern[1]
    if sparsity is not None and not math.isclose(sparsity, implied):
        raise ModelPressError(
            f"transform.sparsity is {sparsity} and transform.pattern {pattern[0]}:{pattern[1]}, which implies "
            f"{implied:g}. Set transform.sparsity to null or {implied:g}."
        )
    return implied
