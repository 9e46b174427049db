"""Which part of a network a quantized layer belongs to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from modelpress.models.attention import PRODUCTS
from modelpress.models.base import Model
from modelpress.models.image import ImageModel
from modelpress.quantization import attach
from modelpress.quantization.parts import parts
from tests import tinyclip
from tests.models.conftest import classifier, tokenizer_folder  # noqa: F401

BLOCK = "trunk.transformer.resblocks.0"


def layers(model: Model, **scope: Any) -> dict[str, set[str]]:
    attach.attach(model, attach.Scope(**scope))
    return {title: set(names) for title, (names, _) in parts(model).items()}


def test_a_dual_encoder_of_transformers(tmp_path: Path) -> None:
    found = layers(tinyclip.dual(tmp_path), attention=True)
    kinds = {"image": {"patch embedding", "attention", "MLP", "projections"}}
    kinds["text"] = {"embeddings", "attention", "MLP", "projections"}
    assert set(found) == {"image", "text", *(f"{t}: {kind}" for t, names in kinds.items() for kind in names)}
    assert found["image: patch embedding"] == {"image.trunk.conv1"}
    first = {f"image.{BLOCK}.attn.{name}" for name in ("q", "k", "v", "out", PRODUCTS)}
    assert first < found["image: attention"]
    assert {f"image.{BLOCK}.mlp.c_fc", f"image.{BLOCK}.mlp.c_proj"} < found["image: MLP"]
    assert len(found["image: attention"]) == 2 * 5
    assert found["text: projections"] == {"text.text_projection"}
    for tower, names in kinds.items():
        assert set().union(*(found[f"{tower}: {kind}"] for kind in names)) == found[tower]


def test_convolutions_and_a_bert(tmp_path: Path) -> None:
    config = tinyclip.bert(tmp_path / "bert", vision_cfg=tinyclip.cnn()["vision_cfg"])
    found = layers(tinyclip.dual(tmp_path / "tokenizer", config))
    assert "image.trunk.conv1.0" in found["image: convolutions"]  # its first layer reads pixels, but not patch by patch
    assert "image: patch embedding" not in found
    assert {name.partition("layer.0.")[2] for name in found["text: MLP"] if "layer.0." in name} == {
        *("intermediate.dense", "output.dense"),
    }
    assert any(name.endswith("attention.output.dense") for name in found["text: attention"])


@pytest.mark.parametrize("kind", ["bert", "distilbert", "roberta", "electra"])
def test_text_classifiers(classifier: Callable[..., Model], kind: str) -> None:  # noqa: F811
    found = layers(classifier(kind))
    assert {"embeddings", "attention", "MLP"} <= set(found) <= {"embeddings", "attention", "MLP", "projections"}
    assert len(found["attention"]) == 2 * len(found["MLP"])


def test_a_vision_transformer_of_timm(tmp_path: Path) -> None:
    recipe = ImageModel("tiny", "test_vit", str(tmp_path / "cache"), image_size=32)
    found = layers(recipe.build(labels=["a", "b"], preprocessor=recipe.preprocessor(), teacher=None, seed=0))
    assert set(found) == {"patch embedding", "attention", "MLP"}  # its head stays float
    assert found["patch embedding"] == {"network.patch_embed.proj"}
    assert "network.blocks.0.attn.qkv" in found["attention"]
    assert "network.blocks.0.mlp.fc1" in found["MLP"]
