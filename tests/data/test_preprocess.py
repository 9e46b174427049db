from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from modelpress.data import preprocess
from modelpress.errors import ModelPressError
from tests.data.pictures import MEAN, STD, write_preprocessor


def test_what_the_file_says(tmp_path: Path) -> None:
    found = preprocess.read(write_preprocessor(tmp_path, context_length=77, pad=True, tokenizer_class="CLIP"))
    assert (found.size, found.mean, found.std) == ((8, 8), MEAN, STD)
    assert (found.interpolation, found.resize_mode, found.crop_pct) == ("bicubic", "shortest", 1.0)
    assert (found.context_length, found.pad, found.attention_mask) == (77, True, False)
    assert preprocess.read(write_preprocessor(tmp_path, attention_mask=True)).attention_mask


def test_only_what_changes_pixels_is_in_their_key(tmp_path: Path) -> None:
    def pixels(**options: Any) -> list[object]:
        return preprocess.read(write_preprocessor(tmp_path, **options)).pixels()

    assert pixels() == pixels(mean=[0, 0, 0], context_length=5)
    assert len({json.dumps(pixels(**o)) for o in ({}, {"size": [9, 8]}, {"resize_mode": "squash"})}) == 3


def test_a_folder_without_the_file(tmp_path: Path) -> None:
    with pytest.raises(ModelPressError, match=r"no preprocess.json in .*reads no images; choose model=clip_tiny"):
        preprocess.read(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": [8]}, "not enough values"),
        ({"size": [0, 8]}, "sizes must be at least 1"),
        ({"std": [1, 0, 1]}, "std above 0"),
        ({"mean": None}, "expected"),
        ({"resize_mode": "shorttest"}, r"resize_mode is 'shorttest'; allowed: .*Did you mean 'shortest'"),
        ({"interpolation": "nearest"}, "interpolation is 'nearest'; allowed: 'bicubic', 'bilinear'"),
    ],
)
def test_wrong_values(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelPressError, match=message):
        preprocess.read(write_preprocessor(tmp_path, **change))


@pytest.mark.parametrize("text", ["{", "{}", "[]"])
def test_a_file_that_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "preprocess.json").write_text(text)
    with pytest.raises(ModelPressError, match=r'preprocess.json: .*; expected {"size"'):
        preprocess.read(tmp_path)
