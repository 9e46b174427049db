"""The search space: which keys vary, where they come from, and what Optuna makes of them."""

from __future__ import annotations

from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from modelpress.sweep import space


def config(*overrides: str, **sweeper: Any) -> Any:
    hydra = {"sweeper": sweeper, "overrides": {"task": list(overrides)}}
    return OmegaConf.create({"technique": {"prune": {}}, "hydra": hydra})


def test_the_command_line_wins_over_the_file() -> None:
    given = config(
        "a=1", "b=3,4", "c=x", params={"a": "1,2", "d": "5,6"}, spaces={"prune": {"s": "0.1,0.2"}, "qat": {}}
    )
    varied, shared = space.split(given)
    assert list(varied) == ["technique.prune.s", "d", "b"]
    assert shared == ["a=1", "c=x"]
    assert space.swept(given) == list(varied)


def test_a_sweeper_without_parameters() -> None:
    assert space.split(config("a=1")) == ({}, ["a=1"])


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ("interval(1,8)", {"low": 1.0, "high": 8.0, "step": None, "log": False}),
        ("int(interval(1,8))", {"low": 1, "high": 8, "step": 1, "log": False}),
        ("tag(log,interval(1e-5,1e-3))", {"low": 1e-5, "high": 1e-3, "step": None, "log": True}),
        ("range(1,5)", {"low": 1, "high": 4, "step": 1, "log": False}),
        ("range(0.3,0.91,0.05)", {"low": 0.3, "high": 0.9, "step": 0.05, "log": False}),
        ("a,b", {"choices": ("a", "b")}),
    ],
)
def test_distributions(values: str, expected: dict[str, Any]) -> None:
    override = OverridesParser.create().parse_override(f"key={values}")
    assert vars_of(space.distribution(override)) == expected


def vars_of(distribution: Any) -> dict[str, Any]:
    return dict(distribution._asdict())


def test_trials_are_spelled_without_noise() -> None:
    assert space.spelled({"a": 0.1 + 0.2, "b": 3, "c": "x", "d": 1e-5}) == ["a=0.3", "b=3", "c=x", "d=1e-05"]


def test_short_names_stay_different() -> None:
    keys = ["technique.prune.optimizer.lr", "finetune.optimizer.lr", "seed", "lr"]
    assert list(space.short(keys).values()) == ["prune.optimizer.lr", "finetune.optimizer.lr", "seed", "lr"]
