from __future__ import annotations

from typing import Any

import pytest
import torch

from modelpress.errors import ModelPressError
from modelpress.models.init import initialise
from tests.models.conftest import tiny

IDS = torch.arange(5, 25)[None]


@pytest.mark.parametrize("model_type", ["bert", "roberta", "electra", "distilbert", "albert"])
def test_the_same_shape_answers_exactly_the_same(model_type: str) -> None:
    teacher, student = tiny(model_type, seed=1), tiny(model_type, seed=2)
    initialise(student, teacher, [0, 1, 2, 3])
    assert torch.equal(student(IDS).logits, teacher(IDS).logits)


def test_fewer_layers_are_the_teachers_layers() -> None:
    teacher, student = tiny(seed=1), tiny(seed=2, num_hidden_layers=2)
    initialise(student, teacher, [1, 3])
    for ours, theirs in ((0, 1), (1, 3)):
        expected = teacher.bert.encoder.layer[theirs].state_dict()
        for name, tensor in student.bert.encoder.layer[ours].state_dict().items():
            assert torch.equal(tensor, expected[name])
    assert torch.equal(student.classifier.weight, teacher.classifier.weight)


def test_other_encoders_lose_layers_by_name() -> None:
    teacher = tiny("mpnet", seed=1, pad_token_id=1, max_position_embeddings=42)
    student = tiny("mpnet", seed=2, pad_token_id=1, max_position_embeddings=42, num_hidden_layers=2)
    initialise(student, teacher, [0, 3])
    expected = teacher.mpnet.encoder.layer[3].state_dict()
    for name, tensor in student.mpnet.encoder.layer[1].state_dict().items():
        assert torch.equal(tensor, expected[name])
    narrow = tiny("mpnet", pad_token_id=1, max_position_embeddings=42, hidden_size=16)
    with pytest.raises(ModelPressError, match="Widths are cut for bert"):
        initialise(narrow, teacher, [0, 1, 2, 3])


def spoil(teacher: Any, channels: list[int], neurons: list[int]) -> None:
    """Make hidden channels and neurons that nobody reads."""
    with torch.no_grad():
        for layer in teacher.bert.encoder.layer:
            inner = layer.attention.self
            for linear in (inner.query, inner.key, inner.value, layer.intermediate.dense):
                linear.weight[:, channels] = 0
            layer.output.dense.weight[:, neurons] = 0
        teacher.bert.pooler.dense.weight[:, channels] = 0


def test_channels_and_neurons_that_nobody_reads_are_the_ones_that_go() -> None:
    teacher = tiny(seed=1)
    spoil(teacher, [2, 7, 11, 20], [0, 5, 40])
    student = tiny(seed=2, hidden_size=20, num_attention_heads=4, intermediate_size=45)
    initialise(student, teacher, [0, 1, 2, 3])
    kept = [c for c in range(24) if c not in (2, 7, 11, 20)]
    neurons = [n for n in range(48) if n not in (0, 5, 40)]
    words = teacher.bert.embeddings.word_embeddings.weight
    assert torch.equal(student.bert.embeddings.word_embeddings.weight, words[:, kept])
    up = teacher.bert.encoder.layer[0].intermediate.dense.weight[neurons][:, kept]
    torch.testing.assert_close(student.bert.encoder.layer[0].intermediate.dense.weight, up, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "numbers",
    [
        {"hidden_size": 20, "num_attention_heads": 4, "intermediate_size": 40},  # 12 heads of 26 from heads of 32
        {"hidden_size": 18, "num_attention_heads": 3, "intermediate_size": 48},  # 10 heads of 32 from 12
        {"hidden_size": 24, "num_attention_heads": 4, "intermediate_size": 40},
    ],
)
@pytest.mark.parametrize("model_type", ["bert", "distilbert"])
def test_narrow_students_follow_the_teacher_better_than_noise(model_type: str, numbers: dict[str, int]) -> None:
    """Compared over one batch: correlation of the logits, where random weights have none."""
    teacher = tiny(seed=1, labels=2)
    if model_type == "distilbert":
        names = {"hidden_size": "dim", "num_attention_heads": "n_heads", "intermediate_size": "hidden_dim"}
        numbers = {names[key]: value for key, value in numbers.items()}
    student = tiny(model_type, seed=2, labels=2, **numbers)
    ids = torch.randint(5, 95, (64, 12))
    initialise(student, teacher, [0, 1, 2, 3])
    theirs = teacher.bert(ids).last_hidden_state
    ours = student.base_model(ids).last_hidden_state
    width = ours.shape[-1]
    target = torch.linalg.lstsq(
        torch.cat([ours, torch.ones(64, 12, 1)], 2).flatten(0, 1), theirs.flatten(0, 1)
    ).solution
    assert target.shape == (width + 1, 24)
    guess = torch.cat([ours, torch.ones(64, 12, 1)], 2) @ target
    explained = 1 - (guess - theirs).square().mean() / theirs.flatten(0, 1).var(0).mean()
    assert explained > 0.75


def test_the_cut_is_deterministic_in_its_seed() -> None:
    def cut(seed: int, start: int) -> dict[str, torch.Tensor]:
        student = tiny(seed=start, hidden_size=16, intermediate_size=30)
        initialise(student, tiny(seed=1), [0, 1, 2, 3], seed=seed)
        return dict(student.state_dict())

    one, same, other = cut(3, 10), cut(3, 11), cut(4, 10)
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_another_number_of_labels_keeps_the_students_head() -> None:
    student = tiny(seed=2, labels=5)
    head = student.classifier.weight.clone()
    initialise(student, tiny(seed=1, labels=3), [0, 1, 2, 3])
    assert torch.equal(student.classifier.weight, head)


@pytest.mark.parametrize(
    ("numbers", "match"),
    [
        ({"hidden_size": 28}, "hidden_size 28 > 24"),
        ({"num_attention_heads": 6}, "num_attention_heads 6 > 4"),
        ({"num_attention_heads": 2}, "width of a head 12 > 6"),
        ({"intermediate_size": 49}, "intermediate_size 49 > 48"),
        ({"max_position_embeddings": 41}, "positions 41 > 40"),
        ({"vocab_size": 96}, "96 tokens and its teacher 95"),
    ],
)
def test_wider_than_the_teacher_is_refused(numbers: dict[str, int], match: str) -> None:
    with pytest.raises(ModelPressError, match=match):
        initialise(tiny(**numbers), tiny(), [0, 1, 2, 3])
