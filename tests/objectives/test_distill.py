"""Which parts are computed when, what is built for them, and that they are the functional losses."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from modelpress.errors import ModelPressError
from modelpress.models.base import Output
from modelpress.objectives import functional
from modelpress.objectives.distill import Distillation
from modelpress.objectives.parts import INTERMEDIATE, ONLY_DUAL
from modelpress.objectives.parts import PARTS as EVERY

LABELS = ["fresh", "rotten", "mixed"]
PARTS = tuple(part for part in EVERY if part not in ONLY_DUAL)
ALL = dict.fromkeys(PARTS, 1.0)
LOSSES = {
    "hard": "hard_targets",
    "soft": "soft_targets",
    "hidden": "hidden_states",
    "embedding": "hidden_states",
    "cosine": "cosine_distance",
    "attention": "attention_scores",
}


def network(layers: int = 2, width: int = 6, heads: int = 2, labels: list[str] | None = None) -> Any:
    sizes = {"num_layers": layers, "width": width, "num_heads": heads}
    return SimpleNamespace(**sizes, labels=labels or LABELS, embedding_width=None)


def output(model: Any, seed: int = 0, size: int = 3, length: int = 4) -> Output:
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(size, *shape, generator=generator)

    return Output(
        logits=random(len(model.labels)),
        hidden_states=tuple(random(length, model.width) for _ in range(model.num_layers + 1)),
        attentions=tuple(random(model.num_heads, length, length) for _ in range(model.num_layers)),
    )


STUDENT, TEACHER = network(), network(layers=5, width=8, heads=4)
BATCH = {
    "labels": torch.tensor([0, 1, 2]),
    "attention_mask": torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [1, 1, 1, 0]]),
}


def bound(student: Any = STUDENT, teacher: Any = TEACHER, **options: Any) -> Distillation:
    objective = Distillation(**{"weights": ALL, **options})
    objective.bind(student, teacher)
    return objective


def test_every_part_is_its_functional_loss_on_the_mapped_layers() -> None:
    objective = bound(temperature=3.0, label_smoothing=0.1)
    student, teacher, mask = output(STUDENT), output(TEACHER, seed=1), BATCH["attention_mask"]
    losses = objective(student, BATCH, teacher, 0.5)
    assert objective.layers == {1: 2, 2: 5}
    states, wanted = student.hidden_states, teacher.hidden_states
    scores, maps = student.attentions, teacher.attentions
    assert states is not None
    assert wanted is not None
    assert scores is not None
    assert maps is not None
    learned = {place: objective.projections[str(place)](states[place]) for place in (0, 1, 2)}
    pair = [functional.hidden_states(learned[s], wanted[t], mask) for s, t in ((1, 2), (2, 5))]
    attention = [functional.attention_scores(scores[s], maps[t], mask) for s, t in ((0, 1), (1, 4))]
    expected = {
        "hard": functional.hard_targets(student.logits, BATCH["labels"], 0.1),
        "soft": functional.soft_targets(student.logits, teacher.logits, 3.0),
        "hidden": (pair[0] + pair[1]) / 2,
        "attention": (attention[0] + attention[1]) / 2,
        "embedding": functional.hidden_states(learned[0], wanted[0], mask),
        "cosine": functional.cosine_distance(learned[2], wanted[5], mask),
    }
    assert list(losses) == list(objective.weights(0.5)) == list(PARTS)
    for part in PARTS:
        torch.testing.assert_close(losses[part], expected[part])


@pytest.mark.parametrize("part", PARTS)
def test_a_part_of_weight_0_is_not_computed_nor_asked_for(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[str] = []
    for name in set(LOSSES.values()):
        real = getattr(functional, name)
        monkeypatch.setattr(functional, name, lambda *a, _n=name, _r=real: called.append(_n) or _r(*a))
    objective = bound(weights={**dict.fromkeys(PARTS, 0.0), part: 2.0})
    needs = objective.needs(0.0)
    full = output(STUDENT), output(TEACHER)
    for each in full:  # only what was asked for is there
        each.hidden_states = each.hidden_states if "hidden_states" in needs else None
        each.attentions = each.attentions if "attentions" in needs else None
    losses = objective(full[0], BATCH, full[1], 0.0)
    assert dict(objective.weights(0.0)) == {part: 2.0}
    assert losses.keys() == {part}
    assert set(called) == {LOSSES[part]}
    expected = {"hidden": 2, "embedding": 1, "cosine": 1}.get(part, 0)
    assert len(objective.projections) == expected
    assert needs == {"attention": {"attentions"}}.get(part, {"hidden_states"} if expected else set())


@pytest.mark.parametrize(
    ("parts", "layers"),
    [
        (("hidden",), (2, 5)),
        (("hidden", "embedding"), (0, 2, 5)),
        (("cosine",), (5,)),
        (("embedding",), (0,)),
        (("attention", "soft"), ()),
    ],
)
def test_teacher_layers_are_those_that_are_read(parts: tuple[str, ...], layers: tuple[int, ...]) -> None:
    assert bound(weights=dict.fromkeys(parts, 1)).teacher_layers() == layers


def test_two_phases_split_what_learns_and_what_is_asked_for() -> None:
    objective = bound(phase_split=0.5)
    assert set(objective.weights(0.49)) == set(INTERMEDIATE) & set(PARTS)
    assert set(objective.weights(0.5)) == {"hard", "soft"}
    assert objective.needs(0.49) == {"hidden_states", "attentions"}
    assert objective.needs(0.5) == frozenset()
    second = objective(Output(logits=output(STUDENT).logits), BATCH, Output(logits=output(TEACHER).logits), 1.0)
    assert set(second) == {"hard", "soft"}
    assert set(objective(output(STUDENT), BATCH, output(TEACHER), 0.0)) == set(INTERMEDIATE) & set(PARTS)


def test_projections_are_parameters_and_only_where_widths_differ() -> None:
    objective = bound(weights={"hidden": 1, "embedding": 1})
    assert {name for name, _ in objective.named_parameters()} == {
        f"projections.{place}.{kind}" for place in (0, 1, 2) for kind in ("weight", "bias")
    }
    assert objective.projections["1"].weight.shape == (8, 6)
    losses = objective(output(STUDENT), BATCH, output(TEACHER), 0.0)
    (losses["hidden"] + losses["embedding"]).backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in objective.parameters())
    assert not list(bound(teacher=network(layers=4, heads=4)).parameters())


def test_layers_not_taught_are_left_out() -> None:
    objective = bound(layer_map=[None, 3], weights={"hidden": 1, "cosine": 1})
    assert objective.teacher_layers() == (3,)
    assert list(objective.projections) == ["2"]
    student, teacher = output(STUDENT), output(TEACHER)
    before = objective(student, BATCH, teacher, 0.0)
    assert student.hidden_states
    assert teacher.hidden_states
    teacher.hidden_states = tuple(x if i == 3 else torch.empty(0) for i, x in enumerate(teacher.hidden_states))
    after = objective(student, BATCH, teacher, 0.0)
    assert all(torch.equal(before[part], after[part]) for part in before)


def test_longer_padding_changes_no_part() -> None:
    objective = bound()
    student, teacher = output(STUDENT), output(TEACHER, seed=1)
    before = objective(student, BATCH, teacher, 0.0)

    def longer(given: Output) -> Output:
        pad = torch.nn.functional.pad
        return Output(
            logits=given.logits,
            hidden_states=tuple(pad(x, (0, 0, 0, 2), value=7.0) for x in given.hidden_states or ()),
            attentions=tuple(pad(x, (0, 2, 0, 2), value=-7.0) for x in given.attentions or ()),
        )

    batch = {**BATCH, "attention_mask": torch.nn.functional.pad(BATCH["attention_mask"], (0, 2))}
    after = objective(longer(student), batch, longer(teacher), 0.0)
    for part in PARTS:
        torch.testing.assert_close(after[part], before[part])


def test_without_a_mask_every_token_is_real() -> None:
    objective = bound()
    batch = {"labels": BATCH["labels"]}
    ones = {**batch, "attention_mask": torch.ones(3, 4, dtype=torch.int64)}
    losses = [objective(output(STUDENT), each, output(TEACHER), 0.0) for each in (batch, ones)]
    assert all(torch.equal(losses[0][part], losses[1][part]) for part in PARTS)


def test_works_under_bf16_autocast_in_float32() -> None:
    objective = bound()
    student, teacher = output(STUDENT), output(TEACHER)
    exact = objective(student, BATCH, teacher, 0.0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = objective(student, BATCH, teacher, 0.0)
    assert {loss.dtype for loss in losses.values()} == {torch.float32}
    for part in PARTS:  # only the projections run in bf16
        torch.testing.assert_close(losses[part], exact[part], rtol=0.02, atol=0.02)
    torch.testing.assert_close(losses["soft"], exact["soft"])


def test_teacher_classes_are_matched_by_name() -> None:
    shuffled = network(layers=5, width=8, heads=4, labels=["mixed", "fresh", "rotten"])
    objective = bound(teacher=shuffled, weights={"soft": 1})
    teacher = output(TEACHER)
    assert teacher.logits is not None
    same = bound(weights={"soft": 1})(output(STUDENT), BATCH, teacher, 0.0)["soft"]
    moved = Output(logits=teacher.logits[:, [2, 0, 1]])
    torch.testing.assert_close(objective(output(STUDENT), BATCH, moved, 0.0)["soft"], same)


def test_bind_refuses_what_cannot_be_compared() -> None:
    with pytest.raises(ModelPressError, match="needs a teacher, none was given"):
        bound(teacher=None)
    with pytest.raises(ModelPressError, match=r"'negative'.*need the same set.*label_map"):
        bound(teacher=network(5, 8, 4, labels=["negative", "positive", "mixed"]))
    with pytest.raises(ModelPressError, match="the teacher has 3 heads, the student 2"):
        bound(teacher=network(5, 8, 3))
    with pytest.raises(ModelPressError, match="student has 2 layers and the teacher 1"):
        bound(teacher=network(1, 8, 4))
    with pytest.raises(ModelPressError, match="embeddings, which have no attention scores"):
        bound(layer_map=[0, 5])
    with pytest.raises(ModelPressError, match="does not say its width"):
        bound(student=SimpleNamespace(num_layers=2, num_heads=2, labels=LABELS, embedding_width=None))


def test_parts_that_are_off_forgive_what_they_would_refuse() -> None:
    other = network(1, 8, 3, labels=["negative", "positive"])
    assert bound(teacher=other, weights={"hard": 1, "embedding": 1}).teacher_layers() == (0,)
    plain = SimpleNamespace(labels=LABELS, embedding_width=None)
    assert bound(student=plain, teacher=plain, weights={"soft": 1}).teacher_layers() == ()


@pytest.mark.parametrize("part", ONLY_DUAL)
def test_parts_of_dual_encoders_are_refused(part: str) -> None:
    with pytest.raises(ModelPressError, match=rf"classifier, and objective.weights.{part} is for dual encoders.*hard"):
        bound(weights={"hard": 1, part: 0.5})


def test_missing_outputs_are_named() -> None:
    with pytest.raises(ModelPressError, match="student returned no hidden_states"):
        bound(weights={"hidden": 1})(Output(), BATCH, output(TEACHER), 0.0)
    with pytest.raises(ModelPressError, match="teacher returned no logits"):
        bound(weights={"soft": 1})(output(STUDENT), BATCH, None, 0.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": "hot"}, "temperature is 'hot', which is no number; give a number above 0"),
        ({"temperature": 0}, "temperature is 0; it must be above 0"),
        ({"weights": {"soft": -1}}, "weights.soft is -1; it must be at least 0"),
        ({"weights": {"soft": 0, "hard": 0}}, "all 0"),
        ({"weights": {"hiden": 1}}, "Did you mean 'hidden'"),
        ({"weights": 0.5}, "give a mapping"),
        ({"teacher": "none"}, "'external', 'parent'"),
        ({"layer_map": "even"}, "layer_map is 'even'"),
        ({"phase_split": 1.0}, "phase_split is 1.0; it must be at least 0 and below 1"),
        ({"phase_split": 0.5, "weights": {"soft": 1}}, "one of its two phases has no part.*hidden"),
        ({"phase_split": 0.5, "weights": {"hidden": 1}}, "one of its two phases has no part.*hard"),
        ({"label_smoothing": 1.5}, "label_smoothing is 1.5"),
    ],
)
def test_options_are_checked(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelPressError, match=message):
        Distillation(**{"weights": ALL, **options})
