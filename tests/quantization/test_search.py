"""The fewest layers in float that keep a limit, where we know which they are."""

from __future__ import annotations

import math

import pytest
import torch

from modelpress.errors import ModelPressError
from modelpress.models.attention import PRODUCTS
from modelpress.quantization import sensitivity
from modelpress.quantization.attach import float_layers, products_of, release, set_mode, twins_of
from modelpress.quantization.search import search
from tests.quantization.uneven import Uneven, batches, calibrated


def quantized(model: Uneven, **scope: object) -> list[dict[str, torch.Tensor]]:
    labelled = batches(model)
    calibrated(model, labelled, **scope)
    return labelled


def drop_of(model: Uneven, labelled: list[dict[str, torch.Tensor]]) -> float:
    """Metric drop of the model as it stands, counted item by item."""
    plain = Uneven(model.outliers, model.product_outlier, model.harm)
    hits = [0, 0]
    with torch.no_grad():
        for batch in labelled:
            for number, network in enumerate((plain, model)):
                hits[number] += int((network(batch).logits.argmax(1) == batch["labels"]).sum())
    return (hits[0] - hits[1]) / sum(len(batch["labels"]) for batch in labelled)


def test_exactly_the_sensitive_layer_stays_in_float() -> None:
    model = Uneven({"calm": 0.0, "loud": 300.0})
    labelled = quantized(model)
    names, report = search(model, labelled, 0.01)
    assert names == ["loud.loud"]
    assert report["drop_all_int8"] > 0.05
    assert report["drop"] <= 0.01
    assert report["max_metric_drop"] == 0.01
    assert report["why"].startswith("1 layer stays float: with it in INT8")
    assert report["sensitivity"][0]["layers"] == ("loud.loud",)
    release(model, names)
    assert float_layers(model) == names
    assert drop_of(model, labelled) == pytest.approx(report["drop"])


def test_two_sensitive_layers_and_no_third() -> None:
    model = Uneven({"first": 300.0, "calm": 0.0, "second": 250.0})
    labelled = quantized(model)
    names, report = search(model, labelled, 0.01)
    assert set(names) == {"loud.first", "loud.second"}
    assert report["drop"] <= 0.01


def test_layers_with_one_input_stay_float_together() -> None:
    """What spoils ``left`` spoils ``right``: both read the same tensor. A table with huge columns does that."""
    model = Uneven({"calm": 0.0})
    with torch.no_grad():
        model.table.weight[:, 0] = 500.0
        model.left.weight[:, 0] = model.right.weight[:, 0] = 0.0
    labelled = quantized(model)
    names, report = search(model, labelled, 0.01)
    assert names == ["left", "right"]
    assert report["why"].startswith("2 layers stay float: with them")


def test_a_large_error_that_changes_no_prediction_returns_to_int8() -> None:
    """``harmless`` leads the ranking, so that bisection takes it; trying it in INT8 again shows that it may stay."""
    model = Uneven({"loud": 300.0}, harmless=30_000.0)
    labelled = quantized(model)
    names, report = search(model, labelled, 0.01)
    assert report["sensitivity"][0]["layers"] == ("harmless",)
    assert report["sensitivity"][0]["disagreement"] == 0.0
    assert names == ["loud.loud"]


def test_a_limit_that_is_met_leaves_nothing_in_float() -> None:
    model = Uneven({"calm": 0.0})
    labelled = quantized(model)
    names, report = search(model, labelled, 0.05)
    assert names == []
    assert report["drop"] == report["drop_all_int8"] <= 0.05
    assert report["why"] == "INT8 everywhere keeps the limit"
    assert "sensitivity" not in report  # nothing had to be measured
    assert float_layers(model) == []
    assert drop_of(model, labelled) == pytest.approx(report["drop"])


def test_a_stricter_limit_never_leaves_less_in_float() -> None:
    found = []
    for limit in (0.3, 0.05, 0.01, 0.0):
        model = Uneven({"first": 300.0, "second": 150.0, "third": 80.0})
        labelled = quantized(model)
        names, report = search(model, labelled, limit)
        assert report["drop"] <= limit
        found.append(len(names))
    assert found == sorted(found)
    assert found[0] < found[-1]


@pytest.mark.parametrize("limit", [-0.01, 1.0, 5, math.nan])
def test_a_limit_that_is_no_share(limit: float) -> None:
    model = Uneven({"calm": 0.0})
    labelled = quantized(model)
    with pytest.raises(ModelPressError, match="max_metric_drop is .*allowed: 0 to 1"):
        search(model, labelled, limit)
    assert twins_of(model)


def test_products_of_attention_return_to_float_too() -> None:
    model = Uneven({"calm": 0.0}, product_outlier=300.0)
    labelled = quantized(model, attention=True)
    set_mode(model, "float")
    assert sensitivity.answers(model, labelled).accuracy > 0.8
    names, report = search(model, labelled, 0.01)
    assert [name for name in names if name.endswith(PRODUCTS)]
    assert report["drop"] <= 0.01 < report["drop_all_int8"]
    release(model, names)
    assert not products_of(model)
    assert sensitivity.answers(model, labelled).accuracy > 0.8
