"""A dual encoder in training: `Technique` under Lightning, with and without a teacher, and what it is scored on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from torch.nn import functional as F

from modelpress import evaluation
from modelpress.diagnostics import diagnose
from modelpress.objectives.distill import Distillation
from modelpress.objectives.task import Task
from modelpress.optimizer import OptimizerConfig
from modelpress.quantization.sensitivity import answers
from modelpress.teacher import Teacher
from modelpress.technique import Technique
from tests import toy
from tests.pairs import BATCH, CONCEPTS, HELD_OUT, Pair, PairData, texts_of

EPOCHS, LR = 60, 0.05
CHANCE = 1 / HELD_OUT
WEIGHTS = {"hard": 0.5, "soft": 0.5, "hidden": 1.0, "interactive": 0.5, "affinity": 0.5}


class Record(Callback):
    """The losses of every step, and the recall of every validation."""

    def __init__(self) -> None:
        self.losses: list[dict[str, float]] = []
        self.recalls: list[float] = []

    def on_train_batch_end(self, trainer: Any, *rest: Any) -> None:
        self.losses.append({k.rpartition("/")[2]: float(v) for k, v in trainer.callback_metrics.items() if "/tr" in k})

    def on_validation_end(self, trainer: Any, module: Any) -> None:
        self.recalls.append(float(trainer.callback_metrics["pair/validation/recall_at_1"]))


def fit(objective: Any, folder: Path, student: Pair, teacher: Teacher | None = None, epochs: int = EPOCHS) -> Record:
    record, steps = Record(), epochs * -(-CONCEPTS // BATCH)
    objective.bind(student, teacher.model if teacher else None)
    module = Technique(
        student,
        objective,
        toy.Transform(),
        OptimizerConfig(lr=LR),
        stage="pair",
        seed=1,
        steps=steps,
        teacher=teacher,
        metric=PairData.metric,
    )
    trainer = toy.trainer(folder, record, max_epochs=epochs, check_val_every_n_epoch=epochs // 2)
    with toy.known_warnings():
        trainer.fit(module, datamodule=PairData())
    return record


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Pair, Record]:
    """Trained without a teacher; change nothing."""
    student = Pair()
    return student, fit(Task(), tmp_path_factory.mktemp("task"), student)


def test_training_brings_images_and_texts_together(trained: tuple[Pair, Record]) -> None:
    _, record = trained
    losses = [step["loss"] for step in record.losses]
    assert len(losses) == EPOCHS * 2
    assert np.mean(losses[-4:]) < 0.5 * np.mean(losses[:4])
    assert record.recalls[-1] > 2 * CHANCE  # of concepts that training did not see


def test_a_teacher_teaches(trained: tuple[Pair, Record], tmp_path: Path) -> None:
    teacher = Teacher(trained[0], cache=tmp_path / "cache", key="pair", items=CONCEPTS)
    student = Pair(width=6, seed=5)
    record = fit(Distillation(WEIGHTS), tmp_path, student, teacher, epochs=30)
    first, last = record.losses[0], record.losses[-1]
    assert first.keys() == {*WEIGHTS, "loss"}
    for step in record.losses:
        assert step["loss"] == pytest.approx(sum(weight * step[part] for part, weight in WEIGHTS.items()), rel=1e-5)
    assert last["loss"] < 0.6 * first["loss"]
    assert record.recalls[-1] > 2 * CHANCE
    assert teacher.computed == 2  # batches of the first epoch; later ones are read
    assert trained[0].answered == 2  # by its own training: nobody asks a teacher in training


def right(model: Pair, split: str) -> float:
    """Recall by hand: the nearest of the split's texts."""
    texts = F.normalize(model.words(texts_of(torch.arange(HELD_OUT), split)).mean(1), dim=-1)
    hits = []
    for batch in PairData().eval_dataloader(split):
        images = F.normalize(model.image(batch["pixel_values"].flatten(1)), dim=-1)
        hits += ((images @ texts.T).argmax(1) == batch["labels"]).tolist()
    return float(np.mean(hits))


def test_validation_and_test_ask_for_their_own_texts(trained: tuple[Pair, Record], tmp_path: Path) -> None:
    model, record = trained
    assert record.recalls[-1] == pytest.approx(right(model, "validation"))
    assert evaluation.accuracy(model, PairData()) == pytest.approx(right(model, "validation"))
    module = toy.technique(Task(), model, metric=PairData.metric)
    with toy.known_warnings():
        (result,) = toy.trainer(tmp_path).test(module, datamodule=PairData(), verbose=False)
    assert result["toy/test/recall_at_1"] == pytest.approx(right(model, "test"))
    assert "toy/test/accuracy" not in result


def test_diagnostics_compare_on_the_texts_of_each_split(trained: tuple[Pair, Record]) -> None:
    student, data = Pair(width=6, seed=5), PairData()
    members = [(student, data), (trained[0], PairData())]
    train, validation = (evaluation.predictions(members, split) for split in ("train", "validation"))
    assert train.student.shape == train.teacher.shape == (2 * CONCEPTS, CONCEPTS)
    assert validation.student.shape == (2 * HELD_OUT, HELD_OUT)
    found = {line["name"]: line for line in diagnose(train, validation)}
    accuracy = found["teacher_worse"]["details"]["teacher_accuracy"]
    assert accuracy == pytest.approx(right(trained[0], "validation"))
    few = evaluation.predictions(members, "train", every=2)
    assert 0 < len(few.labels) < 2 * CONCEPTS


def test_a_choice_of_numbers_is_judged_by_texts_encoded_with_them(trained: tuple[Pair, Record]) -> None:
    """As mixed precision does it: the text tower changes between two looks at the validation split."""
    model, batches = trained[0], evaluation.questions(trained[0], PairData(), "validation")
    found = answers(model, batches)
    assert found.accuracy == pytest.approx(right(model, "validation"))
    assert found.logits.shape == (2 * HELD_OUT, HELD_OUT)
    with torch.no_grad():
        model.words.weight.neg_()
        try:
            torch.testing.assert_close(answers(model, batches).logits, -found.logits)
        finally:
            model.words.weight.neg_()


def test_a_student_and_a_teacher_on_different_items_are_noticed(trained: tuple[Pair, Record]) -> None:
    class Other(PairData):
        def eval_dataloader(self, split: str) -> Any:
            return super().eval_dataloader("train")

    with pytest.raises(AssertionError, match="different items"):
        evaluation.predictions([(trained[0], PairData()), (trained[0], Other())], "validation")
