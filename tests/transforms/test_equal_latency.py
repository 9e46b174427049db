"""The arm of equal latency: layers go until it is as slow as its rival."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from modelpress.errors import ModelPressError
from modelpress.pruning.latency import sized
from modelpress.pruning.shapes import LayerShape, Shape
from modelpress.pruning.structure import macs, shape_of
from modelpress.report.record import Interval
from modelpress.transforms.base import Context
from modelpress.transforms.equal_latency import EqualLatency
from tests.models.conftest import classifier, tokenizer_folder  # noqa: F401

OPTIONS: dict[str, Any] = {"sparsity": 0.5, "target": "latency_ms", "budget_ms": 3.0, "round_to": 8, "samples": 4}
Make = Callable[..., Any]


def latency(model: Any) -> Interval:
    ms = macs(shape_of(model), 128) / 1e6
    return Interval(ms, ms, ms)


@pytest.fixture
def model(classifier: Make) -> Any:  # noqa: F811
    return classifier(hidden_size=32, intermediate_size=64, num_attention_heads=4, num_hidden_layers=4)


def context(model: Any, rival: Any) -> Context:
    batch = {**model.example(), "labels": torch.zeros(2, dtype=torch.long)}
    return Context(model.example(), lambda *_: [batch], lambda: [batch], latency=latency, rival=lambda: rival)


@pytest.mark.parametrize(("neurons", "layers"), [(64, 4), (16, 3), (8, 3)])
def test_layers_go_until_both_are_as_slow(model: Any, neurons: int, layers: int) -> None:
    whole = shape_of(model)
    rival = sized(model, Shape(32, (LayerShape(4, 8, neurons),) * 4))
    target = latency(rival).value
    expected = min(range(1, 5), key=lambda n: abs(macs(Shape(32, whole.layers[:n]), 128) / 1e6 - target))
    transform = EqualLatency(**OPTIONS, remove=["layers"])
    pruned: Any = transform.prepare(model, context(model, rival))
    assert shape_of(pruned) == Shape(32, whole.layers[:expected])
    assert expected == layers
    assert pruned(pruned.example()).logits.shape == (2, 3)


def test_it_is_made_narrower_where_the_rival_lost_layers(model: Any) -> None:
    rival = sized(model, Shape(32, shape_of(model).layers[:2]))
    transform = EqualLatency(**OPTIONS, remove=["neurons"])
    pruned: Any = transform.prepare(model, context(model, rival))
    assert shape_of(pruned).layers == (LayerShape(4, 8, 8),) * 4  # the least, still slower than two layers
    assert transform.coverage(pruned)["sparsity"] > 0


def test_without_a_rival_it_says_so(model: Any) -> None:
    with pytest.raises(ModelPressError, match="needs a rival"):
        EqualLatency(**OPTIONS, remove=["layers"]).prepare(model, Context({}, lambda *_: [], lambda: []))
