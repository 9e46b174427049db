"""A teacher that wants other inputs than its student sees the same views of the same items in one batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from modelpress.data.image_text import ImageText
from tests import tinyclip
from tests.data.pictures import write_captions, write_preprocessor

AUGMENTED = {"crop": 0.4, "flip": True, "jitter": 0.3, "views": 2, "batch_size": 8}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Captioned pictures, and the preprocessors of a student and of two teachers."""
    root = tmp_path_factory.mktemp("taught")
    write_captions(root)
    tokenizer = tinyclip.write_tokenizer(root / "tokenizer")
    write_preprocessor(root / "student", tokenizer)
    write_preprocessor(root / "alike", tokenizer, note="of no concern")
    write_preprocessor(root / "teacher", tokenizer, size=[12, 16], mean=[0, 0, 0], context_length=6, pad=True)
    return root


def data(world: Path, preprocessor: str, teacher: str | None = None) -> Any:
    dataset = ImageText(str(world / "captions.csv"), **AUGMENTED)
    folder = world / teacher if teacher else None
    return dataset.datamodule(world / preprocessor, seed=1, cache=world / "cache", teacher=folder)


def epoch(module: Any, number: int) -> list[dict[str, torch.Tensor]]:
    loader = module.train_dataloader()
    loader.sampler.set_epoch(number)
    return list(loader)


@pytest.mark.parametrize("number", [0, 1])
def test_the_teachers_inputs_are_those_that_it_would_see_alone(world: Path, number: int) -> None:
    both, student, teacher = (
        epoch(data(world, *names), number) for names in (("student", "teacher"), ("student",), ("teacher",))
    )
    assert len(both) == len(student) > 3
    for batch, own, other in zip(both, student, teacher, strict=True):
        assert {name for name in batch if "/" not in name} == own.keys()
        assert all(torch.equal(batch[name], own[name]) for name in own)
        assert {name.removeprefix("teacher/") for name in batch if "/" in name} == {"pixel_values", "input_ids"}
        assert torch.equal(batch["item"], other["item"])
        assert batch["teacher/pixel_values"].shape[1:] == (3, 12, 16)
        assert torch.equal(batch["teacher/pixel_values"], other["pixel_values"])
        assert batch["teacher/input_ids"].shape[1] == 6
        assert torch.equal(batch["teacher/input_ids"], other["input_ids"])


def test_evaluation_is_the_students_own(world: Path) -> None:
    module = data(world, "student", "teacher")
    for batch in module.val_dataloader():
        assert not [name for name in batch if "/" in name]
    assert not [name for batch in module.calibration(2) for name in batch if "/" in name]


def test_a_teacher_that_wants_the_same_looks_at_the_same(world: Path) -> None:
    assert data(world, "student", "alike").teacher is None
    assert not [name for batch in epoch(data(world, "student", "alike"), 0) for name in batch if "/" in name]


def test_an_item_is_the_same_in_whatever_batch(world: Path) -> None:
    """To the last bit: the teacher's cache carries checksums of pixels."""
    seen: dict[int, np.ndarray] = {}
    again = 0
    for number in (0, 2):  # the same view, other batches
        for batch in epoch(data(world, "student"), number):
            for item, pixels in zip(batch["item"].tolist(), batch["pixel_values"].numpy(), strict=True):
                again += item in seen
                np.testing.assert_array_equal(seen.setdefault(item, pixels), pixels)
    assert again == len(seen) > 20
