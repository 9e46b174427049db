"""The maths of dual encoders: pure functions of embeddings, computed in float32 whatever the precision of training.

Shapes: B pairs of one image and one text, E embedding width. Image embeddings are rows, text embeddings columns of a
similarity matrix (B, B), whose diagonal holds the pairs. ``labels`` (B,) say which candidate a pair belongs to: pairs
of equal label are answers to each other too.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from modelpress.errors import ModelPressError
from modelpress.objectives import functional


def similarities(image: Tensor, text: Tensor, scale: Tensor) -> Tensor:
    """``scale * image @ text^T``: (B, E), (B, E), () -> (B, B), of embeddings of length 1.

    Outside autocast: bf16 would round logits, which reach 100, to steps of a half.
    """
    if image.shape[-1] != text.shape[-1]:
        raise ModelPressError(
            f"image embeddings have width {image.shape[-1]}, text embeddings {text.shape[-1]}; they must agree."
        )
    with torch.autocast(image.device.type, enabled=False):
        return scale.float() * (image.float() @ text.float().t())


def info_nce(logits: Tensor, labels: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Cross-entropy of images against texts and of texts against images, (B, B) -> (), mean of both directions.

    "Learning Transferable Visual Models From Natural Language Supervision", arXiv:2103.00020. Pairs of one label share
    the target's mass equally, which is L_out of "Supervised Contrastive Learning", arXiv:2004.11362, across towers.
    """
    target = _shared(labels)  # symmetric, so it serves both directions
    both = [F.cross_entropy(side.float(), target, label_smoothing=label_smoothing) for side in (logits, logits.t())]
    return torch.stack(both).mean()


def soft_similarities(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """``T^2 * KL(softmax(teacher / T) || softmax(student / T))`` over rows and over columns, mean of the two.

    Both (B, B), each at its own scale. "CLIP-KD: An Empirical Study of CLIP Model Distillation", arXiv:2307.12732,
    contrastive relational distillation, which has T = 1.
    """
    _same_batch(student, teacher)
    rows = functional.soft_targets(student, teacher, temperature)
    return (rows + functional.soft_targets(student.t(), teacher.t(), temperature)) / 2


def affinity(student: Tensor, teacher: Tensor) -> Tensor:
    """Cross-entropy of the student's affinities with the teacher's, over rows and over columns, mean of the two.

    ``-sum softmax(teacher) * log softmax(student)`` of (B, B). "TinyCLIP: CLIP Distillation via Affinity Mimicking and
    Weight Inheritance", arXiv:2309.12314. It is :func:`soft_similarities` with T = 1 plus the entropy of
    the teacher, so its gradient is the same.
    """
    _same_batch(student, teacher)
    pairs = ((student, teacher), (student.t(), teacher.t()))
    return torch.stack([F.cross_entropy(mine.float(), theirs.float().softmax(-1)) for mine, theirs in pairs]).mean()


def interactive(
    student: tuple[Tensor, Tensor],
    teacher: tuple[Tensor, Tensor],
    scale: Tensor,
    labels: Tensor,
    label_smoothing: float = 0.0,
) -> Tensor:
    """InfoNCE across the networks: the student's images find the teacher's texts, its texts the teacher's images.

    ``(image, text)`` embeddings (B, E) of length 1 of both, the student's already projected and at its own ``scale``;
    mean of the two. "CLIP-KD", arXiv:2307.12732, interactive contrastive learning.
    """
    target = _shared(labels)
    sides = [similarities(student[0], teacher[1], scale), similarities(student[1], teacher[0], scale)]
    return torch.stack([F.cross_entropy(side, target, label_smoothing=label_smoothing) for side in sides]).mean()


def feature_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """``|student - teacher|^2`` of embeddings (B, E), mean over the batch; the student already projected.

    "CLIP-KD", arXiv:2307.12732, feature distillation. Of two embeddings of length 1 it is twice :func:`feature_cosine`.
    """
    _same_width(student, teacher)
    return (student.float() - teacher.float()).square().sum(-1).mean()


def feature_cosine(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean of ``1 - cos(student, teacher)`` of embeddings (B, E); the student already projected."""
    _same_width(student, teacher)
    return (1.0 - F.cosine_similarity(student.float(), teacher.float(), dim=-1)).mean()


def _shared(labels: Tensor) -> Tensor:
    """(B,) -> (B, B): equal shares of each row for all columns of its label."""
    same = (labels[:, None] == labels[None, :]).float()
    return same / same.sum(1, keepdim=True)


def _same_batch(student: Tensor, teacher: Tensor) -> None:
    if student.shape != teacher.shape:
        raise ModelPressError(
            f"similarities of the student have shape {tuple(student.shape)}, the teacher's {tuple(teacher.shape)}; "
            "both must read the same pairs."
        )


def _same_width(student: Tensor, teacher: Tensor) -> None:
    if student.shape != teacher.shape:
        raise ModelPressError(
            f"embeddings of the student have shape {tuple(student.shape)}, the teacher's {tuple(teacher.shape)}; "
            "they must agree, after the student's projection."
        )
