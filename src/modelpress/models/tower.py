"""The graph that is exported: a classifier with nothing in it that an inference engine would have to work around."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from modelpress.models.attention import PLAIN, plain_attention, using
from modelpress.models.layout import FAMILIES

FIRST_TOKEN = FAMILIES  # encoders whose head reads only the first token


class ClassifierTower(nn.Module):
    """Positional inputs (B, S) -> logits (B, C), in evaluation mode.

    For the encoders in ``FIRST_TOKEN`` the padding mask stays (B, 1, 1, S) instead of being expanded to (B, 1, S, S),
    and attention is spelled so that runtimes fuse it. ``cls_only_last_layer`` also drops what nobody reads: the head
    takes the first token, so queries, attention output and feed-forward of the last layer are computed for that token
    alone. Logits agree with the network's own to rounding.
    """

    def __init__(self, network: PreTrainedModel, inputs: tuple[str, ...], *, cls_only_last_layer: bool = True) -> None:
        super().__init__()
        self.network = network
        self.inputs = inputs
        self.cls_only_last_layer = cls_only_last_layer
        self.eval()

    @property
    def plain(self) -> bool:
        """Whether the graph is rewritten; other encoders run as transformers wrote them."""
        return self.network.config.model_type in FIRST_TOKEN and "attention_mask" in self.inputs

    def forward(self, *tensors: Tensor) -> Tensor:
        given = dict(zip(self.inputs, tensors, strict=True))
        network: Any = self.network
        if not self.plain:
            logits: Tensor = network(**given).logits
            return logits
        given["attention_mask"] = additive_mask(given["attention_mask"])
        with using(self.network, PLAIN):
            if self.cls_only_last_layer:
                return self._first_token(**given)
            logits = network(**given).logits
            return logits

    def _first_token(self, attention_mask: Tensor, **embedded: Tensor) -> Tensor:
        network: Any = self.network
        base = network.base_model
        hidden = base.embeddings(**embedded)
        if hasattr(base, "embeddings_project"):
            hidden = base.embeddings_project(hidden)
        *layers, last = (base.transformer if self._distilbert else base.encoder).layer
        for layer in layers:
            hidden = layer(hidden, attention_mask)
        first = (distilbert_layer if self._distilbert else bert_layer)(last, hidden, attention_mask)
        return self._head(first)

    def _head(self, first: Tensor) -> Tensor:
        """Logits from the last layer's (B, 1, D)."""
        network: Any = self.network
        if self._distilbert:
            pooled = torch.relu(network.pre_classifier(first[:, 0]))
            logits: Tensor = network.classifier(pooled)
        elif network.config.model_type == "bert":
            logits = network.classifier(network.bert.pooler(first))
        else:
            logits = network.classifier(first)
        return logits

    @property
    def _distilbert(self) -> bool:
        return bool(self.network.config.model_type == "distilbert")


def additive_mask(attention_mask: Tensor) -> Tensor:
    """(B, S) of ones and zeros -> (B, 1, 1, S): 0 where a token is, the lowest float where padding is."""
    return (1.0 - attention_mask[:, None, None, :].float()) * torch.finfo(torch.float32).min


def bert_layer(layer: Any, hidden: Tensor, mask: Tensor) -> Tensor:
    """A BERT layer's output for the first token only: (B, S, D) -> (B, 1, D)."""
    attention, first = layer.attention.self, hidden[:, :1]
    context = first_token_attention(attention, attention.query, attention.key, attention.value, hidden, mask)
    output: Tensor = layer.feed_forward_chunk(layer.attention.output(context, first))
    return output


def distilbert_layer(layer: Any, hidden: Tensor, mask: Tensor) -> Tensor:
    """The same for DistilBERT."""
    attention, first = layer.attention, hidden[:, :1]
    context = first_token_attention(attention, attention.q_lin, attention.k_lin, attention.v_lin, hidden, mask)
    first = layer.sa_layer_norm(attention.out_lin(context) + first)
    output: Tensor = layer.output_layer_norm(layer.ffn(first) + first)
    return output


def first_token_attention(
    attention: Any, query: nn.Module, key: nn.Module, value: nn.Module, hidden: Tensor, mask: Tensor
) -> Tensor:
    """What the first token sees of all tokens: (B, S, D) -> (B, 1, D)."""
    width = attention.attention_head_size
    q, k, v = (
        projection(states).unflatten(-1, (-1, width)).transpose(1, 2)
        for projection, states in ((query, hidden[:, :1]), (key, hidden), (value, hidden))
    )
    context, _ = plain_attention(attention, q, k, v, mask, scaling=attention.scaling)
    return context.flatten(2)
