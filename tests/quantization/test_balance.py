"""SmoothQuant's factors against NumPy; float outputs stay, INT8 outputs with outlier channels improve."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from modelpress.errors import ModelPressError
from modelpress.quantization import attach, balance
from modelpress.quantization.attach import Scope, quantizers_of, twins_of
from modelpress.quantization.balance import ALPHAS, ROWS, Seen, alphas, best, factors, watching
from modelpress.quantization.calibrate import Recipe, calibrate, run
from tests.models.conftest import classifier, tokenizer_folder
from tests.quantization import small
from tests.quantization.small import WIDTH, Floats, rounded

__all__ = ["classifier", "tokenizer_folder"]
NUMBERS = np.random.default_rng(0)
OUTLIERS = (3, 11)


def planted(items: int = 64, size: float = 60.0, seed: int = 0) -> Tensor:
    """Rows (items, WIDTH) of which two channels are ``size`` times as large as the others."""
    x = np.random.default_rng(seed).normal(size=(items, WIDTH)).astype(np.float32)
    x[:, OUTLIERS] *= size
    return torch.from_numpy(x)


def int8_error(x: Floats, weights: list[Floats], s: Floats) -> float:
    """Squared error of products in INT8 after balancing by ``s``, in NumPy."""
    return sum(float(np.square(rounded(x / s) @ rounded(w * s, 0).T - x @ w.T).sum()) for w in weights)


@pytest.mark.parametrize("alpha", [0.25, 0.5, 1.0])
def test_factors_are_smoothquants_with_geometric_mean_one(alpha: float) -> None:
    x, w = np.abs(NUMBERS.normal(size=(2, 9))) + 0.01
    raw = x**alpha / w ** (1 - alpha)
    found = factors(torch.from_numpy(x), torch.from_numpy(w), alpha).numpy()
    np.testing.assert_allclose(found, raw / np.exp(np.log(raw).mean()), rtol=1e-5)
    assert np.log(found).mean() == pytest.approx(0, abs=1e-5)


def test_silent_channels_do_not_divide_by_zero() -> None:
    found = factors(torch.tensor([0.0, 1.0, 2.0]), torch.tensor([1.0, 0.0, 1.0]), 0.5)
    assert torch.isfinite(found).all()
    assert (found > 0).all()


@pytest.mark.parametrize("shape", [(4, 30, 6), (120, 6)])
def test_what_is_seen_of_an_input(shape: tuple[int, ...]) -> None:
    seen, parts = Seen(), [NUMBERS.normal(size=shape).astype(np.float32) for _ in range(12)]
    for part in parts:
        seen.add(torch.from_numpy(part))
    flat = [part.reshape(-1, 6) for part in parts]
    assert seen.maxima is not None
    np.testing.assert_array_equal(seen.maxima.numpy(), np.abs(np.concatenate(flat)).max(0))
    rows = torch.cat(seen.rows).numpy()
    assert {tuple(row) for row in rows} <= {tuple(row) for part in flat for row in part}
    counts = [len(found) for found in seen.rows]
    assert max(counts) <= 64
    assert len(counts) == 12  # some of every batch
    for _ in range(30):
        seen.add(torch.from_numpy(parts[0]))
    assert ROWS <= sum(map(len, seen.rows)) < ROWS + 64


def test_search_is_never_worse_than_no_balance_and_takes_the_least_error() -> None:
    for case in range(12):
        x = planted(48, size=float(NUMBERS.choice([1, 1, 5, 100])), seed=case)
        weights = [torch.from_numpy(NUMBERS.normal(size=(n, WIDTH)).astype(np.float32)) for n in (8, 5)]
        arrays = [w.numpy() for w in weights]
        seen = Seen()
        seen.add(x)
        rows = torch.cat(seen.rows).numpy()
        alpha, taken = best(seen, weights, alphas("search"))
        columns = np.max([np.abs(w).max(0) for w in arrays], axis=0)
        ones = np.ones(WIDTH, np.float32)
        errors: dict[float | None, float] = {None: int8_error(rows, arrays, ones)}
        for option in ALPHAS:
            raw = np.abs(x.numpy()).max(0) ** option / columns ** (1 - option)
            errors[option] = int8_error(rows, arrays, (raw / np.exp(np.log(raw).mean())).astype(np.float32))
        assert (taken is None) == (alpha is None)
        assert errors[alpha] <= errors[None]
        assert errors[alpha] <= 1.02 * min(errors.values())


def answering() -> small.Small:
    """A network whose weights for the outlier channels are as small as the channels are large."""
    model = small.model()
    with torch.no_grad():
        for name in "qkv":
            small.layer(model, name).weight[:, OUTLIERS] /= 60
    return model


def prepared(model: small.Small, batches: list[dict[str, Tensor]], recipe: Recipe) -> dict[str, Any]:
    attach.attach(model, Scope())
    return calibrate(model, batches, recipe)


def test_planted_outliers_cost_little_with_balance() -> None:
    """Error (root mean square) of the outputs of q, k and v: a tenth of what it was."""
    batches = [{"x": planted(seed=seed)} for seed in range(6)]
    x = planted(seed=99)
    errors = {}
    for option in (None, 0.5, "search"):
        model = answering()
        decided = prepared(model, batches, Recipe(balance=option, bias_correction=False))
        assert set(decided["balance"]) == (set() if option is None else {"network.q", "network.out"})
        wanted = [small.layer(model, name).original()(x) for name in "qkv"]
        found = [small.layer(model, name)(x) for name in "qkv"]
        errors[option] = sum(float((a - b).square().mean().detach()) for a, b in zip(found, wanted, strict=True)) ** 0.5
    assert errors["search"] < 0.1 * errors[None]
    assert errors["search"] <= 1.05 * errors[0.5]


def test_float_outputs_stay_within_rounding() -> None:
    """Balanced inputs times balanced weights, before anything is quantized."""
    model = small.model()
    batches = [{"x": planted(seed=seed)} for seed in range(3)]
    prepared(model, batches, Recipe(balance="search"))
    x = planted(seed=7)
    for twin in twins_of(model).values():
        assert twin.inputs is not None
        assert twin.inputs.balance is not None
        original = twin.original()
        assert isinstance(original, nn.Linear)
        found = nn.functional.linear(twin.inputs.balanced(x), twin.full_weight(), twin.plain_bias)
        torch.testing.assert_close(found, original(x), rtol=1e-5, atol=1e-5 * float(x.abs().max()))


def test_logits_stay_too_as_long_as_nothing_is_rounded(
    classifier: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A whole post-LayerNorm network, whose LayerNorms feed residuals that must not be balanced."""
    model = classifier()
    batch = model.example()
    expected = model(batch).logits
    attach.attach(model, Scope())
    calibrate(model, [batch], Recipe(balance=1.0, bias_correction=False))
    assert all(quantizer.balance is not None for quantizer in quantizers_of(model).values())
    assert (model(batch).logits - expected).abs().max() > 1e-3
    monkeypatch.setattr("modelpress.quantization.fake.fake_quantize", lambda x, scale, axis=None: x)
    torch.testing.assert_close(model(batch).logits, expected, atol=1e-5, rtol=1e-5)


def test_all_readers_of_an_input_share_its_factors() -> None:
    model = small.model()
    with torch.no_grad():
        small.layer(model, "v").weight[:, 5] *= 50  # only v minds
    attach.attach(model, Scope())
    quantizers = quantizers_of(model)
    with watching(twins_of(model)) as seen:
        run(model, [{"x": planted()}])
    assert [len(rows) for rows in seen[quantizers["network.q"]].rows] == [64]  # once, not once per reader
    balance.apply(twins_of(model), seen, 0.5)
    shared = quantizers["network.q"]
    weights = np.stack([np.abs(small.layer(model, name).weight.detach().numpy()).max(0) for name in "qkv"]).max(0)
    raw = np.sqrt(np.abs(planted().numpy()).max(0) / weights)
    assert shared.balance is not None
    np.testing.assert_allclose(shared.balance.numpy(), raw / np.exp(np.log(raw).mean()), rtol=1e-4)
    assert all(quantizer.watch is None for quantizer in quantizers.values())


def test_convolutions_are_left_alone() -> None:
    model = small.model(small.Convolutions)
    decided = prepared(model, small.batches(small.Convolutions), Recipe())
    assert decided["balance"] == {}
    assert all(quantizer.balance is None for quantizer in quantizers_of(model).values())


def test_watching_ends_whatever_happens() -> None:
    model = small.model()
    attach.attach(model, Scope())
    with pytest.raises(KeyError), watching(twins_of(model)):
        raise KeyError
    assert all(quantizer.watch is None for quantizer in quantizers_of(model).values())


@pytest.mark.parametrize("alpha", [0, -0.5, 1.5, "auto", float("nan")])
def test_other_values_are_refused(alpha: Any) -> None:
    with pytest.raises(ModelPressError, match="transform.balance is .*; allowed: search, a number above 0 up to 1"):
        alphas(alpha)
    assert alphas(1) == (1.0,)
    assert alphas("search")[0] is None
