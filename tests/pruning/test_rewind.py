"""Lottery tickets: early weights come back once, when the masks are final, also after a resume."""

from __future__ import annotations

import pytest
import torch

from modelpress.errors import ModelPressError
from modelpress.pruning.rewind import Rewind
from tests.quantization import small


def weights(model: small.Small) -> dict[str, torch.Tensor]:
    return {name: weight.clone() for name, weight in model.state_dict().items()}


def drift(model: small.Small) -> None:
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(1.0)


@pytest.mark.parametrize(("to", "steps"), [("init", 0), (0, 0), (0.2, 2)])
@pytest.mark.parametrize("resumed", [False, True])
def test_the_weights_of_that_share_come_back_once(to: float | str, steps: int, resumed: bool) -> None:
    model, rewind, seen, back = small.model(), Rewind(to, 0.6), [], []
    for step in range(10):
        seen.append(weights(model))
        rewind.remember(model, step / 10)
        if rewind.go_back(model, step / 10):
            back.append(step)
            assert all(torch.equal(seen[steps][name], value) for name, value in weights(model).items())
        if resumed:
            again = Rewind(to, 0.6)
            again.restore(rewind.state())
            rewind = again
        drift(model)
    assert back == [6]
    assert rewind.weights == {}


def test_null_never_goes_back() -> None:
    model, rewind = small.model(), Rewind(None, 0.0)
    rewind.remember(model, 0.5)
    assert not rewind.go_back(model, 0.9)


@pytest.mark.parametrize("to", ["start", 0.7, -0.1])
def test_what_cannot_be(to: float | str) -> None:
    message = "it must be null, init, or a share of the training from 0 to 0.6, where the masks are final"
    with pytest.raises(ModelPressError, match=message):
        Rewind(to, 0.6)
