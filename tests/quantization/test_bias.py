"""Bias correction takes away what rounding does to the mean of a layer's outputs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from modelpress.quantization import attach, bias
from modelpress.quantization.attach import Scope, set_mode, twins_of
from modelpress.quantization.calibrate import Recipe, calibrate
from tests.quantization import small
from tests.quantization.small import WIDTH, rounded

BATCHES = [{"x": 1 + 0.1 * torch.randn(32, WIDTH, generator=torch.Generator().manual_seed(n))} for n in range(4)]
X = torch.cat([batch["x"] for batch in BATCHES])


def planted() -> small.Small:
    """Every weight of q lies 0.45 of a step above its grid, so that rounding always takes away; inputs are about 1."""
    model = small.model()
    with torch.no_grad():
        steps = torch.randint(-90, 90, (WIDTH, WIDTH), generator=torch.Generator().manual_seed(0)) + 0.45
        steps[:, 0] = 127.0
        small.layer(model, "q").weight.copy_(steps * 0.01)
    return model


def ready(correction: bool) -> small.Small:
    model = planted()
    attach.attach(model, Scope())
    calibrate(model, BATCHES, Recipe(balance=None, bias_correction=correction))
    return model


def shift(model: small.Small, name: str) -> np.ndarray:
    """Mean of the INT8 output minus the float output, on the float network's inputs."""
    twin = small.layer(model, name)
    found: Tensor = (twin(X) - twin.original()(X)).mean(0)
    return found.detach().numpy()


def test_a_planted_shift_is_found_and_removed() -> None:
    model = planted()
    weight, bias = (p.detach().numpy() for p in small.layer(model, "q").parameters())
    x = X.numpy()
    expected = ((rounded(x) @ rounded(weight, 0).T + bias) - (x @ weight.T + bias)).mean(0)
    assert np.abs(expected).min() > 0.04  # about 15 weights x 0.45 of a step of 0.01
    np.testing.assert_allclose(shift(ready(False), "q"), expected, atol=2e-3)
    corrected = ready(True)
    assert np.abs(shift(corrected, "q")).max() < 1e-4
    found = small.layer(corrected, "q").correction
    np.testing.assert_allclose(found.numpy(), -expected, atol=2e-3)


def test_outputs_of_the_network_come_nearer() -> None:
    reference = small.logits(planted(), {"x": X})
    errors = [float((small.logits(ready(on), {"x": X}) - reference).square().mean().detach()) for on in (False, True)]
    assert errors[1] < 0.5 * errors[0]


def test_the_layers_own_bias_and_float_mode_are_untouched() -> None:
    model, reference = ready(True), planted()
    assert torch.equal(small.layer(model, "q").bias, small.layer(reference, "q").bias)
    set_mode(model, "float")
    assert torch.equal(small.logits(model, {"x": X}), small.logits(reference, {"x": X}))


def test_layers_without_bias_keep_none() -> None:
    model = ready(True)
    assert small.layer(model, "k").correction is None
    assert small.layer(model, "k").corrected_bias() is None
    assert small.layer(model, "v").correction.shape == (WIDTH,)


def test_correcting_again_changes_nothing() -> None:
    model = ready(True)
    before = {name: twin.correction for name, twin in twins_of(model).items()}
    bias.correct(model, BATCHES)
    for name, twin in twins_of(model).items():
        torch.testing.assert_close(twin.correction, before[name])


def test_channels_of_a_convolution() -> None:
    model = small.model(small.Convolutions)
    batches = [{"x": batch["x"] + 2} for batch in small.batches(small.Convolutions)]
    attach.attach(model, Scope())
    calibrate(model, batches, Recipe(bias_correction=False))
    twin = small.layer(model, "first")
    x = torch.cat([batch["x"] for batch in batches])
    expected = (twin.original()(x) - twin(x)).mean((0, 2, 3))
    bias.correct(model, batches)
    torch.testing.assert_close(twin.correction, expected.detach(), atol=1e-5, rtol=1e-3)


def test_int8_comes_back_after_a_failure() -> None:
    model = ready(False)
    before = small.logits(model, BATCHES[0])

    class Broken(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise RuntimeError("broken")

    head = model.network.head
    model.network.head = Broken()
    with pytest.raises(RuntimeError, match="broken"):
        bias.correct(model, BATCHES)
    model.network.head = head
    assert torch.equal(small.logits(model, BATCHES[0]), before)
    assert not any(twin._forward_hooks for twin in twins_of(model).values())
