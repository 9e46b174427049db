"""What a weight is worth, against NumPy and against removing weights one by one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from modelpress.pruning import scores
from tests.quantization import small

W = torch.tensor([[1.0, -2.0], [0.0, 0.5]])
G = torch.tensor([[0.5, 1.0], [3.0, -4.0]])


def test_formulas_by_hand() -> None:
    assert scores.magnitude(W).tolist() == [[1.0, 2.0], [0.0, 0.5]]
    assert scores.taylor(W, G).tolist() == [[0.5, 2.0], [0.0, 2.0]]
    assert scores.movement(W, G).tolist() == [[-0.5, 2.0], [0.0, 2.0]]


def test_lamp_by_its_definition_in_numpy() -> None:
    weight = np.random.default_rng(0).normal(size=(5, 7)).astype(np.float32)
    weight[0, 0] = 0.0
    expected = [[w**2 / (weight[np.abs(weight) >= abs(w)] ** 2).sum() for w in row] for row in weight.astype(float)]
    found = scores.lamp(torch.from_numpy(weight))
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6)
    assert torch.equal(found.flatten().argsort(), scores.magnitude(torch.from_numpy(weight)).flatten().argsort())


def test_lamp_knows_no_scale() -> None:
    """Ranked by magnitude together, a layer of small weights would be emptied first."""
    torch.testing.assert_close(scores.lamp(W), scores.lamp(0.01 * W))
    assert scores.lamp(W).max() == 1
    assert scores.lamp(torch.zeros(2, 2)).tolist() == [[0.0, 0.0], [0.0, 0.0]]


def test_movement_is_high_where_steps_lead_away_from_zero() -> None:
    """One step of gradient descent on (w - 3)^2 and on (w - 0)^2, from w = 1."""
    away, towards = torch.tensor(2 * (1.0 - 3.0)), torch.tensor(2 * (1.0 - 0.0))
    assert scores.movement(torch.tensor(1.0), away) > 0 > scores.movement(torch.tensor(1.0), towards)


def test_random_depends_on_name_and_seed_only() -> None:
    one = scores.random(W, "a", 0)
    torch.rand(3)
    assert torch.equal(one, scores.random(W, "a", 0))
    assert not torch.equal(one, scores.random(W, "b", 0))
    assert not torch.equal(one, scores.random(W, "a", 1))
    many = scores.random(torch.zeros(10_000), "a", 0)
    np.testing.assert_allclose(np.quantile(many.numpy(), [0.1, 0.5, 0.9]), [0.1, 0.5, 0.9], atol=0.02)


@pytest.mark.parametrize("kind", [small.Shared, small.Convolutions])
def test_taylor_predicts_what_removing_a_weight_costs(kind: type[nn.Module]) -> None:
    """For small weights, where the first order is all there is, in double precision."""
    model = small.model(kind).double()
    name = "network.q.weight" if kind is small.Shared else "network.second.weight"
    weight = model.get_parameter(name)
    flat, probed = weight.detach().view(-1), (0, 7, 11)
    flat[list(probed)] *= 1e-4
    batch = {"x": small.batches(kind, 1)[0]["x"].double(), "labels": small.batches(kind, 1)[0]["labels"]}

    def loss() -> float:
        return float(nn.functional.cross_entropy(small.logits(model, batch), batch["labels"]).detach())

    found = scores.taylor_scores(model, [name], [batch])[name].flatten()
    base = loss()
    for i in probed:
        kept = float(flat[i])
        flat[i] = 0.0
        removed = abs(loss() - base)
        flat[i] = kept
        assert float(found[i]) == pytest.approx(removed, rel=1e-2)


def test_taylor_is_a_mean_over_batches_and_leaves_the_model_as_it_was() -> None:
    model, batches = small.model().train(), small.batches(count=3)
    names = ["network.q.weight", "network.out.weight"]
    each = [scores.taylor_scores(model, names, [batch]) for batch in batches]
    found = scores.taylor_scores(model, names, batches)
    for name in names:
        expected = np.mean([one[name].numpy() for one in each], axis=0)
        np.testing.assert_allclose(found[name].numpy(), expected, rtol=1e-5, atol=1e-12)
    assert model.training
    assert all(p.grad is None for p in model.parameters())


def test_a_weight_that_nothing_reads_is_worth_nothing() -> None:
    model = small.model()
    model.register_parameter("spare", nn.Parameter(torch.ones(2, 2)))
    assert not scores.taylor_scores(model, ["spare"], small.batches(count=1))["spare"].any()
