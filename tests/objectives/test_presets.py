"""Every technique yaml of this room: its shape, its header, and that its parts can be built."""

from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from modelpress.config import build, register
from modelpress.objectives.base import Objective
from modelpress.objectives.distill import Distillation
from modelpress.objectives.parts import PARTS
from modelpress.objectives.task import Task
from modelpress.optimizer import OptimizerConfig
from modelpress.transforms.base import Identity

register()  # the resolvers in the yamls
CONF = Path(__file__).parents[2] / "conf" / "technique"
PRESETS = ("finetune", "distill", "distill_logits", "distill_attention", "distill_two_phase")


def objective_of(name: str) -> Objective:
    found: Objective = build(OmegaConf.load(CONF / f"{name}.yaml").objective, "objective")
    return found


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_four_keys_that_build(name: str) -> None:
    path = CONF / f"{name}.yaml"
    header, _, command = path.read_text().splitlines()[:3]
    assert header == f"# @package technique.{name}"
    assert command.startswith(f"# python run.py technique={name} ")
    node = OmegaConf.load(path)
    assert list(node) == ["transform", "objective", "optimizer", "trainer"]
    assert isinstance(build(node.transform, "transform"), Identity)
    assert isinstance(objective_of(name), Task if name == "finetune" else Distillation)
    assert OptimizerConfig(**node.optimizer).lr == pytest.approx(5e-5 if name == "finetune" else 2e-4)
    own = ["freeze_batch_norm"] if name in ("finetune", "distill") else []  # a model's yaml may ask for it
    assert list(node.trainer) == ["max_epochs", *own]


@pytest.mark.parametrize("name", [*PRESETS[1:], "qat", "qat_distill", "prune", "prune_structured"])
def test_every_part_is_listed_so_that_the_command_line_can_set_it(name: str) -> None:
    assert list(OmegaConf.load(CONF / f"{name}.yaml").objective.weights) == list(PARTS)


def test_presets_do_what_they_are_named_after() -> None:
    assert objective_of("finetune").teacher == "none"
    assert set(objective_of("distill").weights(0)) == {"hard", "soft", "hidden"}
    assert objective_of("distill_logits").needs(0) == frozenset()
    assert objective_of("distill_attention").needs(0) == {"hidden_states", "attentions"}
    two_phase = objective_of("distill_two_phase")
    assert set(two_phase.weights(0)) == {"hidden", "attention", "embedding"}
    assert set(two_phase.weights(1)) == {"hard", "soft"}
