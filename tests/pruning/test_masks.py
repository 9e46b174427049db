"""Which weights go: exact counts, patterns, scopes, against NumPy; and masks on a model, saved and loaded."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from modelpress.errors import ModelPressError
from modelpress.models.base import load, save
from modelpress.models.classifier import TextClassifier
from modelpress.pruning import masks
from tests.models.conftest import tiny, tokenizer_folder
from tests.quantization import small

__all__ = ["tokenizer_folder"]


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("count", [0, 1, 7, 11, 12])
def test_the_lowest_are_those_of_a_sort(count: int) -> None:
    scores = noise(3, 4)
    gone = masks.lowest(scores, count)
    assert gone.shape == (3, 4)
    assert set(np.flatnonzero(gone.numpy())) == set(np.argsort(scores.numpy().ravel())[:count])


def test_ties_do_not_change_the_count() -> None:
    assert masks.lowest(torch.tensor([1.0, 0.0, 1.0, 1.0]), 3).tolist() == [True, True, True, False]
    assert masks.lowest(torch.zeros(5), 2).tolist() == [True, True, False, False, False]


@pytest.mark.parametrize(("n", "m"), [(2, 4), (1, 4), (1, 2), (4, 8)])
def test_a_pattern_keeps_the_n_highest_of_every_m_inputs(n: int, m: int) -> None:
    scores = noise(6, 16)
    gone = masks.outside(scores, (n, m)).numpy()
    groups = scores.numpy().reshape(6, -1, m)
    highest = groups >= np.sort(groups, axis=-1)[..., [m - n]]
    np.testing.assert_array_equal(~gone.reshape(6, -1, m), highest)


def test_a_pattern_runs_along_the_input_channels_of_a_convolution() -> None:
    scores = noise(5, 8, 3, 3)
    gone = masks.outside(scores, (2, 4))
    assert gone.shape == scores.shape
    assert (gone.unflatten(1, (2, 4)).sum(2) == 2).all()
    assert torch.equal(gone[:, :, 1, 2], masks.outside(scores[:, :, 1, 2], (2, 4)))


def test_of_equal_scores_a_pattern_keeps_the_first() -> None:
    assert masks.outside(torch.zeros(1, 4), (2, 4)).tolist() == [[False, False, True, True]]


def test_global_ranks_all_and_layer_each() -> None:
    scores = {"small": noise(4, 5), "large": 10 + noise(6, 10, seed=1)}
    together = masks.choose(scores, 0.25)
    assert {name: int(mask.sum()) for name, mask in together.items()} == {"small": 20, "large": 0}
    each = masks.choose(scores, 0.25, scope="layer")
    assert {name: int(mask.sum()) for name, mask in each.items()} == {"small": 5, "large": 15}
    assert {name: mask.shape for name, mask in each.items()} == {"small": (4, 5), "large": (6, 10)}


@pytest.mark.parametrize("scope", ["global", "layer"])
def test_a_pattern_on_its_way_lies_inside_the_finished_one(scope: str) -> None:
    scores = {"a": noise(8, 16), "b": noise(4, 32, seed=1)}
    finished = masks.choose(scores, 0.5, scope=scope, pattern=(2, 4))
    for name, given in scores.items():
        assert torch.equal(finished[name], masks.outside(given, (2, 4)))
    half = masks.choose(scores, 0.25, scope=scope, pattern=(2, 4))
    assert sum(int(mask.sum()) for mask in half.values()) == 64
    assert all((half[name] & ~finished[name]).sum() == 0 for name in scores)


@pytest.mark.parametrize("given", ["2/4", "4:2", "0:4", "2:2", 124, "2:4:8"])
def test_what_is_no_pattern(given: object) -> None:
    with pytest.raises(ModelPressError, match='allowed: null, or "n:m" with 0 < n < m'):
        masks.parse_pattern(given)


def test_patterns_are_read() -> None:
    assert (masks.parse_pattern("2:4"), masks.parse_pattern(None)) == ((2, 4), None)


def test_masks_zero_the_weights_and_count() -> None:
    model = small.model()
    gone = {"network.q.weight": noise(16, 16) < 0.5, "network.out.weight": torch.zeros(16, 16, dtype=torch.bool)}
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    masks.hold(model)  # a dense model has nothing to hold
    assert all(torch.equal(before[name], weight) for name, weight in model.state_dict().items())
    model.masks = masks.Masks(dict(gone))
    masks.hold(model)
    weight = model.get_parameter("network.q.weight")
    np.testing.assert_array_equal(
        weight.detach().numpy(), np.where(gone["network.q.weight"], 0, before["network.q.weight"])
    )
    assert not torch.signbit(weight[gone["network.q.weight"]]).any()  # -0 would not compress
    share = float(gone["network.q.weight"].float().mean())
    assert model.masks.sparsity() == pytest.approx(share / 2)
    assert model.masks.sparsity(["network.q.weight"]) == pytest.approx(share)


def test_a_saved_model_keeps_its_masks(tokenizer_folder: Path, tmp_path: Path) -> None:
    model = TextClassifier(tiny(labels=2, num_hidden_layers=1), ["bad", "good"], tokenizer_folder)
    name = "network.bert.encoder.layer.0.output.dense.weight"
    gone = noise(24, 48) < 0.7
    model.masks = masks.Masks({name: gone}, {"importance": "magnitude"})
    masks.hold(model)
    save(model, tmp_path)
    record = json.loads((tmp_path / masks.FILE).read_text())
    share = float(gone.float().mean())
    assert record == {"importance": "magnitude", "sparsity": pytest.approx(share), "weights": [name]}
    again = load(tmp_path)
    assert again.masks is not None
    assert torch.equal(again.masks.gone[name], gone)
    assert again.masks.details["importance"] == "magnitude"
    model.masks = None
    save(model, tmp_path)
    assert not (tmp_path / masks.FILE).exists()
    assert load(tmp_path).masks is None
