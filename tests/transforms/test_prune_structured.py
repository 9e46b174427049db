from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import Callback

import tests.toy as toy
from modelpress.callbacks.resume import FILE, Resume
from modelpress.check import inspect
from modelpress.config import compose
from modelpress.errors import ModelPressError
from modelpress.export.check import parity, probe_batches
from modelpress.export.onnx import export
from modelpress.models.base import load, save
from modelpress.models.classifier import TextClassifier
from modelpress.objectives.distill import Distillation
from modelpress.optimizer import OptimizerConfig
from modelpress.pruning.on_engine import structure
from modelpress.pruning.structure import LayerShape, Shape, parameters, shape_of
from modelpress.teacher import Teacher
from modelpress.technique import Technique
from modelpress.transforms.base import Context
from modelpress.transforms.prune_structured import PruneStructured
from modelpress.transforms.quantize import Quantize
from tests.models.conftest import tokenizer_folder
from tests.pruning.encoders import batches, encoder, outside_embeddings

__all__ = ["tokenizer_folder"]
FULL = Shape(24, (LayerShape(4, 6, 48),) * 4)
STEPS = 8


def context(model: TextClassifier, **more: Any) -> Context:
    return Context(model.example(), lambda samples, draw=0: batches(), lambda: batches(), **more)


def prepared(**options: Any) -> tuple[PruneStructured, TextClassifier]:
    transform, model = PruneStructured(**{"round_to": 1, "sparsity": 0.5, **options}), encoder()
    assert transform.prepare(model, context(model)) is model
    return transform, model


@pytest.mark.parametrize("allocation", ["uniform", "global"])
@pytest.mark.parametrize("target", ["parameters", "macs"])
def test_the_share_asked_for_goes_before_training(target: str, allocation: str) -> None:
    dense = outside_embeddings(encoder())
    transform, model = prepared(target=target, allocation=allocation, importance="taylor")
    left = outside_embeddings(model) / dense
    assert transform.report["sparsity"] == pytest.approx(1 - left)
    assert 0.35 < left <= 0.5 if target == "parameters" else 0.35 < left < 0.65
    assert Shape.of(transform.report["shape"]) == shape_of(model) == model.shape
    assert transform.coverage(model)["sparsity"] == transform.report["sparsity"]
    assert shape_of(model).uniform == (allocation == "uniform")
    assert transform.final_from == 0


def test_a_sparsity_of_nothing_leaves_the_network_alone() -> None:
    _, model = prepared(sparsity=0)
    assert shape_of(model) == FULL
    assert torch.equal(model(model.example()).logits, encoder()(model.example()).logits)  # type: ignore[arg-type]


def test_layers_and_the_rest() -> None:
    transform, model = prepared(remove=["layers", "heads", "neurons", "width"])
    assert model.num_layers == len(transform.kept_layers) < 4
    assert outside_embeddings(model) <= 0.5 * outside_embeddings(encoder())


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"target": "macs", "sparsity": 0.3},
        {"remove": ["layers", "heads", "neurons", "width"]},
        {"remove": ["neurons"], "sparsity": 0.3},
    ],
)
def test_the_shape_it_ends_with_is_known_without_data_or_training(options: dict[str, Any]) -> None:
    _, pruned = prepared(**options)
    known = PruneStructured(**{"round_to": 1, "sparsity": 0.5, **options}).reshaped(encoder())
    assert known is not None
    assert structure(known) == structure(pruned)
    assert structure(known) != structure(encoder())


def test_a_shape_that_weights_or_a_measurement_decide_is_not_known() -> None:
    assert PruneStructured(allocation="global").reshaped(encoder()) is None
    assert PruneStructured(target="latency_ms", budget_ms=1.0).reshaped(encoder()) is None
    assert PruneStructured(remove=["channels"], importance="magnitude").reshaped(encoder()) is None


def test_a_latency_budget_is_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted, asked = Shape(12, (LayerShape(2, 6, 32),) * 2), {}

    def fit(sizing: Any, latency: Any, budget_ms: Any, *_: Any) -> Shape:
        asked.update(vars(sizing), latency=latency, budget_ms=budget_ms)
        return wanted

    monkeypatch.setattr("modelpress.pruning.latency.fit", fit)
    transform, model = PruneStructured(target="latency_ms", budget_ms=3.0, round_to=2), encoder()
    transform.prepare(model, context(model, latency=max))
    assert shape_of(model) == wanted
    assert (asked["latency"], asked["budget_ms"], asked["round_to"]) == (max, 3.0, 2)
    assert asked["remove"] == ("heads", "neurons", "width")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sparsity": 1.0}, "transform.sparsity is 1.0"),
        ({"sparsity": -0.1}, "transform.sparsity is -0.1"),
        ({"target": "flops"}, "'flops'"),
        ({"remove": ["head"]}, "'head'"),
        ({"remove": []}, "transform.remove is"),
        ({"remove": ["channels", "width"]}, "alone"),
        ({"importance": "movement"}, "'movement'"),
        ({"remove": ["channels"], "importance": "activation"}, "'activation'"),
        ({"allocation": "local"}, "'local'"),
        ({"round_to": 0}, "transform.round_to is 0"),
        ({"samples": 0}, "transform.samples is 0"),
        ({"iterations": 2, "begin": 0.5, "end": 0.5}, "end must be later"),
        ({"begin": 1.0}, "transform.begin is 1.0"),
        ({"target": "latency_ms"}, "budget.latency_ms="),
        ({"budget_ms": 0}, "transform.budget_ms is 0"),
        ({"remove": ["channels"], "importance": "taylor", "iterations": 2}, "before training"),
    ],
)
def test_bad_arguments_are_refused_when_it_is_built(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelPressError, match=message):
        PruneStructured(**options)


def test_what_cannot_be_reached_is_said_before_training() -> None:
    with pytest.raises(ModelPressError, match=r"smallest that can be reached is .* round_to is 16"):
        prepared(sparsity=0.99, round_to=16)


@pytest.mark.parametrize("model_type", ["bert", "distilbert"])
@pytest.mark.parametrize("allocation", ["uniform", "global"])
def test_it_exports_quantizes_and_loads(
    model_type: str, allocation: str, tokenizer_folder: Path, tmp_path: Path
) -> None:
    model = encoder(model_type, tokenizer_folder)
    transform = PruneStructured(round_to=1, sparsity=0.4, importance="taylor", allocation=allocation)
    transform.prepare(model, context(model))
    transform.finalize(model)
    graph = export(model, tmp_path)["main"]
    assert parity(model, graph, probe_batches(model.towers()[0], [(1, 9), (3, 20)])) < 1e-5
    typed = [{**b, "token_type_ids": torch.zeros_like(b["input_ids"])} for b in batches()]
    Quantize(samples=4).prepare(model, Context(model.example(), lambda samples, draw=0: typed, lambda: typed))
    save(model, tmp_path / "int8")
    again = load(tmp_path / "int8")
    assert torch.equal(again(model.example()).logits, model.eval()(model.example()).logits)  # type: ignore[arg-type]


class Shapes(Callback):
    """The shape that every batch was trained with, and the rate."""

    def __init__(self, die_at: int | None = None) -> None:
        self.seen: list[tuple[int, float]] = []
        self.die_at = die_at

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.seen.append((shape_of(module.model).width, trainer.optimizers[0].param_groups[0]["lr"]))

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx == self.die_at:
            raise KeyError("killed")


def technique(weights: dict[str, float] | None = None) -> Technique:
    """Three steps at 0, 0.25 and 0.5 of the training, taught by the unpruned parent."""
    transform = PruneStructured(round_to=1, iterations=3, end=0.5, importance="activation")
    model, parent = encoder(), encoder()
    transform.prepare(model, context(model))
    objective = Distillation(weights or {"soft": 1.0, "hidden": 1.0}, teacher="parent")
    objective.bind(model.train(), parent)
    return Technique(
        model,
        objective,
        transform,
        OptimizerConfig(lr=1e-3, warmup=0.0),
        stage="toy",
        seed=1,
        steps=STEPS,
        teacher=Teacher(parent),
    )


def fit(folder: Path, shapes: Shapes, ckpt: Path | None = None) -> Technique:
    module, resume = technique(), Resume(folder, 0.0)
    loader = toy.Loader(batches(STEPS, 4))
    with toy.known_warnings():
        toy.trainer(folder, shapes, resume).fit(module, loader, ckpt_path=ckpt, weights_only=True)
    return module


def test_a_little_at_a_time_with_one_schedule(tmp_path: Path) -> None:
    shapes = Shapes()
    module = fit(tmp_path, shapes)
    widths = [width for width, _ in shapes.seen]
    assert len(set(widths)) == 3
    assert widths == sorted(widths, reverse=True)
    changes = [step for step in range(1, STEPS) if widths[step] != widths[step - 1]]
    assert changes == [2, 4]
    rates = [rate for _, rate in shapes.seen]
    assert all(later < earlier for earlier, later in pairwise(rates))
    assert module.transform.final_from == 0.5
    known = {id(p) for group in module.trainer.optimizers[0].param_groups for p in group["params"]}
    assert known == {id(p) for p in module.parameters()}
    assert set(module.trainer.optimizers[0].state) == set(module.parameters())
    full = parameters(encoder(), FULL)
    assert outside_embeddings(module.model) <= 0.5 * full  # type: ignore[arg-type]
    assert module.objective.projections["4"].weight.shape == (24, widths[-1])  # type: ignore[index, union-attr]


def test_what_replaces_parameters_is_what_learns() -> None:
    """The last step's weights move after it."""
    module = technique({"hard": 1.0})
    before = module.model.network.classifier.weight.clone()  # type: ignore[union-attr, operator]
    with toy.known_warnings():
        toy.trainer(Path()).fit(module, toy.Loader(batches(STEPS, 4)))
    assert before.shape != module.model.network.classifier.weight.shape  # type: ignore[union-attr]
    optimizer: Any = module.trainer.optimizers[0]
    assert all(int(entry["step"]) in (STEPS, STEPS - 2, STEPS - 4) for entry in optimizer.state.values())


@pytest.mark.parametrize("kill_at", [3, 6])
def test_a_killed_training_continues_with_its_shape(kill_at: int, tmp_path: Path) -> None:
    expected = fit(tmp_path / "whole", Shapes())
    with pytest.raises(KeyError, match="killed"):
        fit(tmp_path / "killed", Shapes(kill_at))
    found = fit(tmp_path / "killed", Shapes(), tmp_path / "killed" / FILE)
    assert shape_of(found.model) == shape_of(expected.model)
    for ours, theirs in zip(found.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_training_that_ends_early_still_ends_with_the_shape(caplog: pytest.LogCaptureFixture) -> None:
    transform, model = prepared(iterations=2, begin=0.3, end=0.6)
    assert shape_of(model) == FULL
    transform.step(model, 0.3)
    transform.finalize(model)
    assert Shape.of(transform.report["shape"]) == shape_of(model)
    assert "the rest goes untrained" in caplog.text


def test_a_state_is_plain_and_regrows_what_was_cut_too_far(tmp_path: Path) -> None:
    """A resumed run may have measured another shape."""
    transform, model = prepared(sparsity=0.3)
    torch.save(transform.state(), tmp_path / "state")
    state = torch.load(tmp_path / "state", weights_only=True)
    other, smaller = prepared(sparsity=0.6)
    other.restore(smaller, state)
    assert shape_of(smaller) == shape_of(model)
    smaller.load_state_dict(model.state_dict())
    assert torch.equal(smaller(model.example()).logits, model(model.example()).logits)  # type: ignore[arg-type]


def test_convolutions_lose_channels() -> None:
    from tests.pruning.test_channels import Convolutions
    from tests.pruning.test_channels import batches as images

    model = Convolutions()
    transform = PruneStructured(remove=["channels"], importance="magnitude", round_to=4)
    transform.prepare(model, Context(model.example(), lambda samples, draw: images(), list))
    transform.finalize(model)
    assert transform.report["sparsity"] >= 0.5


def test_the_yaml_passes_check_and_the_rules_hold() -> None:
    cfg = compose(["technique=prune_structured"])
    assert inspect(cfg) == ([], [])
    assert (cfg.model.name, cfg.technique.prune_structured.transform.round_to) == ("minilm", 16)
    for pair in ("[ptq,prune_structured]", "[prune,prune_structured]"):
        faults, _ = inspect(compose([f"technique={pair}"]))
        assert any("prune_structured may not come after" in fault for fault in faults), faults
    assert inspect(compose(["technique=[prune_structured,prune,qat]"]))[0] == []
