"""The INT8 stage: what it refuses at once, what it decides before training, while training and after it."""

from __future__ import annotations

import json
import logging
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor, nn

from modelpress.check import inspect
from modelpress.config import build, compose
from modelpress.errors import ModelPressError
from modelpress.models.base import Batch
from modelpress.models.numerics import Numerics
from modelpress.quantization.attach import quantizers_of, twins_of
from modelpress.transforms.base import Context
from modelpress.transforms.quantize import Quantize
from tests.quantization import small
from tests.quantization.small import context

CONF = Path(__file__).parents[2] / "conf" / "technique"
YAMLS = ["ptq", "ptq_dynamic", "qat", "qat_distill"]


def prepared(kind: type[nn.Module] = small.Shared, **options: Any) -> tuple[Quantize, small.Small]:
    transform, model = Quantize(**options), small.model(kind)
    assert transform.prepare(model, context(kind)) is model
    return transform, model


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bits": 4}, "transform.bits is 4; allowed: 8. No engine here has kernels"),
        ({"activations": "statik"}, "transform.activations is 'statik'; allowed: 'static', 'dynamic'. Did you mean"),
        ({"calibrator": "kl"}, "calibrator is 'kl'; allowed: 'minmax'"),
        ({"calibrator_options": {"percentile": 99}}, "option of calibrator 'minmax' is 'percentile'"),
        ({"ranges": "lsq"}, "transform.ranges is 'lsq'; allowed: 'fixed', 'running', 'learned'"),
        ({"balance": 1.2}, "transform.balance is 1.2; allowed: search"),
        ({"balance": "0.5"}, "transform.balance is 0.5; allowed: search"),
        ({"samples": 0}, "transform.samples is 0; it must be a whole number from 1"),
        ({"samples": 2.5}, "transform.samples is 2.5"),
        ({"draw": -1}, "transform.draw is -1; it must be a whole number from 0"),
        ({"momentum": 1.0}, "transform.momentum is 1.0"),
        ({"freeze_at": 1.5}, "transform.freeze_at is 1.5; it must be a share from 0 to 1"),
        ({"max_metric_drop": 1.0}, r"transform.max_metric_drop is 1.0; allowed: 0 to 1 \(0.005: half a point"),
        ({"max_metric_drop": float("nan")}, "transform.max_metric_drop is nan"),
    ],
    ids=lambda given: next(iter(given)) if isinstance(given, dict) else "",
)
def test_wrong_values_are_refused_at_once(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelPressError, match=message):
        Quantize(**options)


class Alien(nn.Module):
    """A quarter of its weights lie in a layer that nobody knows how to quantize."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.mixer = nn.Linear(small.WIDTH, small.WIDTH), nn.Bilinear(4, 4, 6)
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.body(x))
        logits: Tensor = self.head(self.mixer(y[:, :4], y[:, 4:8]))
        return logits


def test_what_nobody_can_quantize_must_be_named_before_any_work() -> None:
    asked: list[tuple[int, int]] = []
    model = small.Small(Alien(), torch.randn(2, small.WIDTH))
    message = r"26 % of the weights lie in layers that cannot be quantized: network.mixer \(Bilinear\). Name them"
    with pytest.raises(ModelPressError, match=message):
        Quantize().prepare(model, context(asked=asked))
    assert asked == []
    named = small.Small(Alien(), torch.randn(2, small.WIDTH))
    Quantize(exclude=["*.mixer"]).prepare(named, context())
    assert set(twins_of(named)) == {"network.body"}
    other = small.Small(Alien(), torch.randn(2, small.WIDTH))
    with pytest.raises(ModelPressError, match="26 % of the weights"):  # naming another layer does not let it through
        Quantize(exclude=["*.head"]).prepare(other, context())


def test_a_network_without_such_layers_stops_before_any_work() -> None:
    asked: list[tuple[int, int]] = []
    with pytest.raises(ModelPressError, match="Small has no layer to quantize"):
        Quantize(exclude=["*"]).prepare(small.model(), context(asked=asked))
    assert asked == []


def test_it_asks_for_the_samples_and_the_draw_it_was_told() -> None:
    asked: list[tuple[int, int]] = []
    Quantize(samples=33, draw=4).prepare(small.model(), context(asked=asked))
    assert asked == [(33, 4)]


def test_what_was_done_is_written_down() -> None:
    transform, model = prepared(balance=0.5, calibrator="mse", samples=64, exclude=["*.out"])
    model.train()
    assert transform.finalize(model) is model
    assert not model.training
    numerics = model.numerics
    assert isinstance(numerics, Numerics)
    assert Numerics.from_json(numerics.to_json()) == numerics
    assert numerics.kind == "int8"
    assert numerics.details["float_layers"] == ["network.out", "network.head"]
    assert numerics.details["balance"] == {"network.q": 0.5}
    assert {key: numerics.details[key] for key in ("activations", "calibrator", "samples", "draw")} == {
        "activations": "static",
        "calibrator": "mse",
        "samples": 64,
        "draw": 0,
    }
    share = 3 * small.WIDTH**2 / (4 * small.WIDTH**2 + 3 * small.WIDTH)
    assert transform.coverage(model) == {
        "parameters": pytest.approx(share),
        "excluded": ["network.out", "network.head"],
    }
    assert numerics.details["coverage"] == pytest.approx(share)
    assert json.loads(json.dumps(dict(numerics.details))) == numerics.details


def test_the_order_of_stages() -> None:
    assert Quantize.kind == "quantize"
    assert set(Quantize.forbidden_after) == {"quantize", "precision"}


def training_step(model: small.Small, optimizer: torch.optim.Optimizer, batch: Batch) -> None:
    optimizer.zero_grad()
    nn.functional.cross_entropy(small.logits(model, batch), batch["labels"]).backward()
    optimizer.step()


def scales(model: small.Small) -> list[float]:
    return [float(quantizer.scale.detach()) for quantizer in quantizers_of(model).values()]


@pytest.mark.parametrize(("ranges", "moves"), [("fixed", False), ("running", True), ("learned", True)])
def test_ranges_move_while_training_until_they_are_frozen(ranges: str, moves: bool) -> None:
    transform, model = prepared(ranges=ranges, freeze_at=0.5, momentum=0.9)
    assert {type(q.scale) is nn.Parameter for q in quantizers_of(model).values()} == {ranges == "learned"}
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01)
    history = [scales(model)]
    for step, batch in enumerate(small.batches(count=8, seed=5)):
        transform.step(model, step / 8)
        training_step(model, optimizer, batch)
        history.append(scales(model))
    changed = [all(a != b for a, b in zip(*pair, strict=True)) for pair in pairwise(history)]
    assert changed == [moves] * 4 + [False] * 4
    weights = small.layer(model, "q").weight
    assert weights.grad is not None
    assert weights.grad.abs().max() > 0  # the weights still learn
    transform.finalize(model)
    assert scales(model) == history[-1]
    assert not any(quantizer.scale.requires_grad for quantizer in quantizers_of(model).values())


@pytest.mark.parametrize("ranges", ["running", "learned"])
def test_a_checkpoint_carries_ranges_and_weights(ranges: str) -> None:
    """What Lightning does when it resumes: prepare again, then load strictly."""
    transform, model = prepared(ranges=ranges)
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for batch in small.batches(count=3, seed=5):
        transform.step(model, 0.1)
        training_step(model, optimizer, batch)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    _, again = prepared(ranges=ranges)
    assert scales(again) != scales(model)
    again.load_state_dict(state)
    assert scales(again) == scales(model)
    batch = small.batches(count=1, seed=8)[0]
    assert torch.equal(small.logits(again.eval(), batch), small.logits(model.eval(), batch))


def test_finalize_freezes_what_training_did_not() -> None:
    transform, model = prepared(ranges="running", freeze_at=1.0)
    transform.finalize(model)
    before = scales(model)
    model.train()
    model({"x": 100 * torch.randn(4, small.WIDTH)})
    assert scales(model) == before


def test_dynamic_ranges_have_nothing_to_learn() -> None:
    transform, model = prepared(activations="dynamic", ranges="learned")
    assert not any(isinstance(q.scale, nn.Parameter) for q in quantizers_of(model).values())
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before = small.layer(model, "q").weight.detach().clone()
    transform.step(model, 0.9)
    training_step(model, optimizer, small.batches(count=1)[0])
    assert not torch.equal(before, small.layer(model, "q").weight)


def test_qat_trains_the_network_that_is_validated() -> None:
    """A task that the float weights solve and their INT8 twins, with a range far too small, do not; training does."""
    torch.manual_seed(0)
    model = small.model()
    x = torch.randn(256, small.WIDTH)
    batch = {"x": x, "labels": (x[:, 0] > 0).long() + (x[:, 1] > 0).long()}
    transform = Quantize(ranges="learned", bias_correction=False)
    transform.prepare(model, context())
    with torch.no_grad():
        quantizers_of(model)["network.q"].scale.mul_(0.05)
        quantizers_of(model)["network.q"].least = 0.0
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)

    def accuracy() -> float:
        with torch.no_grad():
            return float((small.logits(model.eval(), batch).argmax(1) == batch["labels"]).float().mean())

    before = accuracy()
    for step in range(60):
        model.train()
        transform.step(model, step / 60)
        training_step(model, optimizer, batch)
    trained = accuracy()
    assert before < 0.6
    assert trained > 0.9
    transform.finalize(model)
    assert accuracy() == trained


def test_layers_return_to_float_until_the_limit_holds(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        transform, model = prepared(small.Tables, max_metric_drop=0.9)
    assert transform.report["search"]["why"] == "INT8 everywhere keeps the limit"
    assert set(twins_of(model)) == {"network.table", "network.body"}
    assert "Mixed precision: INT8 everywhere keeps the limit." in caplog.text

    broken = small.model(small.Tables)
    table, body, head = (small.layer(broken, name) for name in ("table", "body", "head"))
    with torch.no_grad():
        table.weight[:, 0] = torch.linspace(-1, 1, 32)  # its sign decides, and drowns in the step of one huge row
        table.weight[31] = 1e4
        body.weight.zero_()[:, 0] = 9.0
        head.weight.copy_(torch.tensor([1.0, -1.0, 0.0])[:, None].expand(3, small.WIDTH))
        body.bias.zero_()
        head.bias.copy_(torch.tensor([0.0, 0.0, -9.0]))
    batches = [{"x": batch["x"] % 31} for batch in small.batches(small.Tables, 8)]
    batches = [batch | {"labels": small.logits(broken, batch).argmax(1)} for batch in batches]
    limited = Context(broken.example(), lambda samples, draw: batches, lambda: batches)
    transform = Quantize(max_metric_drop=0.0, balance=None)
    transform.prepare(broken, limited)
    assert "network.table" not in twins_of(broken)
    assert transform.report["search"]["drop_all_int8"] > 0.2
    assert transform.report["search"]["drop"] == 0
    transform.finalize(broken)
    assert broken.numerics is not None
    assert "network.table" in broken.numerics.details["float_layers"]


@pytest.mark.parametrize("name", YAMLS)
def test_every_yaml_builds_and_has_a_subject_of_its_own(name: str) -> None:
    stage = OmegaConf.load(CONF / f"{name}.yaml")
    transform = build(stage.transform, "transform")
    assert isinstance(transform, Quantize)
    assert transform.scope.activations == ("dynamic" if name == "ptq_dynamic" else "static")
    assert (stage.trainer.max_epochs == 0) == name.startswith("ptq")
    cfg = compose([f"technique={name}"])
    subject = ("tinybert", "minilm") if name == "qat_distill" else ("minilm", None)  # a larger network teaches
    assert (cfg.model.name, cfg.teacher.get("name"), list(cfg.technique)) == (*subject, [name])
    assert inspect(cfg) == ([], [])


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ("technique.ptq.transform.calibrator=7", "transform.calibrator is 7"),
        ("technique.ptq.transform.samples=many", "transform.samples is 'many'"),
        ("+technique.ptq.transform.sample=3", "takes no 'sample'. Did you mean 'samples'"),
    ],
)
def test_faults_of_the_command_line_show_in_check(given: str, fault: str) -> None:
    faults, _ = inspect(compose(["technique=ptq", given]))
    assert any(fault in found for found in faults), faults


def test_stages_that_cannot_follow_show_in_check() -> None:
    faults, _ = inspect(compose(["technique=[ptq,qat]"]))
    assert any("qat" in fault and "ptq" in fault for fault in faults), faults


def test_dynamic_products_of_attention_are_refused() -> None:
    with pytest.raises(ModelPressError, match=r"attention=true needs transform\.activations=static"):
        Quantize(activations="dynamic", attention=True)


@pytest.mark.parametrize("dropout", [False, True])
def test_dropout_is_off_while_training_unless_it_is_asked_for(dropout: bool) -> None:
    model = small.Small(nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5), nn.Linear(4, 3)), torch.randn(2, 4))
    model.sensitive = lambda: ()  # type: ignore[method-assign]
    transform = Quantize(samples=4, dropout=dropout, exclude=[])
    given = [{"x": torch.randn(4, 4), "labels": torch.zeros(4, dtype=torch.long)}]
    transform.prepare(model, Context(model.example(), lambda samples, draw: given, list)).train()
    x = torch.randn(64, 4)
    assert torch.equal(model.network(x), model.network(x)) is not dropout
