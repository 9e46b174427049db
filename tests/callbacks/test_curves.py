"""What a stage's curves file holds, also after it was interrupted."""

from __future__ import annotations

import json
import math
from pathlib import Path

import tests.toy as toy
from modelpress.callbacks.curves import Curves
from modelpress.callbacks.resume import FILE as CHECKPOINT
from modelpress.callbacks.resume import Resume
from modelpress.curves import FILE, read
from modelpress.objectives.task import Task


def fit(folder: Path, ckpt_path: Path | None = None, **options: object) -> list[tuple[int, list[str]]]:
    """Step and names of the metrics of every line."""
    trainer = toy.trainer(folder, Resume(folder, 0.0), Curves(folder), **options)
    with toy.known_warnings():
        trainer.fit(toy.technique(Task()), toy.loader(), toy.loader(2, seed=9), ckpt_path=ckpt_path, weights_only=True)
    return lines(folder)


def lines(folder: Path) -> list[tuple[int, list[str]]]:
    return [(row["step"], sorted(row["metrics"])) for row in read(folder / FILE)]


TRAIN = ["toy/lr", "toy/train/hard", "toy/train/loss"]
VALIDATION = ["toy/validation/accuracy", "toy/validation/loss"]


def test_a_line_per_logging_interval_and_per_validation(tmp_path: Path) -> None:
    found = fit(tmp_path, max_epochs=2, log_every_n_steps=3)
    assert found == [(3, TRAIN), (6, TRAIN), (6, VALIDATION), (9, TRAIN), (12, TRAIN), (12, VALIDATION)]
    values = [value for row in read(tmp_path / FILE) for value in row["metrics"].values()]
    assert all(math.isfinite(value) for value in values)


def test_the_sanity_check_is_no_validation(tmp_path: Path) -> None:
    found = fit(tmp_path, num_sanity_val_steps=1, log_every_n_steps=6)
    assert found == [(6, TRAIN), (6, VALIDATION)]


def test_a_new_training_begins_a_new_file(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(json.dumps({"step": 1, "metrics": {"old/train/loss": 9.0}}) + "\n")
    assert all("old/train/loss" not in names for _, names in fit(tmp_path))


def test_a_resumed_training_drops_what_it_does_again(tmp_path: Path) -> None:
    whole = fit(tmp_path)
    with (tmp_path / FILE).open("a") as file:
        file.write('{"step": 99, "metrics": {"toy/train/loss": 0.0}}\n{"step": 1')
    assert fit(tmp_path, ckpt_path=tmp_path / CHECKPOINT) == whole
