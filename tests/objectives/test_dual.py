"""A dual encoder in `Task` and `Distillation`: which parts it has, what each reads, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from modelpress.errors import ModelPressError
from modelpress.models.base import Output
from modelpress.objectives import contrastive
from modelpress.objectives.distill import Distillation
from modelpress.objectives.dual import pairwise
from modelpress.objectives.parts import INTERMEDIATE, ONLY_CLASSIFIER, PARTS, PREDICTION
from modelpress.objectives.task import Task
from tests import toy
from tests.pairs import Pair, batch_of

DUAL = tuple(part for part in PARTS if part not in ONLY_CLASSIFIER)
ALL = dict.fromkeys(DUAL, 1.0)
BATCH = batch_of(torch.tensor([3, 0, 5, 3]), "train")  # one concept twice
LABELS = BATCH["labels"]


def bound(student: Any, teacher: Any, **options: Any) -> Distillation:
    objective = Distillation(**{"weights": ALL, **options})
    objective.bind(student, teacher)
    return objective


def of(output: Output, tower: str) -> Tensor:
    assert output.embeddings is not None
    return output.embeddings[tower]


def test_task_is_info_nce_with_shared_positives() -> None:
    output = Pair()(BATCH)
    losses = Task(label_smoothing=0.1)(output, BATCH, None, 0.0)
    assert losses.keys() == {"hard"}
    torch.testing.assert_close(losses["hard"], contrastive.info_nce(pairwise(output), LABELS, 0.1))


@pytest.mark.parametrize("width", [8, 6])
def test_every_part_is_its_contrastive_loss(width: int) -> None:
    """With equal widths the embeddings are compared as they are, otherwise through one projection per tower."""
    student, teacher = Pair(width), Pair(8, seed=1)
    objective = bound(student, teacher, temperature=3.0, label_smoothing=0.1)
    mine, theirs = student(BATCH), teacher(BATCH)
    losses = objective(mine, BATCH, theirs, 0.5)
    learned = {tower: of(mine, tower) for tower in ("image", "text")}
    if width != 8:
        assert objective.dual is not None
        learned = {tower: objective.dual.projections[tower](x) for tower, x in learned.items()}
    towers = [(learned[tower], of(theirs, tower)) for tower in ("image", "text")]
    crossed = F.normalize(learned["image"], dim=-1), F.normalize(learned["text"], dim=-1)
    taught = of(theirs, "image"), of(theirs, "text")
    expected = {
        "hard": contrastive.info_nce(pairwise(mine), LABELS, 0.1),
        "soft": contrastive.soft_similarities(pairwise(mine), pairwise(theirs), 3.0),
        "hidden": sum(contrastive.feature_distance(*tower) for tower in towers) / 2,
        "cosine": sum(contrastive.feature_cosine(*tower) for tower in towers) / 2,
        "interactive": contrastive.interactive(crossed, taught, mine.scale, LABELS, 0.1),  # type: ignore[arg-type]
        "affinity": contrastive.affinity(pairwise(mine), pairwise(theirs)),
    }
    assert list(losses) == list(objective.weights(0.5)) == list(DUAL)
    for part in DUAL:
        torch.testing.assert_close(losses[part], expected[part])


@pytest.mark.parametrize("part", DUAL)
def test_a_part_of_weight_0_is_not_computed_and_nothing_is_captured(part: str) -> None:
    objective = bound(Pair(6), Pair(8), weights={**dict.fromkeys(DUAL, 0.0), part: 2.0})
    losses = objective(Pair(6)(BATCH), BATCH, Pair(8)(BATCH), 0.0)
    assert dict(objective.weights(0.0)) == {part: 2.0}
    assert losses.keys() == {part}
    assert (objective.needs(0.0), objective.teacher_layers()) == (frozenset(), ())
    towers = ("image", "text") if part in ("hidden", "cosine", "interactive") else ()
    names = {f"dual.projections.{tower}.{kind}" for tower in towers for kind in ("weight", "bias")}
    assert {name for name, _ in objective.named_parameters()} == names


@pytest.mark.parametrize("part", DUAL)
def test_every_part_trains_both_towers_and_leaves_the_teacher(part: str) -> None:
    student, teacher = Pair(6), Pair(8, seed=1)
    objective = bound(student, teacher, weights={part: 1})
    with torch.no_grad():
        taught = teacher(BATCH)
    objective(student(BATCH), BATCH, taught, 0.0)[part].backward()
    parameters = [student.image.weight, student.words.weight, *objective.parameters()]
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in parameters)
    scaled = part in ("hard", "soft", "affinity", "interactive")
    assert (student.logit_scale.grad is not None) is scaled


def test_two_phases_split_answers_from_what_they_come_from() -> None:
    objective = bound(Pair(), Pair(seed=1), phase_split=0.5)
    assert set(objective.weights(0.49)) == set(INTERMEDIATE) & set(DUAL)
    assert set(objective.weights(0.5)) == set(PREDICTION)
    assert set(objective(Pair()(BATCH), BATCH, Pair()(BATCH), 0.0)) == {"hidden", "cosine", "interactive"}


def test_a_pruned_student_keeps_what_its_projections_learned() -> None:
    objective = bound(Pair(6), Pair(8))
    first = objective.dual
    objective.bind(Pair(6, seed=5), Pair(8))
    assert objective.dual is first
    objective.bind(Pair(4), Pair(8))
    assert objective.dual is not first


def test_losses_are_float32_under_autocast() -> None:
    student, teacher = Pair(6), Pair(8, seed=1)
    objective = bound(student, teacher)
    exact = objective(student(BATCH), BATCH, teacher(BATCH), 0.0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = objective(student(BATCH), BATCH, teacher(BATCH), 0.0)
    assert {loss.dtype for loss in losses.values()} == {torch.float32}
    for part in DUAL:
        torch.testing.assert_close(losses[part], exact[part], rtol=0.05, atol=0.05)


@pytest.mark.parametrize("part", ONLY_CLASSIFIER)
def test_parts_of_classifiers_are_refused(part: str) -> None:
    with pytest.raises(ModelPressError, match=rf"dual encoder, and objective.weights.{part} is for classifiers only"):
        bound(Pair(), Pair(), weights={"hard": 1, part: 1})


def test_a_teacher_of_another_kind_is_refused() -> None:
    with pytest.raises(ModelPressError, match="its teacher, a Toy, is none: choose a teacher with an image and a text"):
        bound(Pair(), toy.Toy())
    with pytest.raises(ModelPressError, match="needs a teacher, none was given"):
        bound(Pair(), None)


def test_missing_towers_are_named() -> None:
    student = Pair()
    images = {name: tensor for name, tensor in BATCH.items() if name != "input_ids"}
    with pytest.raises(ModelPressError, match="The model returned no text embeddings.*dataset=emoji"):
        Task()(student(images), images, None, 0.0)
    with pytest.raises(ModelPressError, match="The teacher returned no image and no text embeddings"):
        bound(student, Pair(), weights={"affinity": 1})(student(BATCH), BATCH, None, 0.0)
    output = student(BATCH)
    output.scale = None
    with pytest.raises(ModelPressError, match="returned no scale"):
        Task()(output, BATCH, None, 0.0)
