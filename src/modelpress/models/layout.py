"""One set of names for the encoders that share BERT's layout, so that weights can move between them.

Canonical names: ``word``, ``position``, ``token_type``, ``norm``; ``layers.I.`` + ``q``, ``k``, ``v``, ``o``,
``norm1``, ``up``, ``down``, ``norm2``; ``pool`` (the dense layer over the first token) and ``head``. Each has
``.weight`` and maybe ``.bias``.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from modelpress.models.architecture import OFFSET_POSITIONS
from modelpress.models.cut import Weights

BERT_LIKE = ("bert", *OFFSET_POSITIONS, "electra")
FAMILIES = (*BERT_LIKE, "distilbert")

_BERT_LAYER = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "o": "attention.output.dense",
    "norm1": "attention.output.LayerNorm",
    "up": "intermediate.dense",
    "down": "output.dense",
    "norm2": "output.LayerNorm",
}
_DISTILBERT_LAYER = {
    "q": "attention.q_lin",
    "k": "attention.k_lin",
    "v": "attention.v_lin",
    "o": "attention.out_lin",
    "norm1": "sa_layer_norm",
    "up": "ffn.lin1",
    "down": "ffn.lin2",
    "norm2": "output_layer_norm",
}


def supported(network: PreTrainedModel) -> bool:
    """Whether the network has this layout; electra only if its embeddings are as wide as its layers."""
    config = network.config
    return config.model_type in FAMILIES and getattr(config, "embedding_size", None) in (None, config.hidden_size)


def modules(network: PreTrainedModel) -> dict[str, nn.Module]:
    """Canonical name -> module of a sequence classifier."""
    base = network.base_model_prefix
    distilbert = network.config.model_type == "distilbert"
    inside, layer = ("transformer", _DISTILBERT_LAYER) if distilbert else ("encoder", _BERT_LAYER)
    names = {"word": "word_embeddings", "position": "position_embeddings", "norm": "LayerNorm"}
    if not distilbert:
        names["token_type"] = "token_type_embeddings"
    paths = {name: f"{base}.embeddings.{path}" for name, path in names.items()}
    for i in range(network.config.num_hidden_layers):
        paths |= {f"layers.{i}.{name}": f"{base}.{inside}.layer.{i}.{path}" for name, path in layer.items()}
    paths |= _head(network.config.model_type, base)
    return {name: network.get_submodule(path) for name, path in paths.items()}


def _head(model_type: str, base: str) -> dict[str, str]:
    if model_type == "bert":
        return {"pool": f"{base}.pooler.dense", "head": "classifier"}
    if model_type == "distilbert":
        return {"pool": "pre_classifier", "head": "classifier"}
    return {"pool": "classifier.dense", "head": "classifier.out_proj"}


def read(network: PreTrainedModel) -> Weights:
    """Copies of all weights in fp32. ``position`` holds only rows that tokens use; ``token_type`` may be absent."""
    weights = {
        f"{name}.{part}": tensor.detach().float().clone()
        for name, module in modules(network).items()
        for part, tensor in module.named_parameters(recurse=False)
    }
    weights["position.weight"] = weights["position.weight"][_first_position(network) :]
    return weights


def read_positions(network: PreTrainedModel) -> Tensor:
    """(P, D) rows of the position table that tokens use."""
    table = modules(network)["position"].weight
    assert isinstance(table, Tensor)
    return table[_first_position(network) :]


@torch.no_grad()
def write(network: PreTrainedModel, weights: Weights) -> None:
    """Copy canonical weights into the network, folding or repeating token types where the two sides differ."""
    weights = _fit_token_types(network, dict(weights))
    first = _first_position(network)
    for name, module in modules(network).items():
        for part, target in module.named_parameters(recurse=False):
            key = f"{name}.{part}"
            if key not in weights:
                continue
            rows = target[first:] if name == "position" else target
            rows.copy_(weights[key][: len(rows)] if name == "position" else weights[key])


def _first_position(network: PreTrainedModel) -> int:
    config = network.config
    return int(config.pad_token_id) + 1 if config.model_type in OFFSET_POSITIONS else 0


def _fit_token_types(network: PreTrainedModel, weights: Weights) -> Weights:
    """A network without token types gets type 0 inside its positions: the same sums for single sentences."""
    given = weights.pop("token_type.weight", None)
    if network.config.model_type == "distilbert":
        if given is not None:
            weights["position.weight"] = weights["position.weight"] + given[0]
        return weights
    rows = int(network.config.type_vocab_size)
    if given is None:
        given = torch.zeros(1, weights["word.weight"].shape[1])
    weights["token_type.weight"] = given[[min(i, len(given) - 1) for i in range(rows)]]
    return weights
