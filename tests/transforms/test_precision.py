"""The FP16 and BF16 stage: what it finds out, what it says, what it refuses; its yaml."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from modelpress.config import build, compose
from modelpress.errors import ModelPressError
from modelpress.models.base import Batch
from modelpress.models.numerics import Numerics
from modelpress.transforms.base import Context
from modelpress.transforms.precision import Precision
from tests.quantization import loud

CONF = Path(__file__).parents[2] / "conf" / "technique"


def context(scale: float = 1e3) -> Context:
    def calibration(samples: int, draw: int = 0) -> Sequence[Batch]:
        batches = loud.batches(samples // 16, scale)
        return [batch | {"labels": torch.zeros(16, dtype=torch.long)} for batch in batches]

    return Context(loud.batches(1)[0], calibration, list)


def pressed(kind: str, model: loud.Wrapped, **options: Any) -> tuple[Precision, Mapping[str, Any]]:
    transform = Precision(kind, max_difference=0.05, samples=48, **options)
    assert transform.coverage(model) == {}
    assert transform.prepare(model, context()) is model
    assert transform.finalize(model) is model
    numerics = model.numerics
    assert isinstance(numerics, Numerics)
    assert numerics.kind == kind
    assert Numerics.from_json(numerics.to_json()) == numerics
    return transform, numerics.details


def test_fp16_names_pins_and_says_what_it_found(caplog: pytest.LogCaptureFixture) -> None:
    model = loud.model()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with caplog.at_level(logging.INFO):
        transform, details = pressed("fp16", model, pinned=["network.quiet"])
    assert details["float_layers"] == ["network.quiet", "network.loud", "network.head"]
    assert list(details["overflow"]) == ["network.loud"]
    assert details["pinned"]["network.loud"] == details["overflow"]["network.loud"] > 65504
    assert details["largest"]["layer"] == "network.first"
    assert 0 < details["difference"] <= details["max_difference"] == 0.05
    assert (details["agreement"], details["items"]) == (1.0, 48)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert "network.loud overflows in fp16" in caplog.text
    assert "also left in float32: network.quiet" in caplog.text
    assert transform.coverage(model) == {
        "parameters": pytest.approx((8 * 8 + 8) / sum(p.numel() for p in model.parameters())),
        "excluded": ["network.quiet", "network.loud", "network.head"],
    }


def test_bf16_has_the_range() -> None:
    _, details = pressed("bf16", loud.model())
    assert details["pinned"] == details["overflow"] == {}
    assert details["float_layers"] == ["network.head"]
    assert details["largest"]["value"] > 65504


def test_what_training_changed_is_looked_at_again() -> None:
    model = loud.model(loudness=1.0)
    transform = Precision("fp16", max_difference=0.05, samples=48)
    transform.prepare(model, context())
    model.network.loud.weight.data.mul_(1e3)  # type: ignore[union-attr, operator]
    transform.finalize(model)
    assert model.numerics is not None
    assert list(model.numerics.details["overflow"]) == ["network.loud"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "fp8"}, r"precision\.kind is 'fp8'; allowed: 'fp16', 'bf16'\."),
        ({"max_difference": 0.0}, r"max_difference is 0\.0"),
        ({"max_difference": float("nan")}, "max_difference is nan"),
        ({"min_agreement": 1.5}, r"min_agreement 1\.5"),
        ({"samples": 0}, "samples is 0"),
    ],
)
def test_wrong_numbers_are_refused_at_once(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelPressError, match=message):
        Precision(**{"kind": "fp16", "max_difference": 0.1, **options})


def test_what_is_hopeless_stops_before_training() -> None:
    with pytest.raises(ModelPressError, match=r"precision\.pinned is 'network\.lowd'.*Did you mean 'network\.loud'"):
        Precision("fp16", 0.1, pinned=["network.lowd"]).prepare(loud.model(), context())
    with pytest.raises(ModelPressError, match="no layer that could run in 16 bits"):
        Precision("fp16", 0.1, pinned=["network"]).prepare(loud.model(), context())
    with pytest.raises(ModelPressError, match="no calibration data"):
        Precision("fp16", 0.1, samples=1).prepare(loud.model(), context())


@pytest.mark.parametrize("name", ["bf16", "fp16"])
def test_the_yaml_builds_and_presses_minilm_by_itself(name: str) -> None:
    stage = OmegaConf.load(CONF / f"{name}.yaml")
    transform = build(stage.transform, "transform")
    assert (type(transform), transform.numbers, transform.kind) == (Precision, name, "precision")
    assert stage.trainer.max_epochs == 0
    cfg = compose([f"technique={name}"])
    assert (cfg.model.name, cfg.teacher, list(cfg.technique), cfg.name) == (
        "minilm",
        {},
        [name],
        f"reviews_minilm_{name}",
    )
    assert list(cfg.technique[name]) == ["transform", "objective", "optimizer", "trainer"]


@pytest.mark.parametrize("name", ["bf16", "fp16"])
def test_the_command_line_chooses_another_model(name: str) -> None:
    cfg = compose([f"technique={name}", "model=tinybert"])
    assert (cfg.model.name, cfg.teacher.name) == ("tinybert", "minilm")
    cfg = compose([f"technique=[distill,{name}]", "model=tinybert", f"technique.{name}.transform.samples=64"])
    assert (cfg.model.name, cfg.teacher.name, list(cfg.technique)) == ("tinybert", "minilm", ["distill", name])
    assert cfg.technique[name].transform.samples == 64
    assert compose([f"technique={name}", "experiment=tinybert_aligned"]).model.name == "tinybert_aligned"
    assert compose([f"technique={name}", "model=minilm", "model@teacher=hf", "teacher.path=x"]).teacher.path == "x"
