"""Captions lose words at random, the same ones whenever they are asked for, and other ones in another view."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from modelpress.data.image_text import ImageText
from modelpress.data.thin import thinned
from tests import tinyclip
from tests.data.pictures import write_captions, write_preprocessor

LONG = " ".join(f"word{i}" for i in range(20_000))


def test_the_share_is_kept_and_so_is_the_order() -> None:
    found = thinned([LONG], 0.4, seed=0, view=0)[0].split()
    assert len(found) / 20_000 == pytest.approx(0.6, abs=0.02)
    assert found == sorted(found, key=lambda word: int(word[4:]))


def test_the_same_view_is_the_same_and_another_is_not() -> None:
    texts = ["one two three four five six seven eight"] * 8
    assert thinned(texts, 0.5, seed=3, view=1) == thinned(texts, 0.5, seed=3, view=1)
    assert thinned(texts, 0.5, seed=3, view=1) != thinned(texts, 0.5, seed=3, view=2)
    assert thinned(texts, 0.5, seed=3, view=1) != thinned(texts, 0.5, seed=4, view=1)
    assert len(set(thinned(texts, 0.5, seed=3, view=1))) > 1


def test_one_word_always_stays() -> None:
    assert thinned(["cow", "red apple", ""], 1.0, seed=0, view=0)[0] == "cow"
    assert thinned(["red apple"] * 50, 1.0, seed=0, view=0).count("") == 0
    assert thinned([""], 0.5, seed=0, view=0) == [""]


def test_nothing_is_left_out_of_nothing() -> None:
    assert thinned(["a b c"], 0.0, seed=0, view=0) == ["a b c"]


@pytest.fixture
def world(tmp_path: Path) -> Path:
    write_captions(tmp_path)
    write_preprocessor(tmp_path / "student", tinyclip.write_tokenizer(tmp_path / "tokenizer"))
    return tmp_path


def module(world: Path, **options: Any) -> Any:
    dataset = ImageText(str(world / "captions.csv"), batch_size=8, views=2, **options)
    return dataset.datamodule(world / "student", seed=1, cache=world / "cache", teacher=None)


def by_item(data: Any, epoch: int) -> dict[int, list[int]]:
    loader = data.train_dataloader()
    loader.sampler.set_epoch(epoch)
    pad = data.tokenizer.pad_id
    return {
        int(item): [i for i in ids.tolist() if i != pad]
        for batch in loader
        for item, ids in zip(batch["item"], batch["input_ids"], strict=True)
    }


def test_training_sees_thinned_captions_and_evaluation_whole_ones(world: Path) -> None:
    whole, thin = module(world), module(world, word_dropout=0.5)
    rows = len(whole.rows("train", pairs=True))
    first, second, again = (by_item(thin, epoch) for epoch in (0, 1, 2))
    assert set(first) == set(again) <= set(range(rows))
    assert {item - rows for item in second} <= set(range(rows))
    assert first == again
    assert any(second[item + rows] != ids for item, ids in first.items() if item + rows in second)
    complete = by_item(whole, 0)
    assert all(len(ids) <= len(complete[item]) for item, ids in first.items())
    assert sum(map(len, first.values())) < sum(map(len, complete.values()))
    for ours, theirs in zip(thin.prompts("test"), whole.prompts("test"), strict=True):
        assert torch.equal(ours["input_ids"], theirs["input_ids"])


def test_another_share_is_another_fingerprint(world: Path) -> None:
    assert module(world).dataset.fingerprint() != module(world, word_dropout=0.5).dataset.fingerprint()
