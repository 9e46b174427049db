from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from modelpress.errors import ModelPressError
from modelpress.models.base import load, save
from modelpress.models.classifier import TextClassifier
from modelpress.pruning.shapes import LayerShape, Shape
from modelpress.pruning.structure import shape_of, shrink
from tests.models.conftest import classifier, tokenizer_folder
from tests.pruning.encoders import FAMILIES, UNEVEN, encoder

__all__ = ["classifier", "tokenizer_folder"]
PLAIN = Shape(12, (LayerShape(2, 6, 32),) * 3)


def saved(model_type: str, shape: Shape, tokenizer: Path, folder: Path) -> TextClassifier:
    model = shrink(encoder(model_type, tokenizer), shape).eval()
    save(model, folder)
    return model


def test_a_record_is_json_and_comes_back() -> None:
    record = json.loads(json.dumps(UNEVEN.record()))
    assert record["layers"][0] == {"heads": 1, "head_width": 6, "neurons": 16}
    assert Shape.of(record) == UNEVEN
    assert hash(Shape.of(record)) == hash(UNEVEN)


def test_what_a_config_can_say() -> None:
    assert PLAIN.plain
    assert not UNEVEN.uniform
    narrow = Shape(24, (LayerShape(2, 6, 32),) * 3)
    assert narrow.uniform
    assert not narrow.plain


@pytest.mark.parametrize("model_type", FAMILIES)
@pytest.mark.parametrize("shape", [PLAIN, UNEVEN], ids=["plain", "uneven"])
def test_saved_and_loaded_it_answers_the_same(
    model_type: str, shape: Shape, tokenizer_folder: Path, tmp_path: Path
) -> None:
    model = saved(model_type, shape, tokenizer_folder, tmp_path)
    state = torch.get_rng_state()
    loaded = load(tmp_path)
    assert shape == PLAIN or torch.equal(torch.get_rng_state(), state)
    assert isinstance(loaded, TextClassifier)
    assert (loaded.shape, shape_of(loaded)) == (shape, shape)
    assert torch.equal(loaded(model.example()).logits, model(model.example()).logits)  # type: ignore[arg-type]
    assert (loaded.num_layers, loaded.width, loaded.training) == (3, shape.width, False)
    save(loaded, tmp_path / "again")
    assert Shape.of(json.loads((tmp_path / "again" / "modelpress.json").read_text())["shape"]) == shape


@pytest.mark.parametrize("model_type", ["bert", "distilbert"])
def test_a_plain_shape_opens_in_transformers(model_type: str, tokenizer_folder: Path, tmp_path: Path) -> None:
    model = saved(model_type, PLAIN, tokenizer_folder, tmp_path)
    network: Any = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert torch.equal(network(**model.example()).logits, model(model.example()).logits)  # type: ignore[arg-type]


def test_another_shape_does_not_open_there_as_noise(tokenizer_folder: Path, tmp_path: Path) -> None:
    saved("bert", UNEVEN, tokenizer_folder, tmp_path)
    with pytest.raises(RuntimeError, match="mismatch"):
        AutoModelForSequenceClassification.from_pretrained(tmp_path)


def test_heads_are_counted_where_layers_agree() -> None:
    model = shrink(encoder(), Shape(24, (LayerShape(3, 6, 48),) * 4))
    assert model.num_heads == 3
    with pytest.raises(ModelPressError, match=r"from 1 to 3 heads.*attention=0"):
        _ = shrink(model, Shape(24, tuple(LayerShape(n, 6, 48) for n in (1, 3, 2, 2)))).num_heads


def test_an_uneven_teacher_cannot_be_cut_into_a_student() -> None:
    from modelpress.models.init import initialise

    teacher, student = shrink(encoder(), UNEVEN), encoder()
    with pytest.raises(ModelPressError, match="allocation=uniform"):
        initialise(student.network, teacher.network, [0, 1, 2, 2])


def test_an_unpruned_network_has_no_record(classifier: Callable[..., Any], tmp_path: Path) -> None:
    model = classifier()
    model.save(tmp_path)
    assert "shape" not in json.loads((tmp_path / "modelpress.json").read_text())
    assert load(tmp_path).shape is None  # type: ignore[attr-defined]
