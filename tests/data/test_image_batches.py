from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import torch

from modelpress.data.image_batches import ImageItems, tokenized
from modelpress.data.image_dataset import Rows
from modelpress.data.tokenizer import TextTokenizer
from modelpress.errors import ModelPressError
from tests.data.pictures import MEAN, STD, noise, wanted

TEXTS = ["a good film", "the plot is very very dull", "one"]


def test_texts_are_padded_to_their_batch_or_to_the_context(tokenizer_folder: Path) -> None:
    tokenizer = TextTokenizer(tokenizer_folder)
    own = tokenized(TEXTS, tokenizer, wanted(context_length=12, attention_mask=True), strict=True)
    whole = tokenized(TEXTS, tokenizer, wanted(context_length=12, pad=True), strict=True)
    numbers = np.array([0, 2])
    assert own.arrays(numbers)["input_ids"].shape == (2, 5)
    assert own.arrays(numbers, multiple=8)["input_ids"].shape == (2, 8)
    assert own.arrays(numbers)["attention_mask"].tolist() == [[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]
    assert own.lengths(numbers).tolist() == [5, 3]
    assert list(whole.arrays(numbers)) == ["input_ids"]
    assert whole.arrays(numbers)["input_ids"][1].tolist() == [*tokenizer.encode(["one"]).item(0)[0], *[3] * 9]
    assert whole.lengths(numbers).tolist() == [12, 12]


def test_long_captions_are_cut_with_a_warning_or_refused(
    tokenizer_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tokenizer, options = TextTokenizer(tokenizer_folder), wanted(context_length=5)
    with caplog.at_level(logging.WARNING):
        found = tokenized(TEXTS, tokenizer, options, strict=False)
    assert found.lengths(np.arange(3)).tolist() == [5, 5, 3]
    assert found.arrays(np.array([1]))["input_ids"][0, -1] == 2  # the end is kept
    assert "1 of 3 captions are longer than the 5 tokens that the model reads and were cut" in caplog.text
    with pytest.raises(
        ModelPressError, match="1 captions are longer than the 5 .* has 8: 'the plot is very very dull'"
    ):
        tokenized(TEXTS, tokenizer, options, strict=True)
    with pytest.raises(ModelPressError, match="says no context_length"):
        tokenized(TEXTS, tokenizer, wanted(), strict=True)


def test_pixels_are_scaled_and_normalised_per_channel() -> None:
    table = np.stack([noise(8, 8, i) for i in range(3)])
    rows = Rows(np.array([2, 0]), np.array([0, 0]), np.array([1, 0]))
    batch = ImageItems(table, rows, wanted())[np.array([1, 0])]
    reference = ((table[[0, 2]] / 255 - np.array(MEAN)) / np.array(STD)).transpose(0, 3, 1, 2)
    assert np.allclose(batch["pixel_values"].numpy(), reference, atol=1e-6)
    assert batch["pixel_values"].is_contiguous()
    assert batch["pixel_values"].dtype == torch.float32
    assert {name: batch[name].tolist() for name in ("labels", "index", "item")} == {
        "labels": [0, 1], "index": [1, 0], "item": [1, 0]
    }  # fmt: skip
