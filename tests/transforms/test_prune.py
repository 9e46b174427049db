"""The pruning stage: what it refuses at once, which weights go when, what comes back, and what it tells."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from modelpress.check import inspect
from modelpress.config import build, compose
from modelpress.errors import ModelPressError
from modelpress.pruning.masks import Masks, outside
from modelpress.transforms.prune import Prune
from modelpress.transforms.quantize import Quantize
from tests.quantization import small
from tests.quantization.small import context

NAMES = [f"network.{name}.weight" for name in ("q", "k", "v", "out")]


def prepared(kind: type[nn.Module] = small.Shared, **options: Any) -> tuple[Prune, small.Small]:
    transform, model = Prune(**options), small.model(kind)
    assert transform.prepare(model, context(kind)) is model
    return transform, model


def train(transform: Prune, model: small.Small, steps: int = 20, lr: float = 1e-2) -> list[float]:
    """As :class:`Technique` would; returns the sparsity after every optimizer step."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    found = []
    for step, batch in enumerate(small.batches(count=steps, seed=5)):
        transform.step(model, step / steps)
        optimizer.zero_grad()
        nn.functional.cross_entropy(small.logits(model, batch), batch["labels"]).backward()
        transform.gradients(model)
        optimizer.step()
        assert model.masks is not None
        model.masks.apply(model)
        found.append(zeros(model))
    return found


def zeros(model: small.Small, names: Sequence[str] = NAMES) -> float:
    """Counted on the weights themselves."""
    weights = [model.get_parameter(name) for name in names]
    return sum(int((weight == 0).sum()) for weight in weights) / sum(weight.numel() for weight in weights)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sparsity": 1.0}, "transform.sparsity is 1.0; it must be a share from 0 to below 1"),
        ({"sparsity": -0.1}, "transform.sparsity is -0.1"),
        ({"sparsity": "half"}, "transform.sparsity is 'half'"),
        ({"sparsity": None}, "transform.sparsity is None; it must be a share"),
        ({"scope": "locl"}, "transform.scope is 'locl'; allowed: 'global', 'layer'"),
        ({"importance": "tailor"}, "transform.importance is 'tailor'; allowed: .*Did you mean 'taylor'"),
        ({"pattern": "4:2"}, "transform.pattern is '4:2'; allowed: null, or"),
        (
            {"pattern": "1:4"},
            "transform.sparsity is 0.5 and transform.pattern 1:4, which implies 0.75. Set transform.sp",
        ),
        ({"schedule": "quadratic"}, "transform.schedule is 'quadratic'; allowed"),
        ({"begin": 0.9}, "transform.begin is 0.9 and transform.end 0.5"),
        ({"updates": 0}, "transform.updates is 0"),
        ({"rewind": "early"}, "transform.rewind is 'early'; it must be null, init, or a share .* to 0.5"),
        ({"samples": 0}, "transform.samples is 0; it must be a whole number from 1"),
        ({"importance": "movement", "schedule": "one_shot", "begin": 0}, "Set transform.begin above 0, or choose"),
    ],
    ids=lambda given: next(iter(given)) if isinstance(given, dict) else "",
)
def test_wrong_values_are_refused_at_once(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelPressError, match=message):
        Prune(**options)


def test_wrong_layers_are_refused_before_training() -> None:
    with pytest.raises(ModelPressError, match="transform.exclude: 'encoder' matches no layer"):
        prepared(exclude=["encoder"])
    with pytest.raises(ModelPressError, match="needs a multiple of 4 inputs; network.first.weight has 3"):
        prepared(small.Convolutions, pattern="2:4")


@pytest.mark.parametrize("importance", ["lamp", "magnitude", "random", "taylor", "movement"])
@pytest.mark.parametrize("scope", ["global", "layer"])
def test_the_schedule_is_followed_and_nothing_comes_back(importance: str, scope: str) -> None:
    transform, model = prepared(
        sparsity=0.7, importance=importance, scope=scope, schedule="linear", begin=0.2, end=0.6, updates=4
    )
    assert zeros(model) == 0
    found = train(transform, model)
    expected = [0.0] * 6 + [0.175] * 2 + [0.35] * 2 + [0.525] * 2 + [0.7] * 8
    assert found == pytest.approx(expected, abs=2e-3)
    assert transform.finalize(model) is model
    assert zeros(model) == pytest.approx(0.7, abs=2e-3)
    if scope == "layer":
        assert [zeros(model, [name]) for name in NAMES] == pytest.approx([0.7] * 4, abs=2e-3)
    assert zeros(model, ["network.head.weight"]) == 0


def test_magnitude_takes_the_smallest_of_all() -> None:
    transform, model = prepared(sparsity=0.6, importance="magnitude", schedule="one_shot", begin=0.0)
    before = torch.cat([model.get_parameter(name).detach().flatten() for name in NAMES])
    transform.step(model, 0.0)
    after = torch.cat([model.get_parameter(name).detach().flatten() for name in NAMES])
    assert before[after == 0].abs().max() <= before[after != 0].abs().min()
    assert torch.equal(before[after != 0], after[after != 0])


@pytest.mark.parametrize(("importance", "warned"), [("magnitude", True), ("lamp", False)])
def test_a_layer_of_small_weights(importance: str, warned: bool, caplog: pytest.LogCaptureFixture) -> None:
    """A layer made anew has small weights: by magnitude nothing of it would be left, and the network would be dead."""
    transform, model = prepared(sparsity=0.7, importance=importance, schedule="one_shot", begin=0.0)
    with torch.no_grad():
        model.get_parameter(NAMES[-1]).mul_(1e-3)
    transform.step(model, 0.0)
    transform.finalize(model)
    assert (zeros(model, NAMES[-1:]) == 1) == warned
    assert (f"Nothing is left of {NAMES[-1].removesuffix('.weight')}" in caplog.text) == warned


def test_importance_matters() -> None:
    """Five ways of ranking, five sets of masks; the same way twice, the same set."""

    def gone(importance: str) -> Tensor:
        transform, model = prepared(sparsity=0.5, importance=importance, end=0.5, updates=5)
        train(transform, model)
        assert model.masks is not None
        return torch.cat([model.masks.gone[name].flatten() for name in NAMES])

    found = {importance: gone(importance) for importance in ("lamp", "magnitude", "random", "taylor", "movement")}
    assert len({tuple(mask.tolist()) for mask in found.values()}) == 5
    assert all(torch.equal(gone(importance), mask) for importance, mask in found.items())


def test_taylor_asks_for_its_samples_and_others_for_none() -> None:
    asked: list[tuple[int, int]] = []
    Prune(importance="taylor", samples=33, draw=4).prepare(small.model(), context(asked=asked))
    Prune(samples=33).prepare(small.model(), context(asked=asked))
    assert asked == [(33, 4)]
    assert (Prune(importance="taylor", samples=33).samples, Prune(samples=33).samples) == (33, 0)


@pytest.mark.parametrize("scope", ["global", "layer"])
def test_a_pattern_holds_in_every_group_in_the_end(scope: str) -> None:
    transform, model = prepared(sparsity=None, pattern="2:4", scope=scope, end=0.5, updates=4)
    assert transform.sparsity == 0.5
    found = train(transform, model)
    assert found == sorted(found)
    assert found[-1] == 0.5
    for name in NAMES:
        gone = model.get_parameter(name).detach() == 0
        assert (gone.unflatten(1, (-1, 4)).sum(-1) == 2).all()
        assert torch.equal(gone, outside((~gone).float(), (2, 4)))


def test_without_training_everything_goes_at_the_end(caplog: pytest.LogCaptureFixture) -> None:
    transform, model = prepared(sparsity=0.4)
    with caplog.at_level(logging.WARNING):
        transform.finalize(model)
    assert zeros(model) == pytest.approx(0.4, abs=1e-3)
    assert caplog.text == ""
    movement, dense = prepared(importance="movement")
    with pytest.raises(ModelPressError, match="movement, which is summed up while training, and this stage did not"):
        movement.finalize(dense)


def test_training_that_ends_early_is_said(caplog: pytest.LogCaptureFixture) -> None:
    transform, model = prepared(sparsity=0.8, schedule="linear", begin=0.0, end=0.8, updates=2)
    transform.step(model, 0.5)
    transform.finalize(model)
    assert zeros(model) == pytest.approx(0.8, abs=1e-3)
    assert "Training ended at a sparsity of 0.4; the rest up to 0.8 is pruned without recovery." in caplog.text


def test_what_an_earlier_stage_pruned_stays_and_counts() -> None:
    model = small.model()
    first = {name: torch.rand(16, 16) < 0.3 for name in NAMES[:2]}
    table = torch.zeros(3, 16, dtype=torch.bool)
    model.masks = Masks({**first, "network.head.weight": table}, {"importance": "random"})
    model.masks.apply(model)
    transform = Prune(sparsity=0.6)
    transform.prepare(model, context())
    assert transform.initial == pytest.approx(zeros(model))
    train(transform, model)
    transform.finalize(model)
    assert zeros(model) == pytest.approx(0.6, abs=1e-3)
    assert model.masks is not None
    assert set(model.masks.gone) == {*NAMES, "network.head.weight"}
    assert all((first[name] & ~model.masks.gone[name]).sum() == 0 for name in first)
    with pytest.raises(ModelPressError, match=r"transform.sparsity is 0.5, but 0.6 of these weights were pruned by an"):
        Prune(sparsity=0.5).prepare(model, context())


@pytest.mark.parametrize("share", ["init", 0.25])
def test_rewinding_brings_early_weights_back_under_the_final_masks(share: float | str) -> None:
    transform, model = prepared(sparsity=0.5, end=0.5, updates=5, rewind=share)
    early = {}
    step, at = transform.step, 0.0 if share == "init" else share

    def watched(network: nn.Module, progress: float) -> None:
        if progress == at:
            early.update({name: weight.clone() for name, weight in model.state_dict().items()})
        step(network, progress)
        if progress == 0.5:
            assert model.masks is not None
            for name, weight in model.state_dict().items():
                gone = model.masks.gone.get(name, torch.zeros_like(weight, dtype=torch.bool))
                assert torch.equal(weight, early[name].masked_fill(gone, 0.0))
            early["seen"] = torch.ones(1)

    transform.step = watched  # type: ignore[method-assign]
    train(transform, model)
    assert "seen" in early
    assert zeros(model) == pytest.approx(0.5, abs=1e-3)


def test_what_was_done_is_told_and_written_down() -> None:
    transform, model = prepared(pattern="2:4", schedule="linear", exclude=["*.out"], begin=0.0, end=0.5)
    train(transform, model)
    transform.finalize(model)
    assert transform.coverage(model) == {
        "parameters": pytest.approx(3 * 256 / sum(p.numel() for p in model.parameters())),
        "excluded": ["network.out", "network.head"],
        "sparsity": 0.5,
    }
    assert model.masks is not None
    assert model.masks.details["pattern"] == "2:4"
    assert model.masks.details["sparsity"] == 0.5
    assert (Prune.kind, Prune.forbidden_after) == ("prune", ("quantize", "precision"))
    assert (Prune(end=0.7).final_from, Prune(schedule="one_shot", begin=0.2).final_from) == (0.7, 0.2)


@pytest.mark.parametrize("options", [{}, {"importance": "movement"}, {"rewind": "init"}])
def test_a_checkpoint_carries_how_far_pruning_is(options: dict[str, Any], tmp_path: Path) -> None:
    """Half of the steps, a file that opens without unpickling, and the other half on a new transform and model."""
    transform, model = prepared(sparsity=0.7, end=0.6, updates=4, schedule="linear", begin=0.0, **options)
    train_half(transform, model, range(8))
    torch.save({"transform": dict(transform.state()), "weights": model.state_dict()}, tmp_path / "half")
    saved = torch.load(tmp_path / "half", weights_only=True)
    again, other = prepared(sparsity=0.7, end=0.6, updates=4, schedule="linear", begin=0.0, **options)
    again.restore(other, saved["transform"])
    other.load_state_dict(saved["weights"])
    for one, network in ((transform, model), (again, other)):
        train_half(one, network, range(8, 20))
        one.finalize(network)
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in model.state_dict().items())
    assert zeros(model) == pytest.approx(0.7, abs=2e-3)


def train_half(transform: Prune, model: small.Small, steps: range) -> None:
    """Plain gradient descent, which has no state of its own."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in steps:
        transform.step(model, step / 20)
        optimizer.zero_grad()
        batch = small.batches(count=1, seed=step)[0]
        nn.functional.cross_entropy(small.logits(model, batch), batch["labels"]).backward()
        transform.gradients(model)
        optimizer.step()
        assert model.masks is not None
        model.masks.apply(model)


def test_quantization_keeps_every_zero() -> None:
    """The integer of 0 is 0, whatever the scale and the balance."""
    transform, model = prepared(sparsity=0.7)
    transform.finalize(model)
    gone = {name: model.get_parameter(name).detach() == 0 for name in NAMES}
    quantize = Quantize(balance=0.5)
    quantize.prepare(model, context())
    quantize.finalize(model)
    for name, mask in gone.items():
        twin: Any = model.get_submodule(name.removesuffix(".weight"))
        assert not twin.fake_weight()[mask].any()
        assert model.masks is not None
    model.masks.apply(model)  # finds the weights of the twins under their names


def test_the_yaml_builds_and_prunes_minilm_by_itself() -> None:
    cfg = compose(["technique=prune"])
    assert (cfg.model.name, cfg.teacher, list(cfg.technique)) == ("minilm", {}, ["prune"])
    assert isinstance(build(cfg.technique.prune.transform, "transform"), Prune)
    assert inspect(cfg) == ([], [])
    pattern = compose(["technique=prune", "technique.prune.transform.pattern=2:4"])
    made = build(pattern.technique.prune.transform, "transform")
    assert (made.pattern, made.sparsity) == ((2, 4), 0.5)
    null = ["technique=prune", "technique.prune.transform.pattern=1:4", "technique.prune.transform.sparsity=null"]
    assert build(compose(null).technique.prune.transform, "transform").sparsity == 0.75


@pytest.mark.parametrize(
    ("stages", "faulty"),
    [("prune,qat", False), ("distill,prune,qat", False), ("qat,prune", True), ("fp16,prune", True)],
)
def test_the_order_of_stages_shows_in_check(stages: str, faulty: bool) -> None:
    faults, _ = inspect(compose([f"technique=[{stages}]", "model=tinybert"]))
    named = [fault for fault in faults if "technique.prune may not come after" in fault]
    assert bool(named) is faulty
    assert not faulty or stages.split(",")[0] in named[0]
