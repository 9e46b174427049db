"""Knowledge distillation: a student learns from a teacher's answers and from what happens inside it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar, cast

import torch
from torch import Tensor, nn

from modelpress.errors import ModelPressError, one_of
from modelpress.models.base import Batch, Model, Output
from modelpress.objectives import functional
from modelpress.objectives.base import Objective, Teacher
from modelpress.objectives.dual import DualDistillation
from modelpress.objectives.layer_map import Spec, check_spec, layer_map
from modelpress.objectives.options import number
from modelpress.objectives.parts import INTERMEDIATE, PREDICTION, check_kind, check_phases, checked_weights, matched

EMBEDDING = 0
T = TypeVar("T")


class Distillation(Objective):
    """Weighted sum of named parts. A part of weight 0 is not computed, and its outputs are not asked for.

    ==========  =================================================================  =================
    part        loss                                                               paper
    ==========  =================================================================  =================
    hard        cross-entropy with the labels
    soft        KL of softened class probabilities, times temperature squared      arXiv:1503.02531
    hidden      MSE of hidden states, mean over the mapped layers                  arXiv:1909.10351
    attention   MSE of attention scores before softmax, mean over mapped layers    arXiv:1909.10351
    embedding   MSE of the embedding layers' outputs                               arXiv:1909.10351
    cosine      1 - cosine of the hidden states of the last mapped layer           arXiv:1910.01108
    ==========  =================================================================  =================

    Of a dual encoder (CLIP) the parts mean:

    ===========  ================================================================  =================
    hard         symmetric InfoNCE over the batch                                  arXiv:2103.00020
    soft         KL of softened in-batch similarities, both directions, times T^2  arXiv:2307.12732
    hidden       squared distance of embeddings, mean over both towers             arXiv:2307.12732
    cosine       1 - cosine of embeddings, mean over both towers
    interactive  InfoNCE of the student's towers against the teacher's others      arXiv:2307.12732
    affinity     cross-entropy of in-batch similarities, both directions           arXiv:2309.12314
    ===========  ================================================================  =================

    Where widths differ the student's states pass through a learned linear projection with bias, one per mapped
    layer (``projections["<student layer>"]``, 0 for the embeddings; ``cosine`` shares the last one). Where widths
    are equal they are compared as they are. The projections of a student that was pruned just now start as the least
    squares prediction of what it lost (``student.widening``), others at random. So it is with a dual encoder's
    embeddings (modelpress.objectives.dual), which have no layer map.

    ``layer_map``: ``uniform``, or one teacher layer or null per student layer (modelpress.objectives.layer_map).
    ``phase_split``: share of training in which only the intermediate parts learn, then only the others; 0: all do.
    ``teacher``: ``external`` (the run's teacher) or ``parent`` (the model as it entered the stage).
    """

    def __init__(
        self,
        weights: Mapping[str, float],
        teacher: Teacher = "external",
        temperature: float = 2.0,
        layer_map: Spec = "uniform",
        phase_split: float = 0.0,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        self.teacher = cast(Teacher, one_of("objective.teacher", teacher, ("external", "parent")))
        self.part_weights = checked_weights(weights)
        self.temperature = number("temperature", temperature, above=0)
        self.label_smoothing = number("label_smoothing", label_smoothing, at_least=0, below=1)
        self.phase_split = number("phase_split", phase_split, at_least=0, below=1)
        self.map_spec = check_spec(layer_map)
        self.layers: dict[int, int] = {}
        self.classes: list[int] | None = None
        self.projections = nn.ModuleDict()
        self.dual: DualDistillation | None = None  # of a dual encoder
        check_phases(self.phase_split, self.part_weights)

    def weights(self, progress: float) -> Mapping[str, float]:
        """The parts that learn at ``progress``, in the order of the table above."""
        if not self.phase_split:
            return self.part_weights
        phase = INTERMEDIATE if progress < self.phase_split else PREDICTION
        return {part: weight for part, weight in self.part_weights.items() if part in phase}

    def needs(self, progress: float) -> frozenset[str]:
        """``hidden_states`` and ``attentions`` only while a part that reads them is active."""
        if self.dual is not None:
            return frozenset()
        parts = self.weights(progress).keys()
        wanted = {"hidden_states"} if parts & {"hidden", "embedding", "cosine"} else set()
        return frozenset(wanted | ({"attentions"} if "attention" in parts else set()))

    def teacher_layers(self) -> tuple[int, ...]:
        """The teacher's hidden states that are read (0: embeddings), ascending. Known after :meth:`bind`."""
        return tuple(sorted({teacher for _, teacher in self._hidden_pairs()}))

    def check(self, dual: bool) -> None:
        """Raise for parts of the other kind of network."""
        check_kind(self.part_weights, dual)

    def bind(self, student: Model, teacher: Model | None) -> None:
        """Match labels by name, map layers, build projections. Call before the optimizer is made."""
        if teacher is None:
            raise ModelPressError(
                "Distillation needs a teacher, none was given; "
                "choose one, e.g. model@teacher=minilm, or train without: technique=finetune."
            )
        self.check(dual=student.embedding_width is not None)
        if student.embedding_width is not None:
            options = self.part_weights, self.temperature, self.label_smoothing
            self.dual = DualDistillation.bound(self.dual, student, teacher, *options)
            return
        if "soft" in self.part_weights:
            self.classes = matched(student.labels, teacher.labels)
        if self.part_weights.keys() & {"hidden", "attention", "cosine"}:
            self.layers = layer_map(self.map_spec, _size(student, "num_layers"), _size(teacher, "num_layers"))
        if "attention" in self.part_weights:
            self._check_attention(_size(student, "num_heads"), _size(teacher, "num_heads"))
        pairs = self._hidden_pairs()
        if pairs:
            widths = _size(student, "width"), _size(teacher, "width")
            places = [str(place) for place, _ in pairs] if widths[0] != widths[1] else []
            self.projections = nn.ModuleDict({place: _projection(student, int(place), widths) for place in places})

    def terms(self, part: str, batch: Batch) -> Tensor:
        """Items, real tokens (states), or pairs of real tokens (attention)."""
        if part in PREDICTION or self.dual is not None:
            return super().terms(part, batch)
        tokens = functional.real_tokens(batch, len(batch["labels"]), 1, batch["labels"].device).bool().sum(1)
        return (tokens.square() if part == "attention" else tokens).sum()

    def forward(
        self, output: Output, batch: Batch, teacher_output: Output | None, progress: float
    ) -> dict[str, Tensor]:
        """Unweighted scalar losses of the active parts; ``attention_mask`` (B, S) says which tokens are real."""
        teacher = teacher_output or Output()
        if self.dual is not None:
            return self.dual.losses(self.weights(progress), output, batch, teacher)
        losses = {
            "hard": self._hard,
            "soft": self._soft,
            "hidden": self._hidden,
            "attention": self._attention,
            "embedding": self._embedding,
            "cosine": self._cosine,
        }
        return {part: losses[part](output, teacher, batch) for part in self.weights(progress)}

    def _hard(self, student: Output, teacher: Output, batch: Batch) -> Tensor:
        logits = _given(student.logits, "logits", "student")
        return functional.hard_targets(logits, batch["labels"], self.label_smoothing)

    def _soft(self, student: Output, teacher: Output, batch: Batch) -> Tensor:
        wanted = _given(teacher.logits, "logits", "teacher")
        wanted = wanted if self.classes is None else wanted[:, self.classes]
        return functional.soft_targets(_given(student.logits, "logits", "student"), wanted, self.temperature)

    def _hidden(self, student: Output, teacher: Output, batch: Batch) -> Tensor:
        losses = [self._states(functional.hidden_states, pair, student, teacher, batch) for pair in self.layers.items()]
        return torch.stack(losses).mean()

    def _embedding(self, student: Output, teacher: Output, batch: Batch) -> Tensor:
        return self._states(functional.hidden_states, (EMBEDDING, EMBEDDING), student, teacher, batch)

    def _cosine(self, student: Output, teacher: Output, batch: Batch) -> Tensor:
        return self._states(functional.cosine_distance, self._last_pair(), student, teacher, batch)

    def _attention(self, student: Output, teacher: Output, batch: Batch) -> Tensor:
        learned = _given(student.attentions, "attentions", "student")
        wanted = _given(teacher.attentions, "attentions", "teacher")
        mask = functional.real_tokens(batch, learned[0].shape[0], learned[0].shape[-1], learned[0].device)
        pairs = [(learned[place - 1], wanted[layer - 1]) for place, layer in self.layers.items()]
        return torch.stack([functional.attention_scores(*pair, mask) for pair in pairs]).mean()

    def _states(
        self,
        loss: Callable[[Tensor, Tensor, Tensor], Tensor],
        pair: tuple[int, int],
        student: Output,
        teacher: Output,
        batch: Batch,
    ) -> Tensor:
        place, layer = pair
        learned = _given(student.hidden_states, "hidden_states", "student")[place]
        wanted = _given(teacher.hidden_states, "hidden_states", "teacher")[layer]
        mask = functional.real_tokens(batch, learned.shape[0], learned.shape[1], learned.device)
        if str(place) in self.projections:
            learned = self.projections[str(place)](learned)
        return loss(learned, wanted, mask)

    def _hidden_pairs(self) -> list[tuple[int, int]]:
        """(student layer, teacher layer) of every hidden state that an active part reads."""
        pairs = [(EMBEDDING, EMBEDDING)] if "embedding" in self.part_weights else []
        if "hidden" in self.part_weights:
            return pairs + list(self.layers.items())
        return pairs + ([self._last_pair()] if "cosine" in self.part_weights and self.layers else [])

    def _last_pair(self) -> tuple[int, int]:
        return list(self.layers.items())[-1]

    def _check_attention(self, student_heads: int, teacher_heads: int) -> None:
        functional.check_heads(student_heads, teacher_heads)
        if EMBEDDING in self.layers.values():
            raise ModelPressError(
                f"layer_map {self.map_spec} maps a layer to 0, the embeddings, which have no attention scores; "
                "name a teacher layer from 1, or set objective.weights.attention=0."
            )


def _projection(student: Model, place: int, widths: tuple[int, int]) -> nn.Linear:
    projection = nn.Linear(*widths)
    known: Mapping[int, tuple[Tensor, Tensor]] = getattr(student, "widening", {})
    if place in known and known[place][0].shape == projection.weight.shape:
        with torch.no_grad():
            projection.weight.copy_(known[place][0])
            projection.bias.copy_(known[place][1])
    return projection


def _size(model: Model, attribute: str) -> int:
    size = getattr(model, attribute, None)
    if not isinstance(size, int):
        raise ModelPressError(
            f"{type(model).__name__} does not say its {attribute}, so its layers cannot be compared; "
            "set the weights of hidden, attention, embedding and cosine to 0."
        )
    return size


def _given(value: T | None, what: str, who: str) -> T:
    if value is None:
        raise ModelPressError(
            f"The {who} returned no {what}, which an active part of the distillation reads; "
            "use a model that offers them, or set that part's weight to 0."
        )
    return value
