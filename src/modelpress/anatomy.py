"""The sizes of a saved encoder, read from its folder without torch: for reports."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# names of BERT and of DistilBERT
WIDTH, HEADS, NEURONS = ("hidden_size", "dim"), ("num_attention_heads", "n_heads"), ("intermediate_size", "hidden_dim")
LAYERS = ("num_hidden_layers", "n_layers")
UNITS = ("heads", "head_width", "neurons")

Sizes = Mapping[str, Any]  # {"width": D, "layers": [{"heads": …, "head_width": …, "neurons": …}, …]}


def sizes(folder: Path) -> Sizes | None:
    """Width and layers of the network in ``folder``; ``None`` where its config has other words for them.

    A network that units were removed from has them in ``modelpress.json``: a config cannot say that layers differ.
    """
    own = folder / "modelpress.json"
    recorded: Sizes | None = json.loads(own.read_text(encoding="utf-8")).get("shape") if own.is_file() else None
    if recorded:
        return recorded
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    width, heads, neurons, count = (_either(config, names) for names in (WIDTH, HEADS, NEURONS, LAYERS))
    if not (width and heads and neurons and count):
        return None
    layer = {"heads": heads, "head_width": width // heads, "neurons": neurons}
    return {"width": width, "layers": [layer] * count}


def details(folder: Path) -> dict[str, Any]:
    """What a report's row says of the network: ``widths``, and ``shape`` with ``network`` in words."""
    found = sizes(folder)
    return {"widths": widths(folder)} | ({"shape": found, "network": described(found)} if found else {})


def _either(config: Mapping[str, Any], names: tuple[str, str]) -> int | None:
    found = config.get(names[0]) or config.get(names[1])
    return int(found) if found else None


def described(found: Sizes) -> str:
    """``6 x 384, 12 heads of 32, 1536 neurons``; ranges where layers differ."""
    heads, head_width, neurons = (_span(found, name) for name in UNITS)
    return f"{len(found['layers'])} x {found['width']}, {heads} heads of {head_width}, {neurons} neurons"


def _span(found: Sizes, name: str) -> str:
    values = sorted({int(layer[name]) for layer in found["layers"]})
    return str(values[0]) if len(values) == 1 else f"{values[0]}–{values[-1]}"


def widths(folder: Path) -> list[int]:
    """Sizes of the matrices that kernels tile: residual stream, one head, all heads of a layer, neurons."""
    found = sizes(folder)
    if found is None:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        return [width for names in (WIDTH, NEURONS) if (width := _either(config, names))]
    layers = {tuple(layer[name] for name in UNITS): None for layer in found["layers"]}
    kinds = [size for heads, head, neurons in layers for size in (head, heads * head, neurons)]
    if len(layers) == 1:
        kinds = [size for size in kinds if size != found["width"]]
    return [found["width"], *dict.fromkeys(kinds)]
