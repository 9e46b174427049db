"""Dual encoders in miniature: two transformers of 2 layers of 32, images of 32 x 32, 99 tokens, 12 in a text."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

WORDS = [f"w{i}" for i in range(94)]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[MASK]"]
CONFIG: dict[str, Any] = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 8, "patch_size": 16},
    "text_cfg": {"context_length": 12, "vocab_size": 99, "width": 32, "heads": 4, "layers": 2},
}
BERT = {"vocab_size": 99, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}


def config(vision: Mapping[str, Any] | None = None, text: Mapping[str, Any] | None = None, **more: Any) -> Any:
    """``CONFIG`` with parts of it changed."""
    made = {**copy.deepcopy(CONFIG), **more}
    made["vision_cfg"] |= vision or {}
    made["text_cfg"] |= text or {}
    return made


def cnn(**more: Any) -> Any:
    """A network of convolutions for images, with batch normalisation."""
    return config({"timm_model_name": "test_resnet", "timm_pool": "avg", "timm_proj": "linear"}, **more)


def bert(folder: Path, **more: Any) -> Any:
    """A BERT for texts, whose config and random weights are written into ``folder``."""
    import torch
    from transformers import BertConfig, BertModel

    from modelpress.models.building import quiet

    torch.manual_seed(0)
    with quiet():
        BertModel(BertConfig(**BERT)).save_pretrained(folder)
    write_tokenizer(folder)
    text = {"hf_model_name": str(folder), "hf_proj_type": "linear", "hf_pooler_type": "mean_pooler"}
    return config(text={**text, "context_length": 12}, **more)


def write_tokenizer(folder: Path) -> Path:
    """Words of 99 tokens; a text ends in the one of the largest number, as open_clip's own does."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    tokens = {token: i for i, token in enumerate([*SPECIAL, *WORDS, "[SEP]"])}
    tokenizer = Tokenizer(models.WordLevel(tokens, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", len(tokens) - 1), ("[CLS]", 2))
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"pad_token": "[PAD]"}))
    return folder


def preprocessor(folder: Path, made: Mapping[str, Any] = CONFIG) -> Path:
    """Tokenizer and ``preprocess.json`` for a network of this config."""
    from modelpress.models.preprocess import FILE, settings

    write_tokenizer(folder)
    (folder / FILE).write_text(json.dumps(settings(made, {})))
    return folder


def dual(folder: Path, made: Mapping[str, Any] = CONFIG, labels: int = 3, seed: int = 0) -> Any:
    """A random dual encoder; ``folder`` takes its tokenizer."""
    import torch

    from modelpress.models.clip_network import open_clip_network, split
    from modelpress.models.dual import DualEncoder

    torch.manual_seed(seed)
    parts = split(open_clip_network(made, text_weights=False))
    names = [f"label {i}" for i in range(labels)]
    return DualEncoder(parts, names, preprocessor(folder, made), config=made, weights="random")


def batch(rows: int = 4, length: int = 12, seed: int = 0, size: int = 32) -> dict[str, Any]:
    """Random images and texts of several lengths, item i of candidate i."""
    import torch

    draw = torch.Generator().manual_seed(seed)
    ids = torch.randint(4, 98, (rows, length), generator=draw)
    for row in range(rows):
        end = max(2, length - row % 3)
        ids[row, end - 1], ids[row, end:] = 98, 0
    pixels = torch.randn(rows, 3, size, size, generator=draw)
    return {"pixel_values": pixels, "input_ids": ids, "labels": torch.arange(rows), "index": torch.arange(rows)}
