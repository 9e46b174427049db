"""A student cut out of its teacher: layers chosen by a layer map, widths by what their units carry.

The maths is in :mod:`modelpress.models.cut`; docs/distillation.md says what folding the dropped units in is worth.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch
from transformers import PreTrainedConfig, PreTrainedModel

from modelpress.errors import ModelPressError
from modelpress.models import layout
from modelpress.models.architecture import Architecture, read
from modelpress.models.cut import Statistics, Weights, narrow
from modelpress.models.probe import measure

_WIDTHS = ("hidden_size", "num_attention_heads", "intermediate_size")
_LAYER = re.compile(r"(\.(?:layer|layers|block|blocks)\.)(\d+)\.")


def initialise(
    student: PreTrainedModel,
    teacher: PreTrainedModel,
    layers: Sequence[int],
    *,
    seed: int = 0,
    frame: tuple[int, int] | None = None,
) -> None:
    """Overwrite the student's weights with the teacher's: layer ``i`` from teacher layer ``layers[i]``.

    The classification head is taken only if both sides have as many labels. Deterministic in ``seed``, which draws the
    sentences that the teacher is probed with; ``frame`` holds the ids of the tokens that open and close a sentence.

    Raises:
        ModelPressError: the student is wider than its teacher in any direction, or the layouts do not map.
    """
    if not (layout.supported(student) and layout.supported(teacher)):
        _copy_layers(student, teacher, layers)
        return
    _check_plain(teacher)
    ours, theirs = _numbers(student.config), _numbers(teacher.config)
    _check_fits(ours, theirs)
    weights = _take_layers(layout.read(teacher), layers)
    if any(getattr(ours, name) != getattr(theirs, name) for name in _WIDTHS):
        weights = _narrow(weights, measure(teacher, layers, seed=seed, frame=frame), ours, theirs)
    if len(weights["head.weight"]) != student.config.num_labels:
        weights = {name: tensor for name, tensor in weights.items() if not name.startswith("head.")}
    layout.write(student, weights)


def _check_plain(teacher: PreTrainedModel) -> None:
    from modelpress.pruning import shapes

    if not shapes.read(teacher).plain:
        raise ModelPressError(
            "A student cannot be cut out of a pruned network whose layers differ, or whose heads do not add up to its "
            "width: prune with allocation=uniform and heads and width together, or set model.init=random."
        )


def _numbers(config: PreTrainedConfig) -> Architecture:
    numbers = read(config.to_dict())
    assert numbers is not None, "supported layouts are all known to architecture.read"
    return numbers


def _narrow(weights: Weights, statistics: Statistics, ours: Architecture, theirs: Architecture) -> Weights:
    assert ours.num_hidden_layers and ours.hidden_size and ours.intermediate_size
    assert ours.num_attention_heads and theirs.num_attention_heads
    return narrow(
        weights,
        statistics,
        layers=ours.num_hidden_layers,
        heads=(theirs.num_attention_heads, ours.num_attention_heads),
        width=ours.hidden_size,
        neurons=ours.intermediate_size,
    )


def _check_fits(ours: Architecture, theirs: Architecture) -> None:
    if ours.vocab_size != theirs.vocab_size:
        raise ModelPressError(
            f"The student has {ours.vocab_size} tokens and its teacher {theirs.vocab_size}: leave "
            "model.architecture.vocab_size null to take the teacher's, or set model.init=random."
        )
    sizes = {name: (getattr(ours, name), getattr(theirs, name)) for name in (*_WIDTHS, "positions")}
    sizes["width of a head"] = (_head_width(ours), _head_width(theirs))
    wider = [f"{name} {student} > {teacher}" for name, (student, teacher) in sizes.items() if student > teacher]
    if wider:
        raise ModelPressError(
            f"A student cannot be cut out of a narrower teacher: {', '.join(wider)}. Choose a smaller student, a "
            "larger teacher, or model.init=random."
        )


def _head_width(numbers: Architecture) -> int:
    assert numbers.hidden_size and numbers.num_attention_heads
    return numbers.hidden_size // numbers.num_attention_heads


def _take_layers(weights: Weights, layers: Sequence[int]) -> Weights:
    """Keep the chosen teacher layers, numbered as in the student."""
    kept = {name: tensor for name, tensor in weights.items() if not name.startswith("layers.")}
    for new, old in enumerate(layers):
        prefix = f"layers.{old}."
        part = {name.removeprefix(prefix): tensor for name, tensor in weights.items() if name.startswith(prefix)}
        kept |= {f"layers.{new}.{name}": tensor for name, tensor in part.items()}
    return kept


@torch.no_grad()
def _copy_layers(student: PreTrainedModel, teacher: PreTrainedModel, layers: Sequence[int]) -> None:
    """For other encoders: fewer layers of the same shapes, matched by name."""
    source = dict(teacher.named_parameters())
    for name, target in student.named_parameters():
        theirs = source.get(_LAYER.sub(lambda found: f"{found[1]}{layers[int(found[2])]}.", name, count=1))
        if theirs is None or theirs.shape != target.shape:
            given = "no such weight" if theirs is None else f"the shape {tuple(theirs.shape)}"
            raise ModelPressError(
                f"A {student.config.model_type} student cannot be cut out of this {teacher.config.model_type} "
                f"teacher: for {name} {tuple(target.shape)} it has {given}. Widths are cut for "
                f"{', '.join(layout.FAMILIES)} only; keep the teacher's model_type and widths, or set "
                "model.init=random."
            )
        target.copy_(theirs)
