"""The maths of the objectives: pure functions of tensors, computed in float32 whatever the precision of training.

Shapes: B batch, S sequence, C classes, H heads, D hidden width. A mask is (B, S), non-zero at real tokens;
what stands at padding has no influence, neither on a loss nor on a gradient.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from modelpress.errors import ModelPressError


def hard_targets(logits: Tensor, labels: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Cross-entropy of logits (B, C) with class indices (B,), mean over the batch.

    With smoothing e the target is ``(1 - e) * onehot + e / C`` ("Rethinking the Inception Architecture for
    Computer Vision", arXiv:1512.00567).
    """
    return F.cross_entropy(logits.float(), labels, label_smoothing=label_smoothing)


def soft_targets(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """``T^2 * KL(softmax(teacher / T) || softmax(student / T))`` of logits (B, C), mean over the batch.

    "Distilling the Knowledge in a Neural Network", arXiv:1503.02531. T^2 keeps the size of the gradient
    independent of T.
    """
    learned = F.log_softmax(student.float() / temperature, dim=-1)
    wanted = F.log_softmax(teacher.float() / temperature, dim=-1)
    return F.kl_div(learned, wanted, reduction="batchmean", log_target=True) * temperature**2


def hidden_states(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """Mean of ``(student - teacher)^2`` over real tokens and width; both (B, S, D), the student already projected.

    "TinyBERT: Distilling BERT for Natural Language Understanding", arXiv:1909.10351, equations 8 (hidden states)
    and 9 (embedding layer).
    """
    _same_shape("hidden states", student, teacher)
    real = mask.bool()
    difference = (student.float() - teacher.float()).masked_fill(~real[:, :, None], 0.0)
    return difference.square().sum() / (real.sum().clamp(min=1) * student.shape[-1])


def cosine_distance(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """Mean of ``1 - cos(student, teacher)`` over real tokens; both (B, S, D), the student already projected.

    "DistilBERT, a distilled version of BERT: smaller, faster, cheaper and lighter", arXiv:1910.01108.
    """
    _same_shape("hidden states", student, teacher)
    real = mask.bool()
    # ones at padding, not zeros: the gradient of a norm at the zero vector is not finite
    vectors = [states.float().masked_fill(~real[:, :, None], 1.0) for states in (student, teacher)]
    distance = (1.0 - F.cosine_similarity(vectors[0], vectors[1], dim=-1)).masked_fill(~real, 0.0)
    return distance.sum() / real.sum().clamp(min=1)


def attention_scores(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """Mean of ``(student - teacher)^2`` of scores before softmax, (B, H, S, S), over heads and pairs of real tokens.

    "TinyBERT: Distilling BERT for Natural Language Understanding", arXiv:1909.10351, equation 7. Pairs with padding
    as query or as key are left out. A teacher with more heads is averaged over consecutive groups (group_heads).
    """
    wanted = group_heads(teacher.float(), student.shape[1])
    _same_shape("attention scores", student, wanted)
    real = mask.bool()
    pairs = (real[:, None, :, None] & real[:, None, None, :]).expand_as(student)
    difference = (student.float() - wanted).masked_fill(~pairs, 0.0)
    return difference.square().sum() / pairs.sum().clamp(min=1)


def group_heads(scores: Tensor, heads: int) -> Tensor:
    """(B, H, S, S) -> (B, heads, S, S): the mean over consecutive groups of H / heads heads."""
    given = scores.shape[1]
    check_heads(heads, given)
    grouped = scores.reshape(scores.shape[0], heads, given // heads, *scores.shape[2:])
    return scores if given == heads else grouped.mean(dim=2)


def check_heads(student: int, teacher: int) -> None:
    """Raise unless the teacher's heads can be split into as many equal groups as the student has heads."""
    if student < 1 or teacher % student:
        raise ModelPressError(
            f"attention scores cannot be compared: the teacher has {teacher} heads, the student {student}; "
            "the teacher's number must be a multiple of the student's. "
            "Give the student a divisor of it, or set objective.weights.attention=0."
        )


def real_tokens(batch: Mapping[str, Tensor], size: int, length: int, device: torch.device) -> Tensor:
    """``attention_mask``, or all real where a batch has none (images)."""
    mask = batch.get("attention_mask")
    return torch.ones(size, length, device=device) if mask is None else mask


def _same_shape(what: str, student: Tensor, teacher: Tensor) -> None:
    if student.shape != teacher.shape:
        raise ModelPressError(
            f"{what} of the student have shape {tuple(student.shape)}, the teacher's {tuple(teacher.shape)}; "
            "they must agree. Both must read the same tokens, so they need the same tokenizer."
        )
