"""conf/ itself: every option of every group composes and binds to real code, every experiment passes ``check``."""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from omegaconf import OmegaConf

from modelpress.check import inspect
from modelpress.check_nodes import MISSING, node_faults, trainer_faults
from modelpress.config import STAGE_PARTS, compose, conf_dir

FILES = sorted(path for path in conf_dir().rglob("*.yaml") if path.parts[len(conf_dir().parts)] != "local")
OPTIONS = [
    (path.parent.name, path.stem)
    for path in FILES
    if path.parent.parent == conf_dir() and path.parent.name not in ("hydra", "local")
]
GROUPS = {
    "model",
    "technique",
    "dataset",
    "hardware",
    "engine",
    "trainer",
    "callbacks",
    "logger",
    "experiment",
    "sweep",
}
# Groups whose options make a node at the group's own key.
MOUNTED = ("dataset", "model", "hardware", "benchmark", "trainer")


def _ids(options: list[tuple[str, str]]) -> list[str]:
    return [f"{group}={option}" for group, option in options]


@cache
def _plain(*overrides: str) -> dict[str, Any]:
    config: Any = OmegaConf.to_container(compose(overrides), resolve=True, throw_on_missing=False)
    return dict(config)


def test_the_groups_of_the_design_are_there() -> None:
    assert {group for group, _ in OPTIONS} >= GROUPS | {"benchmark"}


@pytest.mark.parametrize(("group", "option"), OPTIONS, ids=_ids(OPTIONS))
def test_every_option_composes_and_binds(group: str, option: str) -> None:
    config = _plain(f"{group}={option}")
    faults = [*node_faults(config), *trainer_faults(config)]
    assert [fault for fault in faults if not fault.startswith("model is none")] == []
    if group in MOUNTED and option != "none":
        assert config[group]


MODELS = [option for group, option in OPTIONS if group == "model"]


@pytest.mark.parametrize("option", MODELS)
def test_every_model_can_teach(option: str) -> None:
    config = _plain(f"model@teacher={option}")
    own = _plain(f"model={option}")["model"]
    assert config["teacher"] == own
    assert config["model"]["name"] == "tinybert"


TECHNIQUES = [option for group, option in OPTIONS if group == "technique"]


@pytest.mark.parametrize("option", TECHNIQUES)
def test_every_technique_has_four_parts_and_its_address(option: str) -> None:
    path = conf_dir() / "technique" / f"{option}.yaml"
    assert path.read_text().splitlines()[0] == f"# @package technique.{option}"
    stage = _plain(f"technique={option}")["technique"][option]
    assert list(stage) == list(STAGE_PARTS)
    assert MISSING not in stage.values()
    written = yaml.safe_load(path.read_text())
    chosen = written.pop("defaults", [])  # a subject for those who name none
    assert all(list(entry) == ["override /model@_global_.model"] for entry in chosen)
    assert list(written) == list(STAGE_PARTS)


def test_any_two_techniques_make_a_pipeline() -> None:
    for first, second in pairwise(TECHNIQUES):
        assert list(_plain(f"technique=[{second},{first}]")["technique"]) == [second, first]


ENGINES = [option for group, option in OPTIONS if group == "engine" and not option.startswith("for_")]
HARDWARE = [option for group, option in OPTIONS if group == "hardware"]


@pytest.mark.parametrize("option", ENGINES)
def test_every_engine_has_its_address(option: str) -> None:
    assert list(_plain(f"engine=[{option}]")["engine"]) == [option]


def test_all_engines_together() -> None:
    assert list(_plain(f"engine=[{','.join(ENGINES)}]")["engine"]) == ENGINES


@pytest.mark.parametrize("option", HARDWARE)
def test_every_hardware_chooses_engines_that_it_runs(option: str) -> None:
    config = _plain(f"hardware={option}")
    assert config["hardware"]["name"] == option
    assert set(config["engine"]) <= set(config["hardware"]["engines"]) <= set(ENGINES)
    assert set(config["engine"]) & {"onnxruntime", "onnxruntime_cuda"}  # what every row is compared with
    assert list(_plain(f"hardware={option}", "engine=[torch]")["engine"]) == ["torch"]


EXPERIMENTS = [option for group, option in OPTIONS if group == "experiment"]


@pytest.mark.parametrize("option", EXPERIMENTS)
def test_every_experiment_passes_check(option: str) -> None:
    cfg = compose([f"experiment={option}"])
    assert inspect(cfg) == ([], [])
    assert cfg.name == option


@pytest.mark.parametrize("option", EXPERIMENTS)
def test_the_command_line_wins_over_experiments(option: str) -> None:
    cfg = compose([f"experiment={option}", "model=tinybert6", "seed=9", "dataset=reviews", "trainer=tiny", "name=mine"])
    assert (cfg.model.name, cfg.seed, cfg.dataset.name, cfg.name) == ("tinybert6", 9, "reviews", "mine")
    assert cfg.trainer.limit_train_batches == 4


SWEEPS = [option for group, option in OPTIONS if group == "sweep" and option != "none"]


@pytest.mark.parametrize("option", SWEEPS)
def test_every_sweep_names_keys_that_exist(option: str) -> None:
    text = yaml.safe_load((conf_dir() / "sweep" / f"{option}.yaml").read_text())
    assert text["hydra"]["mode"] == "MULTIRUN"
    for key, values in text["hydra"]["sweeper"].get("params", {}).items():
        for value in str(values).split(","):
            assert OmegaConf.select(compose([f"{key}={value}"]), key) is not None


SPACES = yaml.safe_load((conf_dir() / "hydra" / "sweeper" / "search.yaml").read_text())["spaces"]


@pytest.mark.parametrize("stage", SPACES)
def test_every_search_space_names_keys_that_exist(stage: str) -> None:
    cfg = compose([f"technique={stage}"])
    for key in SPACES[stage]:
        assert OmegaConf.select(cfg, f"technique.{stage}.{key}") is not None


@pytest.mark.parametrize("path", FILES, ids=[str(path.relative_to(conf_dir())) for path in FILES])
def test_every_file_says_what_it_is_for(path: Path) -> None:
    lines = path.read_text().splitlines()
    header = lines[1] if lines[0].startswith("# @package") else lines[0]
    assert header.startswith("# ")
    assert not any("\t" in line for line in lines)
    assert path.stem == path.stem.lower().replace("-", "_")


def test_resolving_never_needs_a_running_hydra() -> None:
    assert OmegaConf.to_container(compose(["logger=wandb"]), resolve=True, throw_on_missing=True)
