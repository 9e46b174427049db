"""The transform that changes nothing, which every stage without reshaping has."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from modelpress.transforms.base import Identity, Transform


@pytest.mark.parametrize("kind", [Transform, Identity])
def test_nothing_is_touched(kind: type[Transform]) -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.Dropout(0.5))
    before = copy.deepcopy(model.state_dict())
    transform = kind()
    assert transform.prepare(model, {}) is model
    transform.step(model, 0.5)
    assert transform.finalize(model) is model
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert model.training
    assert transform.coverage(model) == {}


def test_only_a_transform_that_says_so_is_known_untrained() -> None:
    model = nn.Linear(3, 2)
    assert Identity().reshaped(model) is model
    assert Transform().reshaped(model) is None


def test_it_may_stand_anywhere_but_behind_sixteen_bits() -> None:
    assert Identity.kind == "identity"
    assert Identity.forbidden_after == ("precision",)
    assert Transform.forbidden_after == ()
