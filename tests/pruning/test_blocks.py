"""Heads, neurons and layers of a dual encoder's two transformers."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from modelpress.errors import ModelPressError
from modelpress.export.onnx import export
from modelpress.models.base import load, save
from modelpress.pruning import block_scores, blocks, structure
from modelpress.pruning.shapes import LayerShape, Shape
from modelpress.pruning.table import CHECKS
from modelpress.report.record import Interval
from modelpress.transforms.base import Context
from modelpress.transforms.prune_structured import PruneStructured
from tests import tinyclip


@pytest.fixture
def model(tmp_path: Path) -> Any:
    made = tinyclip.dual(tmp_path / "tokenizer")
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return made


def embeddings(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found = model(tinyclip.batch(6, seed=50)).embeddings
    return torch.cat([found["image"], found["text"]])


def context(model: Any) -> Context:
    return Context(model.example(), lambda samples, draw=0: [tinyclip.batch(8, seed=i) for i in range(3)], list)


def test_the_shape_is_that_of_both_towers(model: Any) -> None:
    assert blocks.shape_of(model) == Shape(1, (LayerShape(4, 8, 128),) * 4)
    counted = sum(p.numel() for block in blocks.blocks(model) for p in block.layer.parameters())
    assert blocks.parameters(model, blocks.shape_of(model)) == counted
    assert 0.9 < blocks.covered(model, ["heads", "neurons"]) < 1
    assert [block.tokens for block in blocks.blocks(model)] == [5, 5, 12, 12]


def test_units_that_do_nothing_go_without_a_trace(model: Any) -> None:
    """Head 2 and neurons 3 and 5 of every block write nothing; without them the answers are the same."""
    with torch.no_grad():
        for block in blocks.blocks(model):
            block.parts["o"].weight[:, 16:24] = 0
            block.parts["down"].weight[:, [3, 5]] = 0
    before = embeddings(model)
    scores = block_scores.score(model, [tinyclip.batch(8)], "activation", fold=False)
    shape = Shape(1, (LayerShape(3, 8, 126),) * 4)
    structure.shrink(model, shape, scores)
    assert blocks.shape_of(model) == shape
    torch.testing.assert_close(embeddings(model), before, atol=1e-5, rtol=0)


@pytest.mark.parametrize("measure", ["activation", "taylor", "magnitude", "random"])
def test_every_measure_prunes_both_towers_and_the_result_is_smaller(model: Any, measure: str, tmp_path: Path) -> None:
    before, size = embeddings(model), sum(p.numel() for p in model.parameters())
    transform = PruneStructured(sparsity=0.3, importance=measure, round_to=8, samples=24)
    transform.check(model)
    made = transform.finalize(transform.prepare(model, context(model)))
    assert transform.report["sparsity"] == pytest.approx(0.3, abs=0.05)
    assert transform.coverage(made)["parameters"] > 0.9
    assert sum(p.numel() for p in made.parameters()) < 0.85 * size
    assert (embeddings(made) - before).abs().max() > 0
    save(made, tmp_path / "saved")
    again = load(tmp_path / "saved")
    torch.testing.assert_close(embeddings(again), embeddings(made), atol=0, rtol=0)
    assert blocks.shape_of(again) == transform.shapes[-1]
    if measure == "activation":
        assert export(again, tmp_path / "onnx")["image"].stat().st_size > 0


def test_folding_helps(model: Any) -> None:
    before, errors = embeddings(model), {}
    for fold in (True, False):
        transform = PruneStructured(sparsity=0.4, round_to=8, samples=24, fold=fold)
        made = transform.prepare(copy.deepcopy(model), context(model))
        errors[fold] = float((embeddings(made) - before).square().mean())
    assert errors[True] < errors[False]


def test_layers_go_and_every_tower_keeps_one(model: Any, tmp_path: Path) -> None:
    with torch.no_grad():
        for name in ("o", "down"):  # the second block of images does nothing
            blocks.blocks(model)[1].parts[name].weight.zero_()
            blocks.blocks(model)[1].parts[name].bias.zero_()
    before = embeddings(model)
    assert block_scores.layers_to_keep(model, 3, [tinyclip.batch(8)], "activation") == [0, 2, 3]
    kept = block_scores.layers_to_keep(model, 2, [tinyclip.batch(8)], "random")
    assert len([i for i in kept if i < 2]) == 1
    transform = PruneStructured(sparsity=0.25, remove=["layers"], round_to=8)
    made = transform.finalize(transform.prepare(model, context(model)))
    torch.testing.assert_close(embeddings(made), before, atol=1e-5, rtol=0)
    save(made, tmp_path / "saved")
    torch.testing.assert_close(embeddings(load(tmp_path / "saved")), embeddings(made), atol=0, rtol=0)
    with pytest.raises(ModelPressError, match="Every tower keeps a layer"):
        block_scores.layers_to_keep(made, 1, [], "random")


def test_an_interrupted_training_finds_its_shape_again(model: Any) -> None:
    fresh = copy.deepcopy(model)
    transform = PruneStructured(sparsity=0.4, round_to=8, iterations=2, end=0.5)
    made = transform.prepare(model, context(model))
    transform.step(made, 0.6)
    again = PruneStructured(sparsity=0.4, round_to=8, iterations=2, end=0.5)
    other = again.prepare(fresh, context(fresh))
    assert blocks.shape_of(other) != blocks.shape_of(made)
    again.restore(other, transform.state())
    other.load_state_dict(made.state_dict())
    torch.testing.assert_close(embeddings(other), embeddings(made), atol=0, rtol=0)


def uneven(folder: Path) -> Any:
    """Towers that differ: 2 blocks of 4 heads for images, 3 of 2 heads and fewer neurons for texts."""
    text = {"width": 16, "heads": 2, "layers": 3}
    made = tinyclip.dual(folder, tinyclip.config(text=text))
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return made


def test_layers_and_neurons_go_together_from_towers_that_differ(tmp_path: Path) -> None:
    model = uneven(tmp_path / "tokenizer")
    full = blocks.shape_of(model)
    assert len(set(full.layers)) == 2
    before = sum(p.numel() for block in blocks.blocks(model) for p in block.layer.parameters())
    transform = PruneStructured(sparsity=0.5, remove=["heads", "neurons", "layers"], round_to=4, samples=8)
    transform.check(model)
    made = transform.finalize(transform.prepare(model, context(model)))
    left = sum(p.numel() for block in blocks.blocks(made) for p in block.layer.parameters())
    assert len(blocks.blocks(made)) < 5
    assert 0.3 * before < left <= 0.5 * before
    assert transform.report["sparsity"] == pytest.approx(1 - left / before)
    save(made, tmp_path / "saved")
    torch.testing.assert_close(embeddings(load(tmp_path / "saved")), embeddings(made), atol=0, rtol=0)


def test_an_interrupted_training_without_layers_of_either_tower_goes_on(tmp_path: Path) -> None:
    """They go late: at the restart the network is whole again, and both towers must lose theirs."""
    options: dict[str, Any] = {"sparsity": 0.5, "remove": ["layers"], "begin": 0.2, "importance": "random", "seed": 3}
    model, fresh = uneven(tmp_path / "one"), uneven(tmp_path / "two")
    transform, again = PruneStructured(**options), PruneStructured(**options)
    made = transform.prepare(model, context(model))
    transform.step(made, 0.5)
    other = again.prepare(fresh, context(fresh))
    again.restore(other, transform.state())
    other.load_state_dict(made.state_dict())
    torch.testing.assert_close(embeddings(other), embeddings(made), atol=0, rtol=0)


@pytest.mark.parametrize("measure", ["activation", "taylor"])
def test_heads_and_neurons_of_a_tower_are_ranked_together(measure: str, tmp_path: Path) -> None:
    """Units that write nothing lie in the second block of images and in the third of texts: those go."""
    model = uneven(tmp_path / "tokenizer")
    with torch.no_grad():
        for index in (1, 4):
            parts = blocks.blocks(model)[index].parts
            parts["down"].weight[:, 16:] = 0
            parts["o"].weight[:, 8:] = 0
    uniform, ranked = (
        PruneStructured(sparsity=0.3, allocation=kind, importance=measure, round_to=8, samples=8, fold=False)
        for kind in ("uniform", "global")
    )
    uniform.prepare(copy.deepcopy(model), context(model))
    made = ranked.prepare(model, context(model))
    found, even = (transform.shapes[-1].layers for transform in (ranked, uniform))
    for tower in (slice(0, 2), slice(2, 5)):
        for unit in ("heads", "neurons"):
            assert sum(getattr(layer, unit) for layer in found[tower]) <= sum(getattr(s, unit) for s in even[tower])
    assert found[1].neurons < found[0].neurons
    assert found[4].neurons < min(found[2].neurons, found[3].neurons)
    assert ranked.report["sparsity"] == pytest.approx(uniform.report["sparsity"], abs=0.05)
    assert blocks.shape_of(made) == ranked.shapes[-1]


class Machine:
    """p50 of the pair: a part that stays, and a rate for multiply-adds that is higher in the text tower."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def ms(self, model: Any) -> float:
        costs = [block.width * (4 * block.shape.inner + 2 * block.shape.neurons) for block in blocks.blocks(model)]
        images = sum(block.holder is blocks.blocks(model)[0].holder for block in blocks.blocks(model))
        return 0.2 + 1e-5 * (sum(costs[:images]) + 3 * sum(costs[images:]))

    def __call__(self, model: Any) -> Interval:
        value = self.ms(model)
        self.seen.append(value)
        return Interval(value, 0.99 * value, 1.01 * value)

    def __str__(self) -> str:
        return "a machine of paper"


@pytest.mark.parametrize("remove", [["heads", "neurons"], ["heads", "neurons", "layers"], ["layers"]])
@pytest.mark.parametrize("part", [0.8, 0.65])
def test_a_latency_budget_of_the_pair_is_met(remove: list[str], part: float, tmp_path: Path) -> None:
    model, machine = uneven(tmp_path / "tokenizer"), Machine()
    budget, size = part * machine.ms(model), sum(p.numel() for p in model.parameters())
    transform = PruneStructured(
        target="latency_ms", budget_ms=budget, remove=remove, round_to=4, samples=8, importance="magnitude"
    )
    made = transform.prepare(model, replace(context(model), latency=machine))
    assert 1.01 * machine.ms(made) <= budget
    assert machine.ms(made) in machine.seen  # verified
    assert len(machine.seen) <= 2 + CHECKS
    assert sum(p.numel() for p in made.parameters()) < size
    if remove != ["layers"]:
        assert machine.ms(made) > 0.8 * budget


def test_a_budget_out_of_reach_names_the_smallest(model: Any) -> None:
    transform = PruneStructured(target="latency_ms", budget_ms=0.1, remove=["neurons"], round_to=8, samples=8)
    with pytest.raises(
        ModelPressError, match=r"budget\.latency_ms is 0\.1, but removing neurons reaches .* \(4 layers, 4 heads of 8"
    ):
        transform.prepare(model, replace(context(model), latency=Machine()))


def test_what_a_dual_encoder_does_not_offer_is_refused(model: Any, tmp_path: Path) -> None:
    with pytest.raises(ModelPressError, match=r"Every tower keeps a layer: 1 cannot be left of 4"):
        PruneStructured(sparsity=0.7, remove=["layers"]).check(model)
    with pytest.raises(ModelPressError, match=r"\['width'\]; of a dual encoder allowed: heads, neurons, layers"):
        PruneStructured(remove=["width"]).check(model)
    config = tinyclip.bert(tmp_path / "bert", vision_cfg=tinyclip.cnn()["vision_cfg"])
    with pytest.raises(ModelPressError, match=r"no heads, neurons or layers to remove.*\[channels\]"):
        PruneStructured().check(tinyclip.dual(tmp_path / "other", config))
