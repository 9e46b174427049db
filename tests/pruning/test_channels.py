"""A small network of convolutions: a residual block, batch norms, a depthwise convolution and a linear head."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from modelpress.errors import ModelPressError
from modelpress.models.base import Batch, Model, Output
from modelpress.pruning.channels import flops, shrink_channels, size


class Convolutions(Model):
    labels: list[str] = ["a", "b", "c"]  # noqa: RUF012  (as in the contract)

    def __init__(self, depthwise: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU())
        self.inside, self.norm = nn.Conv2d(16, 24, 3, padding=1), nn.BatchNorm2d(24)
        self.back = nn.Conv2d(24, 16, 3, padding=1)
        self.depthwise = nn.Conv2d(16, 16, 3, padding=1, groups=16) if depthwise else nn.Identity()
        self.pool, self.head = nn.AdaptiveAvgPool2d(2), nn.Linear(16 * 4, 3)

    def forward(self, batch: Batch) -> Output:
        x = self.stem(batch["pixels"])
        x = x + self.back(torch.relu(self.norm(self.inside(x))))
        return Output(logits=self.head(self.pool(self.depthwise(x)).flatten(1)))

    def example(self) -> dict[str, Tensor]:
        return {"pixels": torch.linspace(-1, 1, 2 * 3 * 8 * 8).reshape(2, 3, 8, 8)}


def batches() -> list[dict[str, Tensor]]:
    return [{"pixels": torch.randn(8, 3, 8, 8), "labels": torch.randint(0, 3, (8,))} for _ in range(2)]


@pytest.mark.parametrize("measure", ["magnitude", "taylor", "random"])
def test_channels_go_through_the_whole_network(measure: str) -> None:
    model = Convolutions().eval()
    full = size(model)
    shrink_channels(model, 0.5, cost=size, measure=measure, round_to=4, batches=batches())
    assert 0.3 * full < size(model) <= 0.5 * full
    kept, inside = model.back.out_channels, model.inside.out_channels
    assert model.stem[0].out_channels == model.stem[1].num_features == model.inside.in_channels == kept < 16  # type: ignore[union-attr]
    assert model.norm.num_features == model.back.in_channels == inside < 24
    assert model.head.in_features == 4 * kept
    assert kept % 4 == inside % 4 == 0
    assert model(model.example()).logits.shape == (2, 3)  # type: ignore[union-attr]


def test_dead_channels_go_first_and_nobody_notices() -> None:
    model = Convolutions().eval()
    dead = [1, 5, 6, 20]
    with torch.no_grad():
        for tensor in (model.inside.weight, model.inside.bias, model.norm.weight, model.norm.bias):
            assert tensor is not None
            tensor[dead] = 0
        model.back.weight[:, dead] = 0
        model.stem[0].weight[:4], model.stem[0].bias[:4] = 0, 0  # type: ignore[index, operator]
        for tensor in (model.stem[1].weight, model.stem[1].bias, model.back.weight, model.back.bias):
            tensor[:4] = 0  # type: ignore[index, operator]
        model.inside.weight[:, :4], model.head.weight[:, :16] = 0, 0
    before = model(model.example()).logits
    shrink_channels(model, 0.8, cost=flops, measure="magnitude", round_to=1)
    assert model.inside.out_channels < 24
    if (model.inside.out_channels, model.back.out_channels) == (20, 12):
        torch.testing.assert_close(model(model.example()).logits, before, atol=1e-5, rtol=0)
    assert set(range(24)) - {1, 5, 6, 20} >= set()
    assert flops(model) <= 0.8 * flops(Convolutions())


def test_multiply_adds_are_another_goal() -> None:
    one = shrink_channels(Convolutions(), 0.5, cost=flops, measure="magnitude", round_to=1)
    assert flops(one) <= 0.5 * flops(Convolutions())


def test_grouped_convolutions_keep_their_channels() -> None:
    model = shrink_channels(Convolutions(depthwise=True), 0.8, cost=size, measure="magnitude", round_to=1)
    assert isinstance(model, Convolutions)
    assert model.back.out_channels == 16
    assert model.inside.out_channels < 24


def test_what_cannot_be_reached_and_what_has_no_channels() -> None:
    with pytest.raises(ModelPressError, match=r"smallest that can be reached is \d+\.\d %"):
        shrink_channels(Convolutions(), 0.05, cost=size, measure="magnitude", round_to=8)
    from tests.pruning.encoders import encoder

    with pytest.raises(ModelPressError, match="TextClassifier has no convolution"):
        shrink_channels(encoder(), 0.5, cost=size, measure="magnitude", round_to=1)
