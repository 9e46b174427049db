"""A shape for a budget: on a machine of known costs, and on real (tiny) networks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from modelpress.errors import ModelPressError
from modelpress.pruning import latency as module
from modelpress.pruning.latency import described, equal, fit, layer_macs, reachable, sized, with_layers
from modelpress.pruning.shapes import LayerShape, Shape
from modelpress.pruning.sizing import Sizing
from modelpress.pruning.structure import macs, shape_of
from modelpress.pruning.table import AIM, CHECKS
from modelpress.report.record import Interval
from tests.models.conftest import classifier, tokenizer_folder  # noqa: F401

DENSE = Shape(32, (LayerShape(4, 8, 64),) * 4)
Make = Callable[..., Any]


class Machine:
    """p50 = 0.4 ms + multiply-adds x rate, the last layer at a third of its cost; never measures a shape twice."""

    def __init__(self, rate: float = 1e-6, floor: float = 0.4) -> None:
        self.rate, self.floor = rate, floor
        self.seen: list[Shape] = []

    def ms(self, shape: Shape) -> float:
        *first, last = layer_macs(shape)
        return self.floor + self.rate * (sum(first) + last / 3)

    def __call__(self, model: Any) -> Interval:
        assert not model.training
        self.seen.append(shape_of(model))
        value = self.ms(self.seen[-1])
        return Interval(value, 0.99 * value, 1.01 * value)


@pytest.fixture
def model(classifier: Make) -> Any:  # noqa: F811
    return classifier(hidden_size=32, intermediate_size=64, num_attention_heads=4, num_hidden_layers=4)


def sizing(model: Any, remove: list[str]) -> Sizing:
    return Sizing(model, remove, 8, "latency_ms", lambda count: pytest.fail("no layer is chosen by its score"))


@pytest.mark.parametrize("remove", [["neurons"], ["heads", "neurons", "width"], ["layers"]])
@pytest.mark.parametrize("share", [0.9, 0.7])
def test_the_chosen_shape_meets_the_budget(model: Any, remove: list[str], share: float) -> None:
    machine = Machine(floor=0.05)
    least = machine.ms(reachable(shape_of(model), remove, 8)[-1])
    budget = least + share * (machine.ms(shape_of(model)) - least)
    before = shape_of(model)
    shape = fit(sizing(model, remove), machine, budget)
    assert 1.01 * machine.ms(shape) <= budget
    larger = [other for other in reachable(before, remove, 8) if machine.ms(other) > machine.ms(shape)]
    assert machine.ms(shape) >= 0.85 * budget or machine.ms(larger[-1]) > AIM * budget  # or steps are too coarse
    assert shape_of(model) == before  # only copies were cut
    assert shape in machine.seen  # verified


def test_a_table_serves_every_prediction(model: Any) -> None:
    machine = Machine()
    fit(sizing(model, ["neurons"]), machine, machine.ms(shape_of(model)) * 0.9)
    probes = [shape for shape in machine.seen if len(shape.layers) < 4]
    assert {len(shape.layers) for shape in probes} == {1, 3}
    assert len(probes) <= 2 * module.POINTS
    assert len(machine.seen) - len(probes) <= CHECKS


def test_an_unreachable_budget_names_the_smallest(model: Any) -> None:
    machine = Machine(floor=2.0)
    least = machine.ms(reachable(shape_of(model), ["neurons"], 8)[-1])
    with pytest.raises(ModelPressError, match=rf"budget\.latency_ms is 1, but removing neurons reaches {least:.3g} ms"):
        fit(sizing(model, ["neurons"]), machine, 1.0)


@pytest.mark.parametrize(
    ("latency", "budget", "words"),
    [(None, 3.0, "no engine here to measure on"), (Machine(), None, "Set it: budget.latency_ms=")],
)
def test_what_is_missing_is_said(model: Any, latency: Any, budget: float | None, words: str) -> None:
    with pytest.raises(ModelPressError, match=words):
        fit(sizing(model, ["neurons"]), latency, budget)


def test_a_network_that_is_fast_enough_stays(model: Any) -> None:
    assert fit(sizing(model, ["neurons"]), Machine(), 1000.0) == shape_of(model)


def test_layers_are_dropped_until_both_are_as_slow(model: Any) -> None:
    machine = Machine(floor=0.0)
    rival = sized(model, Shape(32, (LayerShape(4, 8, 16),) * 4))
    found = equal(model, machine, rival, remove=["layers"], round_to=8)
    dense = shape_of(model)
    best = min(range(1, 5), key=lambda n: abs(machine.ms(with_layers(dense, n)) - machine.ms(shape_of(rival))))
    assert found == with_layers(dense, best)
    assert len(machine.seen) <= 4


def test_reachable_shapes_shrink_and_begin_with_the_dense_one() -> None:
    assert [len(shape.layers) for shape in reachable(DENSE, ["layers"], 8)] == [4, 3, 2, 1]
    ladder = reachable(DENSE, ["heads", "neurons"], 8)
    costs = [macs(shape, 128) for shape in ladder]
    assert ladder[0] == DENSE
    assert costs == sorted(costs, reverse=True)
    assert len(set(ladder)) == len(ladder) > 4


def test_each_layer_is_counted_alone() -> None:
    mixed = Shape(32, (LayerShape(4, 8, 64), LayerShape(2, 8, 16)))
    assert sum(layer_macs(mixed)) == macs(mixed, module.TOKENS)
    assert layer_macs(mixed)[0] > layer_macs(mixed)[1] > 0


def test_words() -> None:
    assert described(DENSE) == "4 layers of 32, 4 heads of 8 and 64 neurons"
    mixed = Shape(32, (LayerShape(4, 8, 64), LayerShape(2, 8, 16)))
    assert described(mixed) == "2 layers of 32, 2–4 heads of 8 and 16–64 neurons"
