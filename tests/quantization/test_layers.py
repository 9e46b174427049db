"""The quantized twins against NumPy, and what they share with the layers they replace."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from modelpress.quantization import fake
from modelpress.quantization.layers import TWINS, QuantizedConv2d, QuantizedEmbedding, QuantizedLayer, QuantizedLinear
from modelpress.quantization.quantizers import InputQuantizer
from tests.quantization.small import Floats, rounded

NUMBERS = torch.Generator().manual_seed(0)
X = torch.randn(6, 5, 8, generator=NUMBERS)
IMAGES = torch.randn(2, 4, 9, 7, generator=NUMBERS)


def twin(layer: nn.Module, amax: float = 2.0, balance: Tensor | None = None) -> QuantizedLayer:
    """In evaluation mode, with inputs clipped at ``amax``."""
    inputs = None
    if not isinstance(layer, nn.Embedding):
        inputs = InputQuantizer(axis=1 if isinstance(layer, nn.Conv2d) else -1)
        inputs.scale, inputs.mode, inputs.balance = torch.tensor(amax / 127), "int8", balance
    kind = TWINS[type(layer)]
    made = kind.__new__(kind)
    nn.Module.__init__(made)
    return made.adopt(layer, inputs).eval()


def close(found: Tensor, expected: Floats, step: float) -> None:
    """Equal but for a few inputs so near a tie that 1 / scale decides otherwise."""
    difference = np.abs(found.detach().numpy() - expected)
    assert np.median(difference) < 1e-5
    assert difference.max() < 2 * step


@pytest.mark.parametrize("bias", [True, False])
def test_linear(bias: bool) -> None:
    layer = nn.Linear(8, 3, bias=bias)
    made = twin(layer)
    expected = rounded(X.numpy(), amax=2.0) @ rounded(layer.weight.detach().numpy(), 0).T
    expected = expected + (layer.bias.detach().numpy() if bias else 0)
    close(made(X), expected, 2 / 127)
    assert np.abs(expected - layer(X).detach().numpy()).max() > 1e-3  # it is not the float layer


@pytest.mark.parametrize("bias", [True, False])
def test_convolution(bias: bool) -> None:
    layer = nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2, bias=bias)
    weight = rounded(layer.weight.detach().numpy(), 0)
    expected = F.conv2d(
        torch.from_numpy(rounded(IMAGES.numpy(), amax=2.0)), torch.from_numpy(weight), layer.bias, 2, 1, 1, 2
    )
    close(twin(layer)(IMAGES), expected.detach().numpy(), 2 / 127)


def test_embedding_has_a_scale_per_column() -> None:
    layer = nn.Embedding(20, 8)
    ids = torch.tensor([[0, 19, 3], [3, 3, 7]])
    expected = rounded(layer.weight.detach().numpy(), 1)[ids.numpy()]
    made = twin(layer)
    np.testing.assert_allclose(made(ids).detach().numpy(), expected, atol=1e-6)
    assert made.weight_scale.shape == (8,)
    assert isinstance(made, QuantizedEmbedding)
    made.active = False
    assert torch.equal(made(ids), layer(ids))


def test_balance_moves_from_inputs_to_weights() -> None:
    layer, balance = nn.Linear(8, 3), torch.rand(8) * 4 + 0.2
    made = twin(layer, balance=balance)
    torch.testing.assert_close(made.full_weight(), layer.weight * balance)
    x = rounded(X.numpy() / balance.numpy(), amax=2.0)
    weight = rounded((layer.weight * balance).detach().numpy(), 0)
    close(made(X), x @ weight.T + layer.bias.detach().numpy(), 0.2)
    assert made.inputs is not None
    made.inputs.mode = "float"
    assert torch.equal(made(X), layer(X))  # in float the layer is untouched


def test_parameters_are_the_layers_own_under_its_names() -> None:
    layer = nn.Linear(8, 3)
    made = twin(layer)
    assert made.weight is layer.weight
    assert dict(made.named_parameters()).keys() == {"weight", "bias"}
    assert made.original() is layer
    layer.weight = nn.Parameter(torch.ones(3, 8))  # and stay so when somebody replaces one
    assert made.weight is layer.weight
    made.half().float()
    assert made.weight is layer.weight
    assert isinstance(made, nn.Linear)
    assert (made.in_features, made.out_features) == (8, 3)


def test_a_copy_is_whole() -> None:
    made = twin(nn.Linear(8, 3))
    other = copy.deepcopy(made)
    assert torch.equal(other(X), made(X))
    assert other.original().weight is other.weight is not made.weight
    with torch.no_grad():
        other.weight.zero_()
    assert made.weight.abs().max() > 0


def test_weight_scales_follow_in_training_and_stand_in_evaluation() -> None:
    layer = nn.Linear(8, 3)
    made = twin(layer).train()
    with torch.no_grad():
        layer.weight.mul_(3)
    made(X)
    torch.testing.assert_close(made.weight_scale, layer.weight.detach().abs().amax(1) / 127)
    made.eval()
    before = made.weight_scale.clone()
    with torch.no_grad():
        layer.weight.mul_(3)
    made(X)
    assert torch.equal(made.weight_scale, before)
    made.eval()
    torch.testing.assert_close(made.weight_scale, 3 * before)


def test_training_reaches_weights_inputs_and_bias() -> None:
    layer = nn.Linear(8, 3)
    made = twin(layer, amax=100.0).train()
    x, upstream = X.clone().requires_grad_(), torch.randn(6, 5, 3, generator=NUMBERS)
    (made(x) * upstream).sum().backward()
    x_hat = rounded(X.numpy(), amax=100.0).reshape(-1, 8)
    flat = upstream.numpy().reshape(-1, 3)
    assert layer.weight.grad is not None
    assert layer.bias.grad is not None
    assert x.grad is not None
    np.testing.assert_allclose(layer.weight.grad.numpy(), flat.T @ x_hat, rtol=1e-3, atol=1e-2)
    np.testing.assert_allclose(layer.bias.grad.numpy(), flat.sum(0), rtol=1e-5, atol=1e-5)
    weight = rounded(layer.weight.detach().numpy(), 0)
    np.testing.assert_allclose(x.grad.numpy().reshape(-1, 8), flat @ weight, atol=1e-5)


def test_the_correction_belongs_to_int8_only() -> None:
    layer = nn.Linear(8, 3)
    made = twin(layer)
    without = made(X)
    made.correction = torch.tensor([1.0, 0.0, -2.0])
    torch.testing.assert_close(made(X), without + made.correction)
    assert made.inputs is not None
    made.inputs.mode = "float"
    assert torch.equal(made(X), layer(X))


@pytest.mark.parametrize(
    ("layer", "x", "shape"),
    [
        (nn.Linear(8, 3), X, (8, 3)),
        (nn.Linear(8, 3, bias=False), X, (8, 3)),
        (nn.Conv2d(4, 6, 3), IMAGES, (6, 4, 3, 3)),
        (nn.Embedding(20, 8), torch.tensor([[1, 2], [3, 4]]), (20, 8)),
    ],
    ids=["linear", "no bias", "convolution", "embedding"],
)
def test_while_exporting_integers_compute_the_same(layer: nn.Module, x: Tensor, shape: tuple[int, ...]) -> None:
    made = twin(layer, balance=torch.rand(8) + 0.5 if isinstance(layer, nn.Linear) else None)
    names = list(made.state_dict())
    expected = made(x)
    made.start_export()
    assert made.integers is not None
    assert made.integers.dtype == torch.int8
    assert made.integers.shape == shape
    assert made.integers.is_contiguous()
    torch.testing.assert_close(made(x), expected, atol=1e-5, rtol=1e-5)
    made.end_export()
    made.end_export()  # also after an export that did not come that far
    assert made.integers is made.export_bias is None
    assert list(made.state_dict()) == names
    assert torch.equal(made(x), expected)


def test_integers_are_those_of_the_fake_weights() -> None:
    for layer in (nn.Linear(64, 32), nn.Conv2d(8, 16, 3), nn.Embedding(50, 16)):
        made = twin(layer)
        made.start_export()
        assert made.integers is not None
        q = made.integers.T if isinstance(made, QuantizedLinear) else made.integers
        axis = 1 if isinstance(made, QuantizedEmbedding) else 0
        found = fake.dequantize(q, made.weight_scale, axis)
        same = torch.isclose(found, made.fake_weight(), rtol=1e-5, atol=1e-8)
        assert same.float().mean() > 0.999
        assert isinstance(made, QuantizedLinear | QuantizedConv2d | QuantizedEmbedding)
