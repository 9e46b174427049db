"""The teacher is frozen, and what it says from the cache is what it would say anew."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from modelpress.models.base import Batch, Model, Output
from modelpress.objectives.distill import Distillation
from modelpress.teacher import HIDDEN, Teacher

ITEMS, WIDTH, CLASSES, VOCABULARY = 40, 8, 3, 50
SCORES = frozenset({"attentions"})


class Toy(Model):
    """A padding-proof stack of layers with dropout; counts its forward passes."""

    num_layers, width, num_heads = 3, WIDTH, 2

    def __init__(self, seed: int = 0, scale: float = 1.0, width: int = WIDTH) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.labels, self.width, self.scale = ["a", "b", "c"], width, scale
        self.embed, self.dropout = nn.Embedding(VOCABULARY, width), nn.Dropout(0.5)
        self.blocks = nn.ModuleList(nn.Linear(width, width) for _ in range(3))
        self.head = nn.Linear(width, CLASSES)
        self.calls, self.asked = 0, frozenset[str]()

    def capture(self, needs: frozenset[str]) -> None:
        self.asked = needs

    def forward(self, batch: Batch) -> Output:
        self.calls += 1
        states = [self.dropout(self.embed(batch["input_ids"])) * self.scale]
        for block in self.blocks:
            states.append(states[-1] + torch.tanh(block(states[-1])))
        mask = batch["attention_mask"][:, :, None]
        scores = tuple((x @ x.transpose(1, 2))[:, None].expand(-1, 2, -1, -1) for x in states[1:])
        return Output(
            logits=self.head((states[-1] * mask).sum(1) / mask.sum(1)),
            hidden_states=tuple(states) if "hidden_states" in self.asked else None,
            attentions=scores if "attentions" in self.asked else None,
        )


def batch_of(index: list[int], left: bool = False, extra: int = 0) -> dict[str, Tensor]:
    """Items of 2 to 9 tokens, padded to the longest."""
    rows = [torch.randint(1, VOCABULARY, (2 + i % 8,), generator=torch.Generator().manual_seed(i)) for i in index]
    length = max(map(len, rows)) + extra
    pads = [(length - len(row), 0) if left else (0, length - len(row)) for row in rows]
    return {
        "input_ids": torch.stack([nn.functional.pad(row, pad) for row, pad in zip(rows, pads, strict=True)]),
        "attention_mask": torch.stack(
            [nn.functional.pad(torch.ones_like(row), pad) for row, pad in zip(rows, pads, strict=True)]
        ),
        "labels": torch.tensor(index) % CLASSES,
        "index": torch.tensor(index),
    }


def batches(seed: int, size: int = 8) -> Iterator[dict[str, Tensor]]:
    order = torch.randperm(ITEMS, generator=torch.Generator().manual_seed(seed)).tolist()
    for start in range(0, ITEMS, size):
        yield batch_of(order[start : start + size])


def cached(folder: Path, layers: tuple[int, ...] = (1, 3), model: Toy | None = None, **options: Any) -> Teacher:
    teacher = Teacher(model or Toy(), cache=folder, **{"key": "toy", "items": ITEMS, **options})
    teacher.layers = layers
    return teacher


def fill(teacher: Teacher, needs: frozenset[str] = HIDDEN, seed: int = 1) -> None:
    for batch in batches(seed):
        teacher(batch, needs)


def assert_same(found: Output, expected: Output, batch: Batch, layers: tuple[int, ...] = (1, 3)) -> None:
    mask = batch["attention_mask"].bool()
    assert found.logits is not None
    assert found.hidden_states is not None
    assert expected.hidden_states is not None
    torch.testing.assert_close(found.logits, expected.logits, rtol=1e-6, atol=1e-6)
    for layer in layers:
        torch.testing.assert_close(
            found.hidden_states[layer][mask], expected.hidden_states[layer][mask].float(), rtol=6e-4, atol=1e-6
        )
        assert found.hidden_states[layer].shape == expected.hidden_states[layer].shape
        assert not found.hidden_states[layer][~mask].any()


def test_the_teacher_is_frozen_and_in_evaluation_mode() -> None:
    model = Toy().train()
    teacher = Teacher(model)
    model.train()  # somebody else holds it too
    outputs = [teacher(batch_of([1, 2]), HIDDEN) for _ in range(2)]
    assert outputs[0].logits is not None
    assert torch.equal(outputs[0].logits, outputs[1].logits)  # no dropout
    assert not outputs[0].logits.requires_grad
    assert not outputs[0].logits.is_inference()
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_the_teacher_is_in_no_checkpoint() -> None:
    holder = nn.Linear(1, 1)
    holder.teacher = Teacher(Toy())
    assert set(holder.state_dict()) == {"weight", "bias"}
    assert len(list(holder.parameters())) == 2


def test_without_cache_it_asks_for_exactly_what_is_needed() -> None:
    teacher = Teacher(Toy())
    for needs in (HIDDEN, frozenset[str](), SCORES, HIDDEN | SCORES):
        output = teacher(batch_of([1, 2]), needs)
        assert (output.hidden_states is not None) == ("hidden_states" in needs)
        assert (output.attentions is not None) == ("attentions" in needs)


def test_a_second_pass_in_another_order_computes_nothing_and_says_the_same(tmp_path: Path) -> None:
    teacher, plain = cached(tmp_path), Teacher(Toy())
    fill(teacher)
    assert teacher.computed == 5
    for batch in batches(seed=2):
        assert_same(teacher(batch, HIDDEN), plain(batch, HIDDEN), batch)
    assert teacher.computed == 5


def test_positions_are_kept_and_other_layers_are_empty(tmp_path: Path) -> None:
    teacher = cached(tmp_path, layers=(0, 2))
    states = teacher(batch_of([1, 2, 3]), HIDDEN).hidden_states
    assert states is not None
    assert [tuple(state.shape) for state in states] == [(3, 5, WIDTH), (0,), (3, 5, WIDTH)]


def test_the_filling_pass_returns_the_very_numbers_of_later_passes(tmp_path: Path) -> None:
    teacher = cached(tmp_path)
    passes = [[teacher(batch, HIDDEN) for batch in batches(1)] for _ in range(2)]
    for first, second in zip(*passes, strict=True):
        assert first.logits is not None
        assert second.logits is not None
        assert torch.equal(first.logits, second.logits)
        for x, y in zip(first.hidden_states or (), second.hidden_states or (), strict=True):
            assert torch.equal(x, y)


def test_the_loss_from_the_cache_is_the_loss_computed_anew(tmp_path: Path) -> None:
    student = Toy(seed=7, width=6).eval()
    student.capture(HIDDEN)
    objective = Distillation({"hard": 1, "soft": 1, "hidden": 1, "embedding": 1, "cosine": 1})
    objective.bind(student, Toy())
    teacher, plain = cached(tmp_path, objective.teacher_layers()), Teacher(Toy())
    fill(teacher)
    for batch in batches(3):
        losses = [objective(student(batch), batch, each(batch, HIDDEN), 0.0) for each in (teacher, plain)]
        for part in losses[0]:
            torch.testing.assert_close(losses[0][part], losses[1][part], rtol=1e-3, atol=1e-5)


def test_another_run_and_other_padding_read_the_same_cache(tmp_path: Path) -> None:
    first = cached(tmp_path)
    fill(first)
    first.close()
    second, plain = cached(tmp_path), Teacher(Toy())
    batch = batch_of([5, 30, 2], extra=4)
    assert_same(second(batch, HIDDEN), plain(batch, HIDDEN), batch)
    assert second.computed == 0


def test_padding_on_the_left_is_another_input(tmp_path: Path) -> None:
    teacher, plain = cached(tmp_path), Teacher(Toy())
    left = batch_of([3, 4, 5], left=True)
    teacher(left, HIDDEN)
    assert_same(teacher(left, HIDDEN), plain(left, HIDDEN), left)
    assert teacher.computed == 1
    teacher(batch_of([3, 4, 5]), HIDDEN)
    assert teacher.computed == 2


def test_bf16_outputs_come_back_exactly_and_apart_from_float32(tmp_path: Path) -> None:
    teacher, plain = cached(tmp_path, layers=(3,)), Teacher(Toy())
    fill(teacher)
    batch = batch_of([1, 2, 3])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        expected = plain(batch, HIDDEN)
        outputs = [teacher(batch, HIDDEN) for _ in range(2)]
    assert teacher.computed == 6
    assert expected.logits is not None
    assert expected.logits.dtype == torch.bfloat16
    assert outputs[1].logits is not None
    assert torch.equal(outputs[1].logits, expected.logits.float())
    exact = Teacher(Toy())(batch, HIDDEN)
    assert_same(teacher(batch, HIDDEN), exact, batch, layers=(3,))
    assert not torch.equal(outputs[1].logits, exact.logits)


@pytest.mark.parametrize("change", ["weights", "layers"])
def test_another_key_never_reads_it(tmp_path: Path, change: str) -> None:
    first = cached(tmp_path)
    fill(first)
    first.close()
    options: dict[str, Any] = {
        "weights": {"model": Toy(seed=5), "key": "other toy"},
        "layers": {"layers": (2, 3)},
    }[change]
    teacher = cached(tmp_path, **options)
    batch = batch_of([1, 2])
    found = teacher(batch, HIDDEN)
    assert teacher.computed == 1
    assert_same(found, Teacher(teacher.model)(batch, HIDDEN), batch, teacher.layers or ())


def test_changed_tokens_under_a_known_number_are_computed(tmp_path: Path) -> None:
    teacher, plain = cached(tmp_path), Teacher(Toy())
    fill(teacher)
    augmented = batch_of([1, 2])
    augmented["input_ids"][0, 0] += 1
    for _ in range(2):
        assert_same(teacher(augmented, HIDDEN), plain(augmented, HIDDEN), augmented)
    assert teacher.computed == 7
    teacher(batch_of([1, 2]), HIDDEN)
    assert teacher.computed == 7


@pytest.mark.parametrize("missing", ["index", "attention_mask"])
def test_batches_that_cannot_be_told_apart_are_computed(tmp_path: Path, missing: str) -> None:
    model = Toy()
    forward = model.forward
    model.forward = lambda batch: forward({**batch_of([1, 2]), **batch})  # type: ignore[method-assign]
    teacher = cached(tmp_path, model=model)
    batch = {name: tensor for name, tensor in batch_of([1, 2]).items() if name != missing}
    teacher(batch, HIDDEN)
    teacher(batch, HIDDEN)
    assert teacher.computed == 2
    assert not list(tmp_path.iterdir())


def test_attention_scores_are_computed_while_their_logits_are_kept(tmp_path: Path) -> None:
    teacher = cached(tmp_path)
    fill(teacher, HIDDEN | SCORES)
    fill(teacher, HIDDEN | SCORES)
    assert teacher.computed == 10
    fill(teacher, frozenset(), seed=2)  # the second phase of a two-phase distillation
    assert teacher.computed == 10
    assert not list(tmp_path.glob("*hidden*"))


def test_values_beyond_float16_are_not_rounded_to_infinity(tmp_path: Path) -> None:
    teacher = cached(tmp_path, model=Toy(scale=1e6))
    batch = batch_of([1, 2])
    states = [teacher(batch, HIDDEN).hidden_states for _ in range(2)]
    assert states[0] is not None
    assert states[0][1].abs().max() > 65504
    assert states[0][1].isfinite().all()
    assert teacher.computed == 2


def test_a_damaged_cache_is_computed_again(tmp_path: Path) -> None:
    first = cached(tmp_path)
    fill(first)
    first.close()
    for data in tmp_path.glob("*.data"):
        data.write_bytes(data.read_bytes()[:-3] + b"xyz")
    teacher, plain = cached(tmp_path), Teacher(Toy())
    fill(teacher)
    assert 1 <= teacher.computed < 5
    for batch in batches(2):
        assert_same(teacher(batch, HIDDEN), plain(batch, HIDDEN), batch)


def test_too_large_means_no_cache_and_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    teacher, plain = cached(tmp_path, limit_gb=1e-6), Teacher(Toy())
    fill(teacher)
    assert "are not cached: it needs at least" in caplog.text
    assert not list(tmp_path.glob("*hidden*.data"))
    for batch in batches(2):
        assert_same(teacher(batch, HIDDEN), plain(batch, HIDDEN), batch)
    assert teacher.computed == 10


def test_a_cache_in_use_elsewhere_is_left_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    owner, second = cached(tmp_path), cached(tmp_path)
    fill(owner)
    fill(second)
    assert "another process uses" in caplog.text
    assert second.computed == 5
    fill(owner)
    assert owner.computed == 5


def test_an_unusable_folder_means_no_cache(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    teacher = cached(tmp_path / "file" / "folder")
    fill(teacher)
    assert teacher.computed == 5
    assert "are not cached" in caplog.text


def test_a_cache_needs_a_key_and_a_size(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a key and the number of items"):
        Teacher(Toy(), cache=tmp_path, items=3)
    with pytest.raises(ValueError, match="a key and the number of items"):
        Teacher(Toy(), cache=tmp_path, key="key")
