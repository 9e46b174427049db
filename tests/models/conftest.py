"""Tiny networks of every family, and checkpoints of them on disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

WORDS = [f"w{i}" for i in range(90)]
TINY: dict[str, dict[str, Any]] = {
    "bert": {},
    "roberta": {"max_position_embeddings": 42, "type_vocab_size": 1, "pad_token_id": 1},
    "electra": {"embedding_size": 24},
    "distilbert": {"n_layers": 4, "dim": 24, "n_heads": 4, "hidden_dim": 48},
}
COMMON = {"vocab_size": 95, "max_position_embeddings": 40, "pad_token_id": 0}
WIDTHS = {"hidden_size": 24, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 48}


def tiny(model_type: str = "bert", labels: int = 3, seed: int = 0, **numbers: Any) -> Any:
    """A random classifier of 4 layers of 24 in evaluation mode; its biases and norms are random too."""
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification

    torch.manual_seed(seed)
    widths = {} if model_type == "distilbert" else WIDTHS
    config = AutoConfig.for_model(
        model_type, **(COMMON | widths | TINY.get(model_type, {}) | numbers), num_labels=labels
    )
    network = AutoModelForSequenceClassification.from_config(config).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return network


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A word tokenizer of 95 tokens with BERT's special tokens."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {token: i for i, token in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    folder = tmp_path_factory.mktemp("tokenizer")
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]"
    ).save_pretrained(folder)
    return folder


@pytest.fixture
def checkpoint(tmp_path: Path, tokenizer_folder: Path) -> Callable[..., Path]:
    """Save a tiny classifier with its tokenizer as a user's folder; returns the folder."""
    import shutil

    from modelpress.models.building import quiet

    def save(labels: list[str] | None = None, model_type: str = "bert", **numbers: Any) -> Path:
        network = tiny(model_type, labels=len(labels or [0, 0]), **numbers)
        if labels is not None:
            network.config.id2label = dict(enumerate(labels))
            network.config.label2id = {label: i for i, label in enumerate(labels)}
        folder = tmp_path / "checkpoint"
        shutil.copytree(tokenizer_folder, folder)
        with quiet():
            network.save_pretrained(folder)
        return folder

    return save


@pytest.fixture
def classifier(tokenizer_folder: Path) -> Callable[..., Any]:
    """A tiny :class:`TextClassifier`."""
    from modelpress.models.classifier import TextClassifier

    def make(model_type: str = "bert", labels: int = 3, **numbers: Any) -> TextClassifier:
        network = tiny(model_type, labels=labels, **numbers)
        return TextClassifier(network, [f"label {i}" for i in range(labels)], tokenizer_folder)

    return make
