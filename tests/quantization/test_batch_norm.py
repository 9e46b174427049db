"""Batch normalisation folded into the layer before it, against PyTorch's own evaluation of both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from modelpress.models import base
from modelpress.quantization import batch_norm
from modelpress.quantization.batch_norm import Folded
from modelpress.transforms.base import Context
from modelpress.transforms.quantize import Quantize
from tests.quantization.small import Small

IMAGES = (4, 3, 8, 8)
PAIRS = [
    ("network.bare", "network.bare_norm"),
    ("network.biased", "network.biased_norm"),
    ("network.dense", "network.dense_norm"),
]


class Normed(nn.Module):
    """Three layers whose norm can be folded, and one whose output a sum reads too."""

    def __init__(self) -> None:
        super().__init__()
        self.bare, self.bare_norm = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.biased, self.biased_norm = nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8, affine=False)
        self.both, self.both_norm = nn.Conv2d(8, 8, 1, bias=False), nn.BatchNorm2d(8)
        self.dense, self.dense_norm, self.head = nn.Linear(8, 8, bias=False), nn.BatchNorm1d(8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.biased_norm(self.biased(torch.relu(self.bare_norm(self.bare(x))))))
        y = self.both(x)
        x = (y + self.both_norm(y)).mean((2, 3))
        logits: Tensor = self.head(torch.relu(self.dense_norm(self.dense(x))))
        return logits


class OnDisk(Small):
    """Small, that can be saved: the plain network's own state."""

    def save(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        save_file(self.state_dict(), folder / "weights.safetensors")
        record = f'{{"class": "{type(self).__module__}.{type(self).__qualname__}"}}'
        (folder / "modelpress.json").write_text(record)

    @classmethod
    def load(cls, folder: Path) -> OnDisk:
        model = made()
        model.load_state_dict(load_file(folder / "weights.safetensors"))
        return model


def made() -> OnDisk:
    """With statistics and factors of its own in every norm."""
    torch.manual_seed(3)
    network = Normed()
    for norm in (module for module in network.modules() if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)):
        assert norm.running_mean is not None
        assert norm.running_var is not None
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.2, 3)
        if norm.affine:
            nn.init.uniform_(norm.weight, -2, 2)
            nn.init.normal_(norm.bias)
    return OnDisk(network, torch.randn(IMAGES))


def images(count: int = 3) -> list[dict[str, Tensor]]:
    return [{"x": torch.randn(IMAGES), "labels": torch.randint(3, IMAGES[:1])} for _ in range(count)]


def answer(model: Any, batch: dict[str, Tensor]) -> Tensor:
    with torch.no_grad():
        found: Tensor = model.eval()(batch).logits
    return found


def quantized(**options: Any) -> Any:
    transform = Quantize(samples=12, **options)
    model = made()
    return transform.prepare(model, Context(model.example(), lambda samples, draw: images(), list))


def test_the_network_answers_as_before() -> None:
    model, batch = made(), images(1)[0]
    before = answer(model, batch)
    assert batch_norm.fold(model) == PAIRS
    torch.testing.assert_close(answer(model, batch), before, atol=2e-6, rtol=1e-5)
    assert isinstance(model.network.both_norm, nn.BatchNorm2d)  # the sum reads its layer too
    assert all(isinstance(model.get_submodule(norm), Folded) for _, norm in PAIRS)


def test_a_layer_that_something_else_reads_keeps_its_weights() -> None:
    model = made()
    before = model.network.both.weight.clone()
    batch_norm.fold(model)
    assert torch.equal(model.network.both.weight, before)
    assert model.network.both.bias is None


def test_a_network_without_norms_is_left_alone() -> None:
    model = Small(nn.Sequential(nn.Linear(4, 3)), torch.randn(2, 4))
    assert batch_norm.fold(model) == []


def test_unfolded_has_the_original_names_and_answers() -> None:
    model, batch = made(), images(1)[0]
    names, before = list(model.state_dict()), answer(model, batch)
    batch_norm.fold(model)
    with batch_norm.unfolded(model):
        assert list(model.state_dict()) == names
        torch.testing.assert_close(answer(model, batch), before, atol=2e-6, rtol=1e-5)
    assert list(model.state_dict()) != names


@pytest.mark.parametrize("ranges", ["fixed", "learned"])
def test_a_saved_model_is_loaded_bit_equal(ranges: str, tmp_path: Path) -> None:
    model = quantized(ranges=ranges)
    base.save(model, tmp_path)
    again = base.load(tmp_path)
    assert again.numerics == model.numerics
    assert again.numerics is not None
    assert [tuple(names) for names in again.numerics.details["folded"]] == PAIRS
    for batch in images(2):
        assert torch.equal(answer(again, batch), answer(model, batch))


def test_training_leaves_the_statistics_alone_and_moves_the_folded_bias() -> None:
    model = quantized(ranges="learned")
    bias = model.network.bare.bias
    assert any(parameter is bias for parameter in model.parameters())
    before = bias.detach().clone()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    model.train()
    for batch in images(2):
        nn.functional.cross_entropy(model(batch).logits, batch["labels"]).backward()
        optimizer.step()
    assert not torch.equal(model.network.bare.bias, before)
    assert torch.equal(answer(model, images(1)[0]).isfinite(), torch.ones(4, 3, dtype=torch.bool))


def test_the_exported_graph_computes_no_folded_norm(tmp_path: Path) -> None:
    from modelpress.export.onnx import export

    model = quantized()
    [path] = export(model, tmp_path).values()
    graph = onnx.load(path).graph
    kinds = [node.op_type for node in graph.node]
    assert kinds.count("BatchNormalization") == 1
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    batch = images(1)[0]
    [found] = session.run(None, {"x": batch["x"].numpy()})
    np.testing.assert_allclose(found, answer(model, batch).numpy(), atol=0.05)
