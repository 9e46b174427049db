from __future__ import annotations

import pytest
import torch
import torch_pruning as tp
from torch import Tensor, nn

from modelpress.models import layout
from modelpress.pruning.importance import layers_to_keep, score, squares, summed, taylor
from modelpress.pruning.structure import LayerShape, Shape, shape_of, shrink
from tests.pruning.encoders import batches, encoder


def test_magnitudes_are_those_of_torch_pruning() -> None:
    """Its own group importance (squares, summed over the group, no normaliser)."""
    model = encoder()
    modules = layout.modules(model.network)
    ids = model.example()["input_ids"][:1]
    graph = tp.DependencyGraph().build_dependency(
        model.network, (ids,), forward_fn=lambda net, given: net(input_ids=given[0]).logits
    )
    theirs = tp.importance.GroupMagnitudeImportance(p=2, group_reduction="sum", normalizer=None, bias=False)
    ours = summed(model.network, squares(model.network))
    for name, found in (("q", ours.heads[1]), ("up", ours.neurons[1])):
        root = modules[f"layers.1.{name}"]
        assert isinstance(root, nn.Linear)
        group = graph.get_pruning_group(root, tp.prune_linear_out_channels, list(range(root.out_features)))
        units = theirs(group)
        expected = units.unflatten(0, (4, 6)).sum(1) if name == "q" else units
        torch.testing.assert_close(found, expected.detach())


def test_taylor_is_the_slope_of_the_loss_along_the_weights() -> None:
    """Against central differences: scaling one weight by 1 + e changes the loss by e w dL/dw."""
    model, given = encoder(), batches(2, 8)
    values = taylor(model, given)
    network = model.network.double()
    down = layout.modules(network)["layers.2.down"].weight
    assert isinstance(down, Tensor)

    def loss() -> float:
        with torch.no_grad():
            logits = [network(input_ids=b["input_ids"]).logits for b in given]
        labels = torch.cat([b["labels"] for b in given])
        return float(nn.functional.cross_entropy(torch.cat(logits), labels))

    for place in ((0, 0), (5, 17), (23, 47)):
        with torch.no_grad():
            start = float(down[place])
            down[place] = start * 1.001
            above = loss()
            down[place] = start * 0.999
            slope = (above - loss()) / 0.002
            down[place] = start
        assert float(values["layers.2.down.weight"][place]) == pytest.approx(abs(slope), rel=1e-3, abs=1e-9)


def test_taylor_leaves_the_network_as_it_was() -> None:
    model = encoder().train()
    model.network.classifier.weight.requires_grad_(False)
    taylor(model, batches(1))
    assert model.training
    assert not model.network.classifier.weight.requires_grad
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("measure", ["magnitude", "taylor", "activation"])
def test_units_that_do_nothing_go_first(measure: str) -> None:
    model = encoder()
    parts = layout.modules(model.network)
    with torch.no_grad():
        for name in ("q", "k", "v"):
            for tensor in parts[f"layers.1.{name}"].parameters():
                tensor[6:12] = 0  # head 1
        parts["layers.1.o"].weight[:, 6:12] = 0  # type: ignore[index, operator]
        for tensor in parts["layers.0.up"].parameters():
            tensor[[3, 40]] = 0
        parts["layers.0.down"].weight[:, [3, 40]] = 0  # type: ignore[index, operator]
    found = score(model, batches(), measure, fold=False)
    assert int(found.heads[1].argmin()) == 1
    assert set(found.neurons[0].argsort()[:2].tolist()) == {3, 40}
    before = model(model.example()).logits
    layers = [LayerShape(3 if i == 1 else 4, 6, 46 if i == 0 else 48) for i in range(4)]
    shrink(model, Shape(24, tuple(layers)), found)
    torch.testing.assert_close(model(model.example()).logits, before, atol=1e-5, rtol=0)


def test_random_scores_are_the_seeds() -> None:
    model = encoder()
    one, same, other = (score(model, [], "random", fold=False, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(one.width, same.width)
    assert torch.equal(one.neurons[3], same.neurons[3])
    assert not torch.equal(one.width, other.width)


@pytest.mark.parametrize("measure", ["taylor", "activation"])
def test_the_layer_that_changes_least_goes_first(measure: str) -> None:
    model = encoder()
    layer = model.network.bert.encoder.layer[1]
    with torch.no_grad():  # nothing is added, and two norms of what is normed already
        for part in (layer.attention.output, layer.output):
            part.dense.weight.zero_()
            part.dense.bias.zero_()
        for norm in (
            layer.attention.output.LayerNorm,
            layer.output.LayerNorm,
            model.network.bert.encoder.layer[0].output.LayerNorm,
        ):
            norm.weight.fill_(1)
            norm.bias.zero_()
    before = shape_of(model), model(model.example()).logits
    assert layers_to_keep(model, 3, batches(), measure) == [0, 2, 3]
    assert len(layers_to_keep(model, 1, batches(), measure)) == 1
    assert shape_of(model) == before[0]
    assert torch.equal(model(model.example()).logits, before[1])  # type: ignore[arg-type]


def test_layers_by_size_and_by_chance() -> None:
    model = encoder()
    with torch.no_grad():
        for parameter in model.network.bert.encoder.layer[2].parameters():
            parameter.mul_(0.1)
    assert layers_to_keep(model, 3, [], "magnitude") == [0, 1, 3]
    chosen = {tuple(layers_to_keep(model, 2, [], "random", seed=seed)) for seed in range(20)}
    assert len(chosen) > 2
    assert all(list(layers) == sorted(layers) for layers in chosen)
