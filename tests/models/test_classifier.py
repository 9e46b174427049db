from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from modelpress.errors import ModelPressError
from modelpress.models.base import load
from modelpress.models.classifier import TextClassifier, head_projection
from tests.models.conftest import tiny

INPUTS = {
    "bert": ("input_ids", "attention_mask", "token_type_ids"),
    "distilbert": ("input_ids", "attention_mask"),
    "roberta": ("input_ids", "attention_mask"),
    "electra": ("input_ids", "attention_mask", "token_type_ids"),
}


@pytest.mark.parametrize("model_type", INPUTS)
def test_takes_the_inputs_of_its_architecture(model_type: str, classifier: Callable[..., Any]) -> None:
    model = classifier(model_type)
    assert model.inputs == INPUTS[model_type]
    batch = model.example()
    assert tuple(batch) == model.inputs
    extra = {
        **batch,
        "labels": torch.zeros(2, dtype=torch.long),
        "token_type_ids": torch.zeros(2, 16, dtype=torch.long),
    }
    torch.testing.assert_close(model(extra).logits, model(batch).logits)
    assert (model.num_layers, model.width, model.num_heads) == (4, 24, 4)


def test_padding_changes_no_logits(classifier: Callable[..., Any]) -> None:
    model = classifier()
    batch = model.example()
    alone = {name: tensor[1:, :11] for name, tensor in batch.items()}
    torch.testing.assert_close(model(batch).logits[1:], model(alone).logits, atol=1e-5, rtol=0)


@pytest.mark.parametrize("model_type", INPUTS)
def test_saved_and_loaded_it_answers_the_same(model_type: str, classifier: Callable[..., Any], tmp_path: Path) -> None:
    model = classifier(model_type)
    model.save(tmp_path / "model")
    loaded = load(tmp_path / "model")
    assert isinstance(loaded, TextClassifier)
    batch = model.example()
    assert torch.equal(loaded(batch).logits, model(batch).logits)
    assert (loaded.labels, loaded.inputs) == (model.labels, model.inputs)
    assert not loaded.training


def test_saved_folder_opens_in_transformers_and_tokenizers(classifier: Callable[..., Any], tmp_path: Path) -> None:
    from tokenizers import Tokenizer

    model = classifier()
    model.save(tmp_path)
    network: Any = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    batch = model.example()
    assert torch.equal(network(**batch).logits, model(batch).logits)
    AutoTokenizer.from_pretrained(tmp_path)
    assert Tokenizer.from_file(str(tmp_path / "tokenizer.json")).encode("w0 w1").ids == [2, 5, 6, 3]
    assert json.loads((tmp_path / "modelpress.json").read_text())["class"].endswith(".TextClassifier")
    assert not list(tmp_path.glob("*.bin"))


def test_a_slow_tokenizer_gets_its_tokenizer_json(tmp_path: Path) -> None:
    slow = tmp_path / "slow"
    slow.mkdir()
    (slow / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "film"]))
    (slow / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}')
    model = TextClassifier(tiny(vocab_size=7), ["a", "b", "c"], slow)
    model.save(tmp_path / "saved")
    assert (tmp_path / "saved" / "tokenizer.json").is_file()


def test_saving_over_its_own_folder_keeps_the_tokenizer(classifier: Callable[..., Any], tmp_path: Path) -> None:
    classifier().save(tmp_path)
    load(tmp_path).save(tmp_path)
    assert load(tmp_path).labels == ["label 0", "label 1", "label 2"]


def test_a_folder_without_tokenizer_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelPressError, match="tokenizer"):
        TextClassifier(tiny(), ["a", "b", "c"], tmp_path / "empty").save(tmp_path / "saved")


@pytest.mark.parametrize(
    ("model_type", "name"), [("bert", "classifier"), ("distilbert", "classifier"), ("roberta", "classifier.out_proj")]
)
def test_head_projection(model_type: str, name: str) -> None:
    network = tiny(model_type)
    assert head_projection(network) is network.get_submodule(name)
