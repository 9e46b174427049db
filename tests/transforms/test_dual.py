"""What the transforms do to a dual encoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from modelpress.export.onnx import export
from modelpress.models.base import load, save
from modelpress.quantization import attach
from modelpress.quantization.sensitivity import answers
from modelpress.transforms.base import Context
from modelpress.transforms.precision import Precision
from modelpress.transforms.prune import Prune
from modelpress.transforms.prune_structured import PruneStructured
from modelpress.transforms.quantize import Quantize
from tests import tinyclip

KINDS = ("vit", "cnn")


def model_of(kind: str, folder: Path) -> Any:
    if kind == "vit":
        return tinyclip.dual(folder / "tokenizer")
    return tinyclip.dual(folder / "tokenizer", tinyclip.bert(folder / "bert", vision_cfg=tinyclip.cnn()["vision_cfg"]))


def context(model: Any) -> Context:
    return Context(
        model.example(),
        lambda samples, draw=0: [tinyclip.batch(8, seed=10 + draw + i) for i in range(2)],
        lambda: [tinyclip.batch(12, seed=30)],
    )


def embeddings(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found = model(tinyclip.batch(6, seed=50)).embeddings
    return torch.cat([found["image"], found["text"]])


@pytest.mark.parametrize("kind", KINDS)
def test_int8_reaches_both_towers(kind: str, tmp_path: Path) -> None:
    import onnxruntime

    model = model_of(kind, tmp_path)
    exact = embeddings(model)
    transform = Quantize(samples=16)
    model = transform.finalize(transform.prepare(model, context(model)))
    assert transform.coverage(model)["parameters"] > 0.95
    assert {name.partition(".")[0] for name in attach.twins_of(model)} == {"image", "text"}
    found = embeddings(model)
    assert 0 < (found - exact).abs().max() < 0.1
    save(model, tmp_path / "saved")
    torch.testing.assert_close(embeddings(load(tmp_path / "saved")), found, atol=1e-5, rtol=0)
    files = export(model, tmp_path / "onnx")
    batch = tinyclip.batch(6, seed=50)
    for tower, name in (("image", "pixel_values"), ("text", "input_ids")):
        session = onnxruntime.InferenceSession(str(files[tower]), providers=["CPUExecutionProvider"])
        theirs = session.run(None, {name: batch[name].numpy()})[0]
        assert np.abs(theirs - model({name: batch[name]}).embeddings[tower].detach().numpy()).max() < 0.05


@pytest.mark.parametrize(
    ("exclude", "kept"),
    [
        ("image.*", "image."),
        ("text.*", "text."),
        ("image.trunk.conv1", "image.trunk.conv1"),
        ("*.attn.*", "image.trunk.transformer.resblocks.0.attn.q"),
        ("*.mlp.*", "image.trunk.transformer.resblocks.0.mlp.c_fc"),
    ],
)
def test_towers_attention_mlp_and_patches_are_choices(exclude: str, kept: str, tmp_path: Path) -> None:
    model = tinyclip.dual(tmp_path)
    Quantize(exclude=[exclude]).check(model)
    names = attach.twins_of(model)
    assert names
    assert not [name for name in names if name.startswith(kept)]


def test_the_products_of_attention_are_quantized_too(tmp_path: Path) -> None:
    model = tinyclip.dual(tmp_path)
    transform = Quantize(samples=16, attention=True)
    exact = embeddings(model)
    model = transform.finalize(transform.prepare(model, context(model)))
    assert len(attach.products_of(model)) == 4
    assert 0 < (embeddings(model) - exact).abs().max() < 0.1


def test_sensitivity_judges_images_against_texts(tmp_path: Path) -> None:
    model, batch = tinyclip.dual(tmp_path), tinyclip.batch(5)
    apart = [
        {"pixel_values": batch["pixel_values"], "labels": torch.tensor([7, 3, 3, 9, 7])},
        {"input_ids": batch["input_ids"], "labels": torch.tensor([9, 3, 7, 7, 9])},
    ]
    found = answers(model, apart)
    assert found.logits.shape == (5, 3)
    assert found.labels.tolist() == [1, 0, 0, 2, 1]
    model.answer([{"input_ids": batch["input_ids"], "labels": torch.tensor([2, 0, 1, 1, 2])}])
    with torch.no_grad():
        torch.testing.assert_close(found.logits, model({"pixel_values": batch["pixel_values"]}).logits)


def test_mixed_precision_keeps_its_limit(tmp_path: Path) -> None:
    model = tinyclip.dual(tmp_path)
    transform = Quantize(samples=16, max_metric_drop=0.0)
    transform.finalize(transform.prepare(model, context(model)))
    assert transform.report["search"]["drop"] <= 0


@pytest.mark.parametrize("numbers", ["fp16", "bf16"])
@pytest.mark.parametrize("kind", KINDS)
def test_sixteen_bits(kind: str, numbers: str, tmp_path: Path) -> None:
    from modelpress.export import typed_run

    model = model_of(kind, tmp_path)
    transform = Precision(numbers, max_difference=2.0, min_agreement=0.5, samples=16)
    model = transform.finalize(transform.prepare(model, context(model)))
    heads = {"vit": ("image.proj", "text.text_projection"), "cnn": ("image.head.proj", "text.proj")}[kind]
    assert model.numerics.details["float_layers"][-2:] == list(heads)
    assert transform.coverage(model)["parameters"] > 0.8
    files = export(model, tmp_path / "onnx")
    for tower, file in files.items():
        batch = tinyclip.batch(2, seed=3)
        assert typed_run.parity(model, file, [batch], tower) < 0.05


def test_single_weights_of_both_towers_become_zero(tmp_path: Path) -> None:
    model = tinyclip.dual(tmp_path)
    transform = Prune(sparsity=0.5, scope="layer", importance="magnitude")
    model = transform.finalize(transform.prepare(model, context(model)))
    assert {name.partition(".")[0] for name in transform.names} == {"image", "text"}
    assert (model.image.trunk.conv1.weight == 0).double().mean() == pytest.approx(0.5, abs=0.01)
    save(model, tmp_path / "saved")
    assert torch.equal(embeddings(load(tmp_path / "saved")), embeddings(model))


def test_channels_of_an_image_tower_go_and_it_loads_smaller(tmp_path: Path) -> None:
    model = model_of("cnn", tmp_path)
    before = sum(p.numel() for p in model.image.parameters())
    transform = PruneStructured(sparsity=0.2, remove=["channels"], importance="magnitude", round_to=8)
    model = transform.finalize(transform.prepare(model, context(model)))
    assert sum(p.numel() for p in model.image.parameters()) < 0.9 * before
    save(model, tmp_path / "saved")
    again = load(tmp_path / "saved")
    torch.testing.assert_close(embeddings(again), embeddings(model), atol=0, rtol=0)
    export(again, tmp_path / "onnx")
