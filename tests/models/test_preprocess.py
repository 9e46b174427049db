from __future__ import annotations

import json
from pathlib import Path

import pytest

from modelpress.errors import ModelPressError
from modelpress.models import preprocess
from tests import tinyclip


def test_settings_of_an_architecture() -> None:
    made = preprocess.settings(tinyclip.config({"image_size": [32, 48]}), {"mean": None, "std": [0.5, 0.5, 0.5]})
    assert made == {
        "size": [32, 48],
        "mean": preprocess.OPENAI["mean"],
        "std": [0.5, 0.5, 0.5],
        "interpolation": "bicubic",
        "resize_mode": "shortest",
        "context_length": 12,
        "pad": False,
    }


@pytest.mark.parametrize(
    ("text", "padded"),
    [
        ({}, False),
        ({"pool_type": "eos"}, False),
        ({"pool_type": "last"}, True),
        ({"no_causal_mask": True}, True),
        ({"embed_cls": True}, True),
        ({"hf_model_name": "x", "pool_type": "last"}, False),
    ],
)
def test_padding_is_needed_where_the_tower_sees_it(text: dict[str, object], padded: bool) -> None:
    assert preprocess.is_padded(text) is padded


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"interpolation": "cubic"}, "interpolation is 'cubic'; allowed.*Did you mean 'bicubic'"),
        ({"mean": [0.5]}, "three numbers"),
        ({"std": [0.5, 0.5, 0.0]}, "three numbers"),
        ({"men": [1, 1, 1]}, "Did you mean 'mean'"),
    ],
)
def test_values_that_are_not_allowed(chosen: dict[str, object], message: str) -> None:
    with pytest.raises(ModelPressError, match=message):
        preprocess.settings(tinyclip.CONFIG, chosen)


def test_the_folder_is_made_once_and_named_by_its_content(tmp_path: Path) -> None:
    tokenizer = str(tinyclip.write_tokenizer(tmp_path / "tokenizer"))
    made = preprocess.assemble(tinyclip.CONFIG, {}, tokenizer, tmp_path / "cache")
    stamp = (made / "tokenizer.json").stat().st_mtime_ns
    assert preprocess.assemble(tinyclip.CONFIG, {}, tokenizer, tmp_path / "cache") == made
    assert (made / "tokenizer.json").stat().st_mtime_ns == stamp
    assert preprocess.assemble(tinyclip.config({"image_size": 64}), {}, tokenizer, tmp_path / "cache") != made
    assert json.loads((made / preprocess.FILE).read_text())["size"] == [32, 32]
    assert sorted(path.name for path in (tmp_path / "cache").iterdir() if path.name.startswith(".")) == []
    preprocess.copy_preprocessor(made, made)
    (tmp_path / "copy").mkdir()
    preprocess.copy_preprocessor(made, tmp_path / "copy")
    assert (tmp_path / "copy" / preprocess.FILE).read_text() == (made / preprocess.FILE).read_text()


def test_a_folder_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelPressError, match="no tokenizer"):
        preprocess.assemble(tinyclip.CONFIG, {}, str(tmp_path), tmp_path / "cache")
    (tmp_path / "vocab.txt").write_text("a\n")
    with pytest.raises(ModelPressError, match="has no tokenizer.json"):
        preprocess.assemble(tinyclip.CONFIG, {}, str(tmp_path), tmp_path / "cache")
