from __future__ import annotations

import pytest
import torch
from torch import nn

from modelpress.models.fit import load_fitted


class Layered(nn.Module):
    """Convolutions with a depthwise one between, then a stack of layers."""

    def __init__(self, channels: int, width: int, layers: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, channels, 3, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        self.middle = nn.Conv2d(channels, channels, 3, groups=channels)
        self.layers = nn.ModuleList([nn.Linear(channels, width), *(nn.Linear(width, width) for _ in range(layers))])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.middle(self.norm(self.first(x))).mean((2, 3))
        for layer in self.layers:
            x = layer(x)
        return x


def test_a_network_takes_the_shape_of_its_weights() -> None:
    torch.manual_seed(0)
    small, large = Layered(4, 5, 1).eval(), Layered(8, 16, 3).eval()
    load_fitted(large, small.state_dict())
    images = torch.randn(2, 3, 9, 9)
    torch.testing.assert_close(large(images), small(images), atol=0, rtol=0)
    assert (large.first.out_channels, large.middle.groups, large.norm.num_features) == (4, 4, 4)
    assert (len(large.layers), large.layers[0].in_features, large.layers[0].out_features) == (2, 4, 5)


def test_weights_that_are_missing_or_unknown_are_an_error() -> None:
    state = Layered(4, 5, 1).state_dict()
    del state["first.weight"]
    with pytest.raises(RuntimeError, match="first.weight"):
        load_fitted(Layered(4, 5, 1), state)
    with pytest.raises(RuntimeError, match="Unexpected"):
        load_fitted(Layered(4, 5, 1), Layered(4, 5, 2).state_dict())
