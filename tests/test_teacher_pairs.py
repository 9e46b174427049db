"""A dual encoder as teacher: its embeddings on disk, per augmented view, and inputs of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from modelpress.models.base import Batch, Output
from modelpress.objectives.distill import Distillation
from modelpress.teacher import Teacher
from tests.pairs import CONCEPTS, Pair, batch_of

VIEWS = 2
PARTS = ("hard", "soft", "hidden", "cosine", "interactive", "affinity")


def item_batch(rows: Tensor, view: int) -> dict[str, Tensor]:
    """Training rows in one of their augmented views."""
    batch = batch_of(rows, "train")
    return {**batch, "pixel_values": batch["pixel_values"] + view, "item": rows + view * CONCEPTS}


def batches(seed: int) -> Iterator[dict[str, Tensor]]:
    order = torch.randperm(CONCEPTS, generator=torch.Generator().manual_seed(seed))
    for view in range(VIEWS):
        for rows in order.split(5):
            yield item_batch(rows, view)


def cached(folder: Path, **options: Any) -> Teacher:
    return Teacher(Pair(), cache=folder, **{"key": "pair", "items": VIEWS * CONCEPTS, **options})


def assert_same(found: Output, expected: Output) -> None:
    assert found.embeddings is not None
    assert expected.embeddings is not None
    assert found.embeddings.keys() == {"image", "text"}
    for tower, embeddings in found.embeddings.items():
        assert embeddings.dtype == torch.float32
        assert torch.equal(embeddings, expected.embeddings[tower].float())
    assert found.scale is not None
    assert expected.scale is not None
    assert torch.equal(found.scale, expected.scale.float())


def test_every_view_is_computed_once_and_read_after(tmp_path: Path) -> None:
    teacher, plain = cached(tmp_path), Teacher(Pair())
    first = [teacher(batch) for batch in batches(seed=1)]
    assert teacher.computed == 6
    for batch, answer in zip(batches(seed=1), first, strict=True):
        assert_same(answer, plain(batch))
    teacher.close()
    again = cached(tmp_path)
    for batch in batches(seed=2):  # another order, another process
        assert_close(again(batch), plain(batch))
    assert again.computed == 0


def assert_close(found: Output, expected: Output) -> None:
    for tower, embeddings in (found.embeddings or {}).items():
        torch.testing.assert_close(embeddings, (expected.embeddings or {})[tower], rtol=1e-6, atol=1e-6)


def test_bytes_on_disk_are_two_embeddings_and_a_scale(tmp_path: Path) -> None:
    teacher = cached(tmp_path)
    for batch in batches(seed=1):
        teacher(batch)
    teacher.close()
    (data,) = tmp_path.glob("*_embeddings.data")
    assert data.stat().st_size == VIEWS * CONCEPTS * 4 * (8 + 8 + 1)


def test_every_part_of_the_loss_from_the_cache_is_the_part_computed_anew(tmp_path: Path) -> None:
    student, teacher, plain = Pair(6, seed=3), cached(tmp_path), Teacher(Pair())
    objective = Distillation(dict.fromkeys(PARTS, 1.0))
    objective.bind(student, teacher.model)
    for _ in range(2):
        for batch in batches(seed=4):
            losses = [objective(student(batch), batch, each(batch), 0.0) for each in (teacher, plain)]
            assert losses[0].keys() == set(PARTS)
            for part in PARTS:
                torch.testing.assert_close(losses[0][part], losses[1][part], rtol=1e-5, atol=1e-6)
    assert teacher.computed == 6


def test_the_filling_pass_returns_the_rounded_numbers_too(tmp_path: Path) -> None:
    """Under autocast the network answers in bf16, the cache in float32: the same numbers, from the first pass on."""
    teacher, plain = cached(tmp_path), Teacher(Pair())
    batch = item_batch(torch.arange(4), view=0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        passes = [teacher(batch), teacher(batch)]
        expected = plain(batch)
    assert teacher.computed == 1
    assert_same(passes[0], passes[1])
    assert_same(passes[0], expected)


def test_without_item_the_index_counts(tmp_path: Path) -> None:
    teacher = cached(tmp_path, items=CONCEPTS)
    batch = batch_of(torch.tensor([4, 1]), "train")
    for _ in range(2):
        teacher(batch)
    assert teacher.computed == 1


@pytest.mark.parametrize("changed", ["pixel_values", "input_ids"])
def test_another_input_under_a_known_number_is_computed(tmp_path: Path, changed: str) -> None:
    teacher, plain = cached(tmp_path), Teacher(Pair())
    batch = item_batch(torch.arange(4), view=0)
    teacher(batch)
    other = {**batch, changed: batch[changed] + (1 if changed == "pixel_values" else 0)}
    other[changed][2].fill_(7)
    for _ in range(2):
        assert_same(teacher(other), plain(other))
    assert teacher.computed == 3


def test_padding_is_no_part_of_a_text(tmp_path: Path) -> None:
    teacher = cached(tmp_path)
    batch = item_batch(torch.arange(4), view=0)
    batch["attention_mask"] = torch.ones_like(batch["input_ids"])
    teacher(batch)
    longer = {name: F.pad(batch[name], (0, 3)) for name in ("input_ids", "attention_mask")}
    teacher({**batch, **longer})
    assert teacher.computed == 1


class Wants(Pair):
    """Remembers what it was shown."""

    def forward(self, batch: Batch) -> Output:
        self.shown = dict(batch)
        return super().forward(batch)


def test_a_teacher_reads_inputs_of_its_own_where_the_batch_has_them(tmp_path: Path) -> None:
    model = Wants()
    teacher = Teacher(model, cache=tmp_path, key="pair", items=VIEWS * CONCEPTS)
    batch = item_batch(torch.arange(4), view=1)
    own = {"teacher/pixel_values": batch["pixel_values"] * 2, "teacher/input_ids": batch["input_ids"]}
    teacher({**batch, "attention_mask": torch.ones_like(batch["input_ids"]), **own})
    assert model.shown.keys() == {"pixel_values", "input_ids", "labels", "index", "item"}
    assert torch.equal(model.shown["pixel_values"], own["teacher/pixel_values"])
    teacher(batch)  # the same numbers, other pixels
    assert teacher.computed == 2
    teacher({**batch, **own})
    assert teacher.computed == 2


def test_texts_without_a_mask_and_pairs_without_a_number_are_computed(tmp_path: Path) -> None:
    teacher = cached(tmp_path)
    batch = item_batch(torch.arange(4), view=0)
    for gone in (("pixel_values",), ("index", "item")):
        kept = {name: tensor for name, tensor in batch.items() if name not in gone}
        for _ in range(2):
            teacher(kept)
    assert teacher.computed == 4
    assert not list(tmp_path.iterdir())


def test_what_has_one_tower_only_is_not_kept(tmp_path: Path) -> None:
    teacher = cached(tmp_path)
    images = {name: tensor for name, tensor in item_batch(torch.arange(4), 0).items() if name != "input_ids"}
    for _ in range(2):
        found = teacher(images)
        assert (found.embeddings or {}).keys() == {"image"}
    assert teacher.computed == 2
