"""The LightningModule: what is added up, what is random, what is saved, and what is never touched."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import Callback

import tests.toy as toy
from modelpress.objectives.distill import Distillation
from modelpress.objectives.task import Task
from modelpress.optimizer import OptimizerConfig
from modelpress.pruning.masks import Masks
from modelpress.teacher import Teacher
from modelpress.technique import Technique, step_seed
from modelpress.transforms.base import Transform

PARTS = {"hard": 0.0, "soft": 0.0, "hidden": 0.0, "attention": 0.0, "embedding": 0.0, "cosine": 0.0}


class Record(Callback):
    """Every training loss that was logged, and what the callback of a test wants done between two steps."""

    def __init__(self) -> None:
        self.steps: list[dict[str, float]] = []

    def on_train_batch_end(self, trainer: Any, *rest: Any) -> None:
        self.steps.append({k: float(v) for k, v in trainer.callback_metrics.items() if "/train/" in k})


def fit(module: Technique, folder: Path, *callbacks: Callback, **options: Any) -> Any:
    trainer = toy.trainer(folder, *callbacks, **options)
    with toy.known_warnings():
        trainer.fit(module, toy.loader(), toy.loader(2, seed=9) if options.get("limit_val_batches") else None)
    return trainer


def distilling(teacher: toy.Toy | None = None, student: toy.Toy | None = None, **weights: float) -> Technique:
    objective, student = Distillation({**PARTS, **weights}), student or toy.Toy()
    teacher = teacher or toy.Toy(seed=7)
    objective.bind(student, teacher)
    return toy.technique(objective, student, teacher=Teacher(teacher), steps=toy.BATCHES)


def test_the_loss_is_the_weighted_sum_of_its_parts(tmp_path: Path) -> None:
    record = Record()
    fit(distilling(hard=0.25, soft=3.0), tmp_path, record)
    assert len(record.steps) == toy.BATCHES
    for step in record.steps:
        assert step["toy/train/loss"] == pytest.approx(0.25 * step["toy/train/hard"] + 3.0 * step["toy/train/soft"])


def test_a_part_of_weight_zero_is_neither_computed_nor_asked_for(tmp_path: Path) -> None:
    record, student, teacher = Record(), toy.Toy(), toy.Toy(seed=7)
    fit(distilling(teacher, student, hard=1.0, soft=1.0), tmp_path, record)
    assert set(record.steps[-1]) == {"toy/train/hard", "toy/train/soft", "toy/train/loss"}
    assert set(student.captured) == set(teacher.captured) == {frozenset()}


def test_hidden_states_are_captured_in_training_only(tmp_path: Path) -> None:
    student = toy.Toy()
    fit(distilling(student=student, hard=1.0, hidden=1.0), tmp_path, limit_val_batches=2)
    asked = set(zip(student.modes, student.captured, strict=True))
    assert asked == {(True, frozenset({"hidden_states"})), (False, frozenset())}


def test_dropout_is_active_in_training_and_not_in_validation(tmp_path: Path) -> None:
    """Whichever mode the network was left in; ``from_pretrained`` leaves evaluation mode."""
    student = toy.Toy()
    fit(distilling(student=student, hard=1.0), tmp_path, max_epochs=2, limit_val_batches=2)
    epoch = [True] * toy.BATCHES + [False] * 2
    assert student.modes == epoch * 2


def test_the_teacher_stays_frozen_and_in_evaluation_mode(tmp_path: Path) -> None:
    teacher = toy.Toy(seed=7)
    before = teacher.head.weight.clone()
    fit(distilling(teacher, soft=1.0), tmp_path)
    assert teacher.modes == [False] * toy.BATCHES
    assert torch.equal(teacher.head.weight, before)
    assert not teacher.head.weight.requires_grad


def test_a_checkpoint_holds_student_and_helpers_but_no_teacher(tmp_path: Path) -> None:
    module = distilling(soft=1.0)
    trainer = fit(module, tmp_path)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert {name.split(".")[0] for name in saved["state_dict"]} <= {"model", "objective", "hits"}
    assert {"model.head.weight", "model.head.bias"} <= set(saved["state_dict"])
    numbers = sum(value.numel() for name, value in saved["state_dict"].items() if not name.startswith("hits"))
    assert numbers == toy.WIDTH * 2 + 2
    assert "hyper_parameters" not in saved
    assert all(not any(p is q for q in module.parameters()) for p in module.teacher.model.parameters())  # type: ignore[union-attr]


def draws(folder: Path, seed: int, noise: int, **options: Any) -> list[float]:
    """What the steps of a training drew, after ``noise`` numbers drawn by others before it."""
    spy = toy.Spy()
    torch.rand(noise)
    fit(toy.technique(Task(), transform=spy, seed=seed), folder, **options)
    return spy.draws


def test_a_steps_randomness_depends_on_seed_and_step_only(tmp_path: Path) -> None:
    first = draws(tmp_path, seed=1, noise=0)
    assert draws(tmp_path, seed=1, noise=5, max_epochs=2, limit_val_batches=2)[: len(first)] == first
    assert len(set(first)) == toy.BATCHES
    assert not set(draws(tmp_path, seed=2, noise=0)) & set(first)


@pytest.mark.parametrize("seed", [0, 1, 2**31, 2**40])
def test_seeds_of_steps_differ_where_the_generator_looks(seed: int) -> None:
    """On the CPU it reads the lower 32 bits only."""
    seeds = [step_seed(seed, step) for step in range(100)] + [step_seed(seed + 1, step) for step in range(100)]
    assert len({number % 2**32 for number in seeds}) == 200
    assert all(0 <= number < 2**64 for number in seeds)


def test_epochs_do_not_repeat_their_randomness(tmp_path: Path) -> None:
    assert len(set(draws(tmp_path, seed=1, noise=0, max_epochs=3))) == 3 * toy.BATCHES


def test_accumulated_batches_do_not_share_their_randomness(tmp_path: Path) -> None:
    assert len(set(draws(tmp_path, seed=1, noise=0, accumulate_grad_batches=3))) == toy.BATCHES


def test_progress_runs_from_zero_to_one(tmp_path: Path) -> None:
    spy = toy.Spy()
    module = toy.technique(Task(), transform=spy, steps=2 * toy.BATCHES)
    fit(module, tmp_path, max_epochs=2)
    np.testing.assert_allclose(spy.progress, np.arange(2 * toy.BATCHES) / (2 * toy.BATCHES))
    assert module.progress == 1.0


@pytest.mark.parametrize(("precision", "fused"), [("32-true", True), ("bf16-mixed", True), ("16-mixed", False)])
def test_fp16_is_not_fused(precision: str, fused: bool) -> None:
    """A fused step divides fp16 gradients by their scale after they would have been clipped."""
    module = toy.technique(Task(), optimizer=OptimizerConfig(name="adamw"))
    module.trainer = SimpleNamespace(precision=precision)  # type: ignore[assignment]
    made: Any = module.configure_optimizers()
    assert bool(made["optimizer"].defaults["fused"]) is fused
    assert made["lr_scheduler"]["interval"] == "step"


@pytest.mark.parametrize("limit", [0.5, 100.0, None])
def test_gradients_are_clipped_by_their_joint_norm(limit: float | None) -> None:
    module = toy.technique(Task())
    gradients = [torch.full_like(p, 2.0) for p in module.parameters()]
    for parameter, gradient in zip(module.parameters(), gradients, strict=True):
        parameter.grad = gradient.clone()
    module.configure_gradient_clipping(torch.optim.SGD(module.parameters()), limit)
    norm = np.sqrt(sum(float((g.double() ** 2).sum()) for g in gradients))
    wanted = norm if limit is None else min(norm, limit)
    found = np.sqrt(sum(float((p.grad.double() ** 2).sum()) for p in module.parameters() if p.grad is not None))
    assert found == pytest.approx(wanted, rel=1e-5)


def test_learned_helpers_train_too(tmp_path: Path) -> None:
    class Wide(toy.Toy):
        width = toy.WIDTH + 2

        def forward(self, batch: Any) -> Any:
            output = super().forward(batch)
            output.hidden_states = tuple(torch.nn.functional.pad(h, (0, 2)) for h in output.hidden_states or ())
            return output

    module = distilling(Wide(seed=7), hidden=1.0)
    before = {name: p.clone() for name, p in module.objective.named_parameters()}
    assert before
    fit(module, tmp_path)
    assert all(not torch.equal(before[name], p) for name, p in module.objective.named_parameters())


def test_accuracy_of_a_test_is_that_of_the_predictions(tmp_path: Path) -> None:
    module = toy.technique(Task())
    trainer = toy.trainer(tmp_path)
    with toy.known_warnings():
        (result,) = trainer.test(module, toy.loader(3, seed=5), verbose=False)
    weight, bias = module.model.head.weight.detach().numpy(), module.model.head.bias.detach().numpy()  # type: ignore[union-attr]
    right = [(b["x"].numpy() @ weight.T + bias).argmax(1) == b["labels"].numpy() for b in toy.batches(3, seed=5)]
    assert result["toy/test/accuracy"] == pytest.approx(np.concatenate(right).mean())


def test_pruned_weights_stay_zero_whatever_the_optimizer_does(tmp_path: Path) -> None:
    """After every step, and so in every validation and every checkpoint."""

    class Zeros(Callback):
        def __init__(self) -> None:
            self.seen: list[bool] = []

        def on_train_batch_end(self, trainer: Any, module: Any, *rest: Any) -> None:
            self.seen.append(bool((module.model.head.weight == 0).equal(gone)))

    student, zeros = toy.Toy(), Zeros()
    gone = torch.tensor([[True, False, False, True], [False, True, False, False]])
    student.masks = Masks({"head.weight": gone})
    student.masks.apply(student)
    before = student.head.weight.detach().clone()
    fit(toy.technique(Task(), student), tmp_path, zeros)
    assert zeros.seen == [True] * toy.BATCHES
    assert not (student.head.weight == before)[~gone].any()


class Remembering(Transform):
    """Sums up gradients; final after half of the training."""

    final_from = 0.5

    def __init__(self) -> None:
        self.total, self.restored = torch.zeros(2, toy.WIDTH), 0

    def gradients(self, model: Any) -> None:
        self.total += model.head.weight.grad

    def state(self) -> dict[str, Any]:
        return {"total": self.total}

    def restore(self, model: Any, state: Any) -> None:
        self.total, self.restored = state["total"], self.restored + 1


def test_a_transform_sees_gradients_and_continues_from_its_state(tmp_path: Path) -> None:
    first, second = Remembering(), Remembering()
    trainer = fit(toy.technique(Task(), transform=first), tmp_path)
    trainer.save_checkpoint(tmp_path / "all.ckpt")
    trainer.save_checkpoint(tmp_path / "weights.ckpt", weights_only=True)
    assert first.total.abs().sum() > 0
    assert "transform" not in torch.load(tmp_path / "weights.ckpt", weights_only=True)
    module = toy.technique(Task(), transform=second)
    with toy.known_warnings():
        toy.trainer(tmp_path, max_epochs=2).fit(
            module, toy.loader(), ckpt_path=tmp_path / "all.ckpt", weights_only=True
        )
    assert second.restored == 1
    assert not torch.equal(first.total, second.total)


def test_the_structure_is_final_when_a_step_says_so(tmp_path: Path) -> None:
    """Not one step earlier: a validation after step 2 of 4 sees what step 1, at a quarter, left."""

    class Look(Callback):
        def __init__(self) -> None:
            self.seen: list[bool] = []

        def on_train_batch_end(self, trainer: Any, module: Any, *rest: Any) -> None:
            self.seen.append(module.is_final)

    look = Look()
    fit(toy.technique(Task(), transform=Remembering(), steps=4), tmp_path, look, limit_train_batches=4)
    assert look.seen == [False, False, True, True]
    assert toy.technique(Task()).is_final
