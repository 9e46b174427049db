"""Structured pruning: heads, neurons, hidden width, whole layers or channels leave the network for good."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

from torch import Tensor, nn

from modelpress.errors import ModelPressError, one_of
from modelpress.models.base import Batch, Model
from modelpress.models.classifier import TextClassifier
from modelpress.models.cut import share
from modelpress.models.dual import DualEncoder
from modelpress.pruning import channels, importance, options, select, structure
from modelpress.pruning.removal import Scores
from modelpress.pruning.shapes import LayerShape, Shape
from modelpress.pruning.sizing import Encoder, Sizing
from modelpress.quantization.observers import checked
from modelpress.transforms.base import Context, Transform

log = logging.getLogger(__name__)
TARGETS = ("parameters", "macs", "latency_ms")
ALLOCATIONS = ("uniform", "global")


class PruneStructured(Transform):
    """The network becomes physically smaller, at once or a little at a time while it trains.

    Forbidden after quantization and 16 bits, whose ranges were found on the wider network, and after unstructured
    pruning, whose count of zeros would no longer be what was asked for: remove units first, then prune weights.

    ``report``: the shapes before and after, the share of parameters (outside embeddings) removed, the layers kept.

    Args:
        sparsity: share of ``target`` that goes; not used for latency_ms.
        target: ``parameters`` (outside embeddings), ``macs`` (multiply-adds of the layers on 128 tokens), or
            ``latency_ms``: as much goes as ``budget_ms`` asks for, measured on the run's first engine. Of a dual
            encoder those of an image and a text together.
        remove: any of heads, neurons, width, layers; or channels alone, for networks of convolutions.
        importance: ``activation``, ``taylor``, ``magnitude`` or ``random`` (:mod:`modelpress.pruning.importance`).
        allocation: ``uniform``: every layer keeps as much; ``global``: heads and neurons of all layers (of a tower) are
            ranked together, so that layers end up different. Such a network opens in ModelPress only.
        round_to: sizes become multiples of it.
        iterations: in how many steps the units go, each time chosen anew on the trained weights.
        begin: share of the training at which the first step is taken.
        end: and the last one, if there are several. What follows is recovery.
        samples: calibration items for importance and folding.
        draw: seeds which of the calibration split they are.
        fold: what removed units carried is folded into the remaining weights by least squares.
        budget_ms: for latency_ms: upper bound of p50 of one request at length 128, or of one image with its text.
        seed: of ``random``.
    """

    kind: ClassVar[str] = "prune_structured"
    forbidden_after: ClassVar[tuple[str, ...]] = ("quantize", "precision", "prune")

    def __init__(
        self,
        sparsity: float = 0.5,
        target: str = "parameters",
        remove: Sequence[str] = ("heads", "neurons", "width"),
        importance: str = "activation",
        allocation: str = "uniform",
        round_to: int = 16,
        iterations: int = 1,
        begin: float = 0.0,
        end: float = 0.5,
        samples: int = 256,
        draw: int = 0,
        fold: bool = True,
        budget_ms: float | None = None,
        seed: int = 0,
    ) -> None:
        self.sparsity = checked("transform.sparsity", sparsity, "a share from 0 to below 1", lambda s: 0 <= s < 1)
        self.target = one_of("transform.target", target, TARGETS)
        self.remove = options.removable(remove)
        self.importance = one_of("transform.importance", importance, self._measures())
        self.allocation = one_of("transform.allocation", allocation, ALLOCATIONS)
        self.round_to = options.whole("round_to", round_to, 1)
        self.samples, self.draw = options.whole("samples", samples, 1), options.whole("draw", draw, 0)
        self.fold, self.seed = fold, options.whole("seed", seed, 0)
        self.budget_ms = options.budget(self.target, budget_ms)
        self.times = options.times(options.whole("iterations", iterations, 1), begin, end)
        self.final_from = self.times[-1]
        self.done = 0
        self.shapes: list[Shape] = []
        self.kept_layers: list[int] = []
        self.report: dict[str, Any] = {}
        self.covered = 1.0
        self._model: Encoder | None = None
        self._sized: Sizing | None = None
        self._batches: Sequence[Batch] = ()
        if self.channels and (self.target == "latency_ms" or len(self.times) > 1 or self.times != [0.0]):
            raise ModelPressError(
                "transform.remove is [channels]: they go before training, by parameters or macs. Set "
                "transform.iterations=1, transform.begin=0 and transform.target=parameters."
            )

    @property
    def channels(self) -> bool:
        """Whether this is about convolutions."""
        return self.remove == (options.CHANNELS,)

    def _measures(self) -> tuple[str, ...]:
        return channels.MEASURES if self.channels else importance.MEASURES

    def check(self, model: nn.Module) -> None:
        """Raises :class:`ModelPressError` if a share cannot be reached (with the smallest that can)."""
        if self.channels:
            return
        sizing = self._sizing(structure.encoder(model))
        if self.target != "latency_ms":
            sizing.by_share(1 - self.sparsity)

    def reshaped(self, model: nn.Module) -> nn.Module | None:
        """The shape that ``sparsity`` asks for, where neither weights nor a measured latency decide it."""
        if self.channels or self.target == "latency_ms" or self.allocation == "global":
            return None
        owner = structure.encoder(model)
        if isinstance(owner, DualEncoder) and "layers" in self.remove:
            return None  # which tower loses them is a matter of scores
        structure.become(owner, self._sizing(owner).by_share(1 - self.sparsity))
        return owner

    def prepare(self, model: nn.Module, context: Context) -> nn.Module:
        """Choose the shape; remove what goes before training.

        Raises:
            ModelPressError: the target cannot be reached (with the smallest that can), or the model cannot be pruned.
        """
        assert isinstance(model, Model)
        if model.masks is not None:
            raise ModelPressError("Units cannot be removed from a network whose single weights are pruned already.")
        self._batches = context.calibration(self.samples, self.draw)
        if self.channels:
            return self._remove_channels(model)
        full = structure.shape_of(model)
        self._model = structure.encoder(model)
        self._plan(self._model, full, self._shape(self._model, context))
        self.step(model, 0.0)
        return model

    def _shape(self, model: Encoder, context: Context) -> Shape:
        if self.target == "latency_ms":
            from modelpress.pruning.latency import fit

            return fit(self._sizing(model), context.latency, self.budget_ms, context.track)
        return self._sizing(model).by_share(1 - self.sparsity)

    def _sizing(self, model: Encoder) -> Sizing:
        """The same one as long as the model is the same: it remembers which layers were chosen."""
        if self._sized is None or self._sized.model is not model:
            choose = partial(self._layers, model)
            self._sized = Sizing(model, self.remove, self.round_to, self.target, choose)
        return self._sized

    def _plan(self, model: Encoder, full: Shape, final: Shape) -> None:
        """The shapes on the way. Whole layers all go in the first step."""
        self.kept_layers, final = self._sizing(model).settled(final)
        start = Shape(full.width, tuple(full.layers[i] for i in self.kept_layers))
        if self.allocation == "global":
            final = self._allocated(model, start, final)
        steps = len(self.times)
        self.shapes = [select.between(start, final, (k + 1) / steps, self.round_to) for k in range(steps - 1)] + [final]
        self.covered = structure.covered(model, structure.removable(model, self.remove))
        left = structure.parameters(model, final, self.kept_layers) / structure.parameters(model, full)
        shapes = {"parent_shape": full.record(), "shape": final.record()}
        self.report = {**shapes, "sparsity": 1 - left, "kept_layers": self.kept_layers}
        log.info("Structured pruning: %.1f %% of the parameters outside embeddings stay.", 100 * left)

    def _layers(self, model: Encoder, count: int) -> list[int]:
        room = structure.room(model)
        return list(room.layers_to_keep(model, count, self._batches, self.importance, seed=self.seed))

    def _allocated(self, model: Encoder, start: Shape, final: Shape) -> Shape:
        scores = self._scores(model, fold=False).of_layers(self.kept_layers)
        heads, neurons = ([self._comparable(v) for v in values] for values in (scores.heads, scores.neurons))
        layers: list[LayerShape] = []
        for part in structure.stacks(model, self.kept_layers):
            goal, whole = (Shape(shape.width, shape.layers[part]) for shape in (final, start))
            layers += select.allocate(goal, whole, heads[part], neurons[part], self.round_to).layers
        return Shape(final.width, tuple(layers))

    def _comparable(self, values: Tensor) -> list[float]:
        """First-order changes of one loss compare across layers as they are; sizes only as shares of their layer."""
        return [float(value) for value in (values if self.importance == "taylor" else share(values))]

    def _scores(self, model: Encoder, *, fold: bool) -> Scores:
        room, seed = structure.room(model), self.seed
        scores: Scores = room.score(model, self._batches, self.importance, fold=fold, seed=seed)
        return scores

    def step(self, model: nn.Module, progress: float) -> None:
        """Remove what is due: the weights of ``model`` are then others, and so are their shapes."""
        while self.done < len(self.shapes) and progress >= self.times[self.done]:
            self._advance(structure.encoder(model))

    def _advance(self, model: Encoder) -> None:
        shape, now = self.shapes[self.done], structure.shape_of(model)
        self.done += 1
        if len(shape.layers) < len(now.layers):
            now = Shape(now.width, tuple(now.layers[i] for i in self.kept_layers))
            structure.shrink(model, now, kept_layers=self.kept_layers)
        if shape != now:
            structure.shrink(model, shape, self._scores(model, fold=self.fold))

    def _remove_channels(self, model: Model) -> Model:
        cost: Callable[[Model], float] = channels.flops if self.target == "macs" else channels.size
        before = channels.size(model)
        how = {"measure": self.importance, "round_to": self.round_to, "batches": self._batches, "seed": self.seed}
        done = channels.shrink_channels(model, 1 - self.sparsity, cost=cost, **how)  # type: ignore[arg-type]
        self.report = {"sparsity": 1 - channels.size(done) / before}
        return done

    def finalize(self, model: nn.Module) -> nn.Module:
        """Training that stopped early left steps undone; they are taken now."""
        if self.done < len(self.shapes):
            log.warning("Training ended before the last step of pruning: the rest goes untrained.")
            self.step(model, 1.0)
        return model.eval()

    def metrics(self) -> Mapping[str, float]:
        """Share of the steps of removal that are done."""
        return {"removed": self.done / len(self.shapes)} if len(self.shapes) > 1 else {}

    def state(self) -> Mapping[str, Any]:
        """How far pruning is, and the shape that the checkpoint's weights have."""
        shapes = [shape.record() for shape in self.shapes]
        widening = dict(self._model.widening) if isinstance(self._model, TextClassifier) else {}
        return {"done": self.done, "shapes": shapes, "kept_layers": self.kept_layers, "widening": widening}

    def restore(self, model: nn.Module, state: Mapping[str, Any]) -> None:
        """Give ``model`` that shape; its weights are loaded next."""
        if not state.get("shapes"):
            return
        self.shapes, self.kept_layers = [Shape.of(shape) for shape in state["shapes"]], list(state["kept_layers"])
        self.done = int(state["done"])
        owner = structure.encoder(model)
        if self.done and structure.shape_of(owner) != self.shapes[self.done - 1]:
            structure.become(owner, self.shapes[self.done - 1], self.kept_layers)
        if isinstance(owner, TextClassifier):
            owner.widening = dict(state["widening"])

    def coverage(self, model: nn.Module) -> Mapping[str, Any]:
        """Share of the parameters outside embeddings that belong to units in ``remove``, and the share that is gone."""
        return {"parameters": self.covered, "excluded": [], "sparsity": self.report.get("sparsity", 0.0)}
