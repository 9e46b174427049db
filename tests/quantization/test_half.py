"""The 16-bit run on PyTorch: the same roundings as PyTorch's own autocast, and what it sees where."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from modelpress.models.classifier import TextClassifier
from modelpress.quantization.half import Half, Seen, relative_error
from tests.models.conftest import tiny
from tests.quantization import loud

KINDS = {"fp16": torch.float16, "bf16": torch.bfloat16}


def look(model: nn.Module, kind: str, batch: dict[str, Tensor], *pinned: str) -> Seen:
    half = Half(model, kind, pinned, rounding=False)
    with half.running():
        model(batch)
    return half.seen


def rounded(model: nn.Module, kind: str, batch: dict[str, Tensor], *pinned: str) -> Tensor:
    with Half(model, kind, pinned, rounding=True).running():
        logits: Tensor = model(batch).logits
    return logits


@pytest.mark.parametrize("kind", KINDS)
def test_one_layer_by_hand(kind: str) -> None:
    """Inputs, weights and bias rounded, the sum in float32, the result rounded."""
    model = loud.Wrapped(nn.Linear(loud.WIDTH, 2))
    (batch,) = loud.batches(1, scale=1.0)

    def r(x: Tensor) -> Tensor:
        return x.to(KINDS[kind]).float()

    layer: Any = model.network
    by_hand = r(r(batch["x"]) @ r(layer.weight).T + r(layer.bias))
    assert torch.equal(rounded(model, kind, batch), by_hand)
    assert not torch.equal(by_hand, model(batch).logits)


def test_pinned_everywhere_is_float32() -> None:
    model, (batch,) = loud.model(), loud.batches(1)
    assert torch.equal(rounded(model, "fp16", batch, "network"), model(batch).logits)
    assert look(model, "fp16", batch, "network") == Seen()


def test_looking_changes_nothing() -> None:
    model, (batch,) = loud.model(), loud.batches(1)
    half = Half(model, "fp16", rounding=False)
    with half.running():
        logits = model(batch).logits
    assert torch.equal(logits, model(batch).logits)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_hooks_go_even_after_an_error() -> None:
    model = loud.model()
    with pytest.raises(RuntimeError), Half(model, "fp16", rounding=False).running():
        model({"x": torch.ones(2, loud.WIDTH + 1)})
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_values_are_those_of_each_layer() -> None:
    model, (batch,) = loud.model(), loud.batches(1)
    network: Any = model.network
    seen = look(model, "bf16", batch)
    first = network.first(batch["x"])
    assert seen.layers["network.first"].largest == pytest.approx(float(batch["x"].abs().max()))
    assert seen.layers["network.loud"].largest == pytest.approx(float(network.loud(first).detach().abs().max()))
    assert "network.norm" not in seen.layers
    assert seen.last_product == "network.head"
    assert seen.parameters == {name for name, _ in model.named_parameters() if "norm" not in name}
    assert all(0 < seen.layers[f"network.{name}"].error < 2**-8 for name in ("first", "loud", "quiet", "head"))


class InPlace(nn.Module):
    """Operators that write into their input, views, and constants that are not weights of a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(loud.WIDTH, loud.WIDTH), nn.Linear(loud.WIDTH, 2)
        self.shift = nn.Parameter(torch.rand(loud.WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x)
        y.mul_(1 / 3)
        y[:, 1:].relu_()
        logits: Tensor = self.b((y + self.shift).view(-1, loud.WIDTH))
        return logits


def test_in_place_operators_and_views_round_where_they_write() -> None:
    model = loud.Wrapped(InPlace())
    (batch,) = loud.batches(1, scale=1.0)
    net: Any = model.network

    def r(x: Tensor) -> Tensor:
        return x.bfloat16().float()

    y = r(r(r(batch["x"]) @ r(net.a.weight).T + r(net.a.bias)) * (1 / 3))
    y[:, 1:] = y[:, 1:].relu()
    by_hand = r(r(r(y + r(net.shift)) @ r(net.b.weight).T + r(net.b.bias)))
    assert torch.allclose(rounded(model, "bf16", batch), by_hand, atol=0, rtol=2**-8)
    seen = look(model, "bf16", batch)
    assert seen.parameters == {name for name, _ in model.named_parameters()}
    assert set(seen.layers) == {"network.a", "network", "network.b"}


def test_a_classifier_rounds_as_in_autocast() -> None:
    """PyTorch's autocast, an independent judge, makes errors of the same size; padding masks overflow nowhere."""
    model = TextClassifier(tiny("bert"), ["a", "b", "c"], Path())
    batch = model.example()
    exact = model(batch).logits.detach()
    ours = rounded(model, "bf16", batch)
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        theirs = model(batch).logits.float()
    errors = [relative_error(given, exact) for given in (ours, theirs)]
    assert all(0 < error < 0.05 for error in errors)
    assert 0.2 < errors[0] / errors[1] < 5
    assert rounded(model, "fp16", batch).isfinite().all()
    assert relative_error(rounded(model, "fp16", batch), exact) < errors[0] / 3


def test_attention_belongs_to_its_module() -> None:
    model = TextClassifier(tiny("bert"), ["a", "b", "c"], Path())
    layers = look(model, "fp16", model.example()).layers
    assert layers["network.bert.encoder.layer.0.attention.self"].error > 0  # its products are functions, not layers
    assert all(layer.largest < 1e4 for layer in layers.values())  # the mask's lowest float is none of the values


def test_error_of_nothing_is_nothing() -> None:
    assert relative_error(torch.zeros(2), torch.zeros(2)) == 0
    assert relative_error(torch.empty(0), torch.empty(0)) == 0
    assert relative_error(torch.tensor([1.0, 3.0]), torch.tensor([1.0, 1.0])) == pytest.approx(2**0.5)
