"""Heads, neurons and layers of a dual encoder's two transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from modelpress.errors import ModelPressError
from modelpress.export.onnx import export
from modelpress.models.base import load, save
from modelpress.pruning import block_scores, blocks, structure
from modelpress.pruning.shapes import LayerShape, Shape
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
    import copy

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
    import copy

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


def test_what_a_dual_encoder_does_not_offer_is_refused(model: Any, tmp_path: Path) -> None:
    with pytest.raises(ModelPressError, match=r"of a dual encoder allowed: parameters or macs, and uniform"):
        PruneStructured(allocation="global").check(model)
    with pytest.raises(ModelPressError, match=r"latency_ms.*of a dual encoder allowed"):
        PruneStructured(target="latency_ms", budget_ms=1.0).prepare(model, context(model))
    with pytest.raises(ModelPressError, match=r"\['width'\]; of a dual encoder allowed: heads, neurons, layers"):
        PruneStructured(remove=["width"]).check(model)
    config = tinyclip.bert(tmp_path / "bert", vision_cfg=tinyclip.cnn()["vision_cfg"])
    with pytest.raises(ModelPressError, match=r"no heads, neurons or layers to remove.*\[channels\]"):
        PruneStructured().check(tinyclip.dual(tmp_path / "other", config))
