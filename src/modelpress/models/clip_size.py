"""Parameters of open_clip's own towers, counted from their config without torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def parameters(config: Mapping[str, Any]) -> int | None:
    """Scalars of both towers; ``None`` for towers that open_clip takes from elsewhere, or with unusual parts."""
    vision, text, width = config["vision_cfg"], config["text_cfg"], int(config["embed_dim"])
    unusual = ("timm_model_name", "attentional_pool", "ls_init_value", "block_type", "qk_norm")
    if any(vision.get(key) for key in unusual) or not isinstance(vision.get("layers", 12), int):
        return None
    if any(text.get(key) for key in ("hf_model_name", "embed_cls", "ls_init_value", "block_type", "qk_norm")):
        return None
    biases = 1 + (config.get("init_logit_bias") is not None)
    return _image(vision, width) + _text(text, width) + biases


def _image(vision: Mapping[str, Any], embedding: int) -> int:
    width, patch = int(vision.get("width", 768)), int(vision.get("patch_size", 16))
    size = vision.get("image_size", 224)
    height, across = (size, size) if isinstance(size, int) else size
    places = (height // patch) * (across // patch) + 1
    norms = 1 if vision.get("no_ln_pre") else 2
    own = 3 * patch**2 * width + width + places * width + norms * 2 * width + width * embedding
    return own + int(vision.get("layers", 12)) * _layer(width, float(vision.get("mlp_ratio", 4.0)))


def _text(text: Mapping[str, Any], embedding: int) -> int:
    width = int(text.get("width", 512))
    rows = int(text.get("vocab_size", 49408)) + int(text.get("context_length", 77))
    projection = 0 if text.get("proj_type") == "none" else width * embedding + embedding * bool(text.get("proj_bias"))
    layers = int(text.get("layers", 12)) * _layer(width, float(text.get("mlp_ratio", 4.0)))
    return rows * width + layers + 2 * width + projection


def _layer(width: int, ratio: float) -> int:
    inner = int(width * ratio)
    return 4 * (width * width + width) + 2 * width * inner + inner + width + 4 * width
