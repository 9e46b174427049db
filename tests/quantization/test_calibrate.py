"""From calibration batches to ranges, and every kind of batch that cannot be used."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from modelpress.errors import ModelPressError
from modelpress.quantization import attach
from modelpress.quantization.attach import Scope, quantizers_of, twins_of
from modelpress.quantization.calibrate import Recipe, calibrate
from tests.quantization import small

BATCHES = small.batches()
INPUTS = np.concatenate([batch["x"].numpy() for batch in BATCHES])


def attached(**scope: Any) -> small.Small:
    model = small.model()
    attach.attach(model, Scope(**scope))
    return model


def scale_of(recipe: Recipe, name: str = "network.q") -> float:
    model = attached()
    calibrate(model, BATCHES, recipe)
    return float(quantizers_of(model)[name].scale)


def test_minmax_of_every_input_over_all_batches() -> None:
    model, hidden = attached(), []
    hook = small.layer(model, "out").register_forward_pre_hook(lambda _, given: hidden.append(given[0]))
    with torch.no_grad():
        for batch in BATCHES:
            model(batch)
    hook.remove()
    calibrate(model, BATCHES, Recipe(balance=None))
    quantizers = quantizers_of(model)
    assert float(quantizers["network.q"].scale) == pytest.approx(np.abs(INPUTS).max() / 127)
    assert float(quantizers["network.out"].scale) == pytest.approx(float(torch.cat(hidden).abs().max()) / 127)
    assert {quantizer.mode for quantizer in quantizers.values()} == {"int8"}
    assert not model.training


def test_the_recipe_names_the_calibrator_and_its_options() -> None:
    plain = {"balance": None}
    moving = 0.0
    for batch in BATCHES:
        largest = float(batch["x"].abs().max())
        moving = 0.5 * moving + 0.5 * largest if moving else largest
    assert scale_of(Recipe("moving_average", {"momentum": 0.5}, **plain)) == pytest.approx(moving / 127)  # type: ignore[arg-type]
    percentile = np.quantile(np.abs(INPUTS), 0.9) / 127
    assert scale_of(Recipe("percentile", {"percentile": 90}, **plain)) == pytest.approx(percentile, rel=0.01)  # type: ignore[arg-type]
    for calibrator in ("entropy", "mse"):
        assert 0 < scale_of(Recipe(calibrator, **plain)) <= scale_of(Recipe(**plain))  # type: ignore[arg-type]


def test_ranges_are_those_of_the_balanced_inputs() -> None:
    model = attached()
    calibrate(model, BATCHES, Recipe(balance=0.5))
    quantizer = quantizers_of(model)["network.q"]
    assert quantizer.balance is not None
    assert float(quantizer.scale) == pytest.approx(np.abs(INPUTS / quantizer.balance.numpy()).max() / 127)
    for twin in twins_of(model).values():
        expected = twin.full_weight().detach().abs().amax(1) / 127
        torch.testing.assert_close(twin.weight_scale, expected)


def test_what_was_decided_is_json() -> None:
    model = attached()
    decided = calibrate(model, BATCHES, Recipe())
    assert json.loads(json.dumps(decided)) == decided
    assert decided["calibrator"] == "minmax"
    assert set(decided["balance"]) == {"network.q", "network.out"}
    assert calibrate(attached(), BATCHES, Recipe(balance=0.7))["balance"] == {"network.q": 0.7, "network.out": 0.7}


def passes(recipe: Recipe, **scope: Any) -> list[str]:
    seen: list[str] = []

    def track(items: Iterable[Any], title: str) -> Iterable[Any]:
        seen.append(title)
        return items

    calibrate(attached(**scope), BATCHES, recipe, track)
    return seen


def test_passes_over_the_data_are_only_those_needed() -> None:
    assert passes(Recipe()) == ["balancing", "calibrating", "correcting biases"]
    assert passes(Recipe(balance=None, bias_correction=False)) == ["calibrating"]
    assert passes(Recipe(balance=None, bias_correction=False), activations="dynamic") == []
    assert passes(Recipe(), activations="dynamic") == ["balancing", "correcting biases"]


def test_calibrating_is_repeatable() -> None:
    models = attached(), attached()
    for model in models:
        calibrate(model, BATCHES, Recipe())
    once, twice = (small.logits(model, BATCHES[0]) for model in models)
    assert torch.equal(once, twice)
    calibrate(models[0], BATCHES, Recipe())
    torch.testing.assert_close(small.logits(models[0], BATCHES[0]), once)


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        ([], "Calibration got no batch: give it at least one sample"),
        ([{"y": BATCHES[0]["x"]}], "Calibration batch 0 lacks the input 'x' of Small; it has 'y'"),
        ([BATCHES[0], {"x": BATCHES[0]["x"][None]}], r"batch 1: 'x' has shape \(1, 16, 16\); Small takes 2 axes"),
    ],
    ids=["none", "another name", "another rank"],
)
def test_batches_that_do_not_fit(batches: list[dict[str, Tensor]], message: str) -> None:
    model = attached()
    with pytest.raises(ModelPressError, match=message):
        calibrate(model, batches, Recipe())
    assert torch.isnan(quantizers_of(model)["network.q"].scale)  # nothing was begun


@pytest.mark.parametrize("balance", [None, "search"])
@pytest.mark.parametrize(
    ("value", "message"),
    [
        (float("nan"), "observer of 'network.q' met 1 NaN and 0 infinite values among 256"),
        (float("inf"), "observer of 'network.q' met 0 NaN and 1 infinite values among 256"),
    ],
)
def test_activations_that_are_no_numbers(value: float, message: str, balance: str | None) -> None:
    broken = BATCHES[0]["x"].clone()
    broken[3, 5] = value
    with pytest.raises(ModelPressError, match=message):
        calibrate(attached(), [BATCHES[1], {"x": broken}], Recipe(balance=balance))


def test_activations_that_are_all_zero() -> None:
    message = "observer of 'network.q' cannot choose a range: every value was 0, over 256 values"
    with pytest.raises(ModelPressError, match=message):
        calibrate(attached(), [{"x": torch.zeros(16, 16)}], Recipe())


def test_a_constant_is_no_fault() -> None:
    model, batch = attached(), {"x": torch.full((4, 16), 0.7)}
    calibrate(model, [batch], Recipe(balance=None))
    assert float(quantizers_of(model)["network.q"].scale) == pytest.approx(0.7 / 127)
    torch.testing.assert_close(small.logits(model, batch), small.logits(small.model(), batch), atol=0.02, rtol=0)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"calibrator": "kl"}, "calibrator is 'kl'; allowed: 'minmax', 'moving_average', 'percentile'"),
        ({"calibrator": "minmax", "options": {"percentile": 99}}, "option of calibrator 'minmax' is 'percentile'"),
        ({"calibrator": "percentile", "options": {"percentile": 30}}, "percentile is 30; it must be"),
        ({"balance": 2.0}, "transform.balance is 2.0"),
    ],
)
def test_a_wrong_recipe_stops_when_it_is_written(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelPressError, match=message):
        Recipe(**given)
