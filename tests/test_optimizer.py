"""Schedules, parameter groups and the optimizer's own ranges."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from modelpress.errors import ModelPressError
from modelpress.optimizer import OptimizerConfig, make, parameter_groups, rate


def test_linear_warmup_then_linear_decay() -> None:
    config = OptimizerConfig(warmup=0.2, schedule="linear")
    assert [rate(config, step, 10) for step in (0, 1, 2, 6, 10)] == [0.0, 0.5, 1.0, 0.5, 0.0]


def test_cosine_matches_the_closed_form() -> None:
    config = OptimizerConfig(warmup=0.0, schedule="cosine")
    for step in range(11):
        assert rate(config, step, 10) == pytest.approx((1 + math.cos(math.pi * step / 10)) / 2)


def test_constant_stays_and_never_leaves_zero_to_one() -> None:
    config = OptimizerConfig(warmup=0.1, schedule="constant")
    assert {rate(config, step, 100) for step in range(10, 120)} == {1.0}
    linear = OptimizerConfig(warmup=0.0)
    assert rate(linear, 150, 100) == 0.0


def test_biases_and_norms_do_not_decay() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.LayerNorm(3), nn.Embedding(5, 3))
    decayed, plain = parameter_groups([model], 0.1)
    assert {tuple(p.shape) for p in decayed["params"]} == {(3, 4), (5, 3)}
    assert {tuple(p.shape) for p in plain["params"]} == {(3,)}
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.1, 0.0)


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_a_step_follows_the_schedule(name: str) -> None:
    model = nn.Linear(2, 1)
    optimizer, schedule = make(OptimizerConfig(name=name, lr=0.1, warmup=0.5), [model], 4, fused=True)
    before = model.weight.detach().clone()
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()  # rate 0 at the first step of the warm-up
    assert torch.equal(model.weight, before)
    schedule.step()
    optimizer.step()
    assert not torch.equal(model.weight, before)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.05)


@pytest.mark.parametrize(
    "fault", [{"lr": 0.0}, {"warmup": 1.0}, {"weight_decay": -1.0}, {"name": "adam_w"}, {"schedule": "step"}]
)
def test_values_out_of_range_are_named(fault: dict[str, object]) -> None:
    with pytest.raises(ModelPressError, match=next(iter(fault))):
        OptimizerConfig(**fault)  # type: ignore[arg-type]
