"""From open_clip's config of a dual encoder to its two towers, every matrix in them a layer of its own."""

from __future__ import annotations

import copy
import warnings
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from modelpress.errors import ModelPressError
from modelpress.models.separate import MASKED, separate

NOT_BUILT = ("custom_text", "multimodal_cfg")  # CoCa's decoder writes captions: no part of a dual encoder


@dataclass(frozen=True)
class Parts:
    """Two towers that map (B, 3, H, W) and (B, S) to (B, E), not normalised, and what turns cosines into logits."""

    image: nn.Module
    text: nn.Module
    scale: nn.Parameter  # logarithm
    bias: nn.Parameter | None


def open_clip_network(config: Mapping[str, Any], *, text_weights: bool = False) -> nn.Module:
    """open_clip's own module, its text tower a submodule, with random weights. Never touches the network.

    ``text_weights``: those of a transformers text tower are loaded where ``config`` says ``hf_model_pretrained``.

    Raises:
        ModelPressError: open_clip or timm refuses the config.
    """
    from open_clip.model import CustomTextCLIP

    options = {key: copy.deepcopy(value) for key, value in config.items() if key not in NOT_BUILT}
    vision, text = ({**options[key], "output_tokens": False} for key in ("vision_cfg", "text_cfg"))
    vision |= {"timm_model_pretrained": False}
    text |= {"hf_model_pretrained": text_weights and text.get("hf_model_pretrained", False)}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # timm's notes on its own registry
            made = CustomTextCLIP(**{**options, "vision_cfg": vision, "text_cfg": text})
    except (TypeError, ValueError, RuntimeError, AssertionError, KeyError, OSError, AttributeError) as error:
        raise ModelPressError(f"open_clip refuses this architecture: {_first_line(error)}") from error
    _set_image_size(made.visual, vision)
    network: nn.Module = made
    return network


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or ['no reason given'])[0]}"


def _set_image_size(visual: Any, vision: Mapping[str, Any]) -> None:
    """Timm makes its towers for the image size they were published with."""
    trunk: Any = getattr(visual, "trunk", None)
    if hasattr(trunk, "set_input_size") and "image_size" in vision:
        trunk.set_input_size(visual.image_size)


def split(network: Any) -> Parts:
    """The towers of open_clip's module, which is used up: its layers are changed in place."""
    image: Any = separate(network.visual)
    text: Any = separate(network.text)
    if isinstance(getattr(image, "proj", None), nn.Parameter):
        head = _linear(image.proj)
        image.proj = None
        image = nn.Sequential(OrderedDict(trunk=image, proj=head))
    if isinstance(getattr(text, "text_projection", None), nn.Parameter):
        head = _linear(text.text_projection)
        del text.text_projection
        text.text_projection = head
    if getattr(text, "attn_mask", None) is not None:
        text.attn_mask = torch.where(text.attn_mask.isinf(), MASKED, text.attn_mask)
    return Parts(image, text, network.logit_scale, network.logit_bias)


@torch.no_grad()
def _linear(matrix: Any) -> nn.Linear:
    """``x @ matrix`` as a layer."""
    made = nn.Linear(matrix.shape[0], matrix.shape[1], bias=False)
    made.weight.copy_(matrix.T)
    return made


def check_widths(image: Tensor, text: Tensor) -> None:
    """Raises :class:`ModelPressError` for embeddings (B, E) that no product joins."""
    if image.shape[-1] != text.shape[-1]:
        raise ModelPressError(
            f"The image tower ends in embeddings of width {image.shape[-1]} and the text tower in {text.shape[-1]}: "
            "they must match. Project both to embed_dim (vision_cfg.timm_proj: linear, text_cfg.hf_proj_type: linear, "
            "text_cfg.proj_type: linear)."
        )
