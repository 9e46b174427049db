from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from modelpress.models.tower import FIRST_TOKEN, additive_mask
from tests.models.conftest import tiny

FAMILIES = ["bert", "roberta", "electra", "distilbert", "albert"]


@pytest.mark.parametrize("cls_only", [True, False])
@pytest.mark.parametrize("model_type", FAMILIES)
def test_tower_gives_the_networks_logits(model_type: str, cls_only: bool, classifier: Callable[..., Any]) -> None:
    model = classifier(model_type)
    model.cls_only_last_layer = cls_only
    (tower,) = model.towers()
    assert (tower.name, tower.outputs) == ("main", ("logits",))
    assert set(tower.dynamic_axes) == set(tower.example)
    logits = tower.module(*tower.example.values())
    torch.testing.assert_close(logits, model(tower.example).logits, atol=1e-5, rtol=0)
    assert model.network.config._attn_implementation == "sdpa"


def test_electra_with_narrow_embeddings(classifier: Callable[..., Any]) -> None:
    model = classifier("electra", embedding_size=16)
    (tower,) = model.towers()
    logits = tower.module(*tower.example.values())
    torch.testing.assert_close(logits, model(tower.example).logits, atol=1e-5, rtol=0)


@pytest.mark.parametrize("model_type", ["bert", "distilbert"])
def test_last_layer_computes_the_first_token_only(model_type: str, classifier: Callable[..., Any]) -> None:
    model = classifier(model_type)
    layers = model.network.bert.encoder.layer if model_type == "bert" else model.network.distilbert.transformer.layer
    up = [layer.intermediate.dense if model_type == "bert" else layer.ffn.lin1 for layer in layers]
    seen: list[int] = []
    for linear in up:
        linear.register_forward_hook(lambda _, given, __: seen.append(given[0].shape[1]))
    (tower,) = model.towers()
    tower.module(*tower.example.values())
    assert seen == [16, 16, 16, 1]


def test_other_encoders_fall_back(classifier: Callable[..., Any]) -> None:
    model = classifier("albert")
    (tower,) = model.towers()
    assert "albert" not in FIRST_TOKEN
    assert not tower.module.plain


def test_mask_is_not_expanded() -> None:
    mask = additive_mask(torch.tensor([[1, 1, 0]]))
    assert mask.shape == (1, 1, 1, 3)
    assert mask[0, 0, 0].tolist() == [0.0, 0.0, torch.finfo(torch.float32).min]


def test_tower_shares_the_networks_weights(classifier: Callable[..., Any]) -> None:
    model = classifier()
    assert model.towers()[0].module.network is model.network
    assert tiny().base_model_prefix == "bert"
