"""What may be pruned, and what is said of everything else."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from modelpress.errors import ModelPressError
from modelpress.pruning.targets import check_pattern, excluded, targets
from tests.quantization import small


def test_every_known_layer_but_the_head_and_the_tables() -> None:
    model = small.model(small.Tables)
    assert targets(model) == ["network.body.weight"]
    assert targets(model, embeddings=True) == ["network.table.weight", "network.body.weight"]
    assert excluded(model, targets(model)) == ["network.table", "network.head"]
    assert targets(small.model(small.Convolutions)) == ["network.first.weight", "network.second.weight"]


def test_layers_are_excluded_by_name_or_pattern() -> None:
    model = small.model()
    assert targets(model, exclude=["network.q", "*.o*"]) == ["network.k.weight", "network.v.weight"]
    with pytest.raises(
        ModelPressError,
        match=r"transform.exclude: 'network.qq' matches no layer. Did you mean '\*.q\*'\? Layers: network.q",
    ):
        targets(model, exclude=["network.qq"])
    with pytest.raises(ModelPressError, match="Small has no layer left to prune"):
        targets(model, exclude=["network.*"])


def test_a_tied_weight_is_one() -> None:
    model = small.model()
    small.layer(model, "k").weight = small.layer(model, "q").weight
    assert targets(model) == ["network.q.weight", "network.v.weight", "network.out.weight"]


class Alien(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.mixer, self.head = nn.Linear(16, 16), nn.Bilinear(4, 4, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.body(x))
        logits: Tensor = self.head(self.mixer(y[:, :4], y[:, 4:8]))
        return logits


def test_layers_that_nobody_knows_must_be_named() -> None:
    model = small.Small(Alien(), torch.randn(2, 16))
    message = r"26 % of the weights lie in layers that cannot be pruned: network.mixer \(Bilinear\). Name them"
    with pytest.raises(ModelPressError, match=message):
        targets(model)
    assert targets(model, exclude=["*.mixer"]) == ["network.body.weight"]


def test_a_pattern_must_fit_the_inputs() -> None:
    model = small.model(small.Convolutions)
    message = r"transform.pattern 2:4 needs a multiple of 4 inputs; network.first.weight has 3. Name such layers"
    with pytest.raises(ModelPressError, match=message):
        check_pattern(model, targets(model), (2, 4))
    check_pattern(model, targets(model, exclude=["network.first"]), (2, 4))
    with pytest.raises(ModelPressError, match=r"has 3 \(and 1 more do not fit\)"):
        check_pattern(model, targets(model), (2, 8))
