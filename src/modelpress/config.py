"""The root schema, and the three ways in: where conf/ lies, how a config is composed, how its nodes become objects.

Importing this module pulls neither torch nor Lightning; Hydra itself is imported on first use.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Dict, Optional  # noqa: UP035

from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from modelpress.errors import ModelPressError

CONFIG_NAME = "config"
STAGE_PARTS = ("transform", "objective", "optimizer", "trainer")
# Keys of conf/trainer that are ours; all others are arguments of Lightning's Trainer.
OWN_TRAINER_KEYS = frozenset({"early_stopping_patience", "checkpoint_seconds", "freeze_batch_norm", "compile"})

Node = Dict[str, Any]  # noqa: UP006  (OmegaConf reads these annotations at run time)


@dataclass
class Stage:
    """One technique. All fields MISSING: ``check`` can then tell a stage from one that an override conjured up."""

    transform: Node = MISSING
    objective: Node = MISSING
    optimizer: Node = MISSING
    trainer: Node = MISSING


@dataclass
class Budget:
    """What the compressed model may cost; ``None``: no goal. ``max_metric_drop`` is absolute, in [0, 1]."""

    latency_ms: Optional[float] = MISSING  # noqa: UP045
    size_mb: Optional[float] = MISSING  # noqa: UP045
    memory_mb: Optional[float] = MISSING  # noqa: UP045
    max_metric_drop: float = MISSING


@dataclass
class Config:
    """Keys and types of a run. Values live in conf/, so that each default is written once."""

    name: str = MISSING
    seed: int = MISSING
    control: Any = MISSING  # true, false or same_steps: a union, which structured configs do not have
    press: str = MISSING
    side_by_side: bool = MISSING
    store: str = MISSING
    dataset: Node = MISSING
    model: Node = MISSING
    teacher: Node = MISSING
    finetune: Stage = field(default_factory=Stage)
    technique: Dict[str, Stage] = field(default_factory=dict)  # noqa: UP006
    hardware: Node = MISSING
    engine: Node = field(default_factory=dict)
    benchmark: Node = MISSING
    trainer: Node = MISSING
    callbacks: Node = field(default_factory=dict)
    logger: Node = field(default_factory=dict)
    budget: Budget = field(default_factory=Budget)


def run_name(*, _root_: DictConfig) -> str:
    """``dataset_model_stage_stage…``, safe as the name of a folder."""
    chosen = [OmegaConf.select(_root_, f"{key}.name") or "none" for key in ("dataset", "model")]
    parts = [*map(str, chosen), *map(str, _root_.technique)]
    return re.sub(r"[^\w.-]+", "-", "_".join(parts)).strip("-.")


def wanted(key: str, default: Any, *, _parent_: DictConfig, _root_: DictConfig) -> Any:
    """What the network that a stage trains asks for: ``training.<stage>.<key>`` of its yaml; else ``default``.

    ``finetune`` trains the teacher, where there is one (:meth:`modelpress.job.Job.finetune` sees to the model).
    """
    place = str(_parent_._get_full_key(None)).split(".")
    if place[0] not in ("finetune", "technique"):
        return default  # a yaml read by itself
    stage = place[0] if place[0] == "finetune" else place[1]
    who = "teacher" if place[0] == "finetune" and _root_.teacher else "model"
    found = OmegaConf.select(_root_, f"{who}.training.{stage}.{key}")
    return default if found is None else found


@cache
def register() -> None:
    """Tell Hydra the schema and OmegaConf the resolvers. Done once; every entry point calls it."""
    from hydra.core.config_store import ConfigStore

    ConfigStore.instance().store(name="schema", node=Config, provider="modelpress")
    OmegaConf.register_new_resolver("run_name", run_name, replace=True)
    OmegaConf.register_new_resolver("wanted", wanted, replace=True)


def conf_dir() -> Path:
    """The folder of yaml files: beside the code in an installed wheel, at the top of a checkout otherwise."""
    here = Path(__file__).resolve().parent
    places = [here / "conf", here.parents[1] / "conf"]
    for place in places:
        if (place / f"{CONFIG_NAME}.yaml").is_file():
            return place
    looked = " and ".join(str(place) for place in places)
    raise ModelPressError(f"The configuration folder conf/ was not found; looked in {looked}. Reinstall modelpress.")


def compose(overrides: Sequence[str] = (), config_dir: Path | str | None = None) -> DictConfig:
    """The config that ``python run.py *overrides`` would run, without Hydra's own node.

    ``config_dir`` adds a folder of groups, as ``--config-dir`` does. Raises Hydra's own errors.
    """
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir

    register()
    extra = [] if config_dir is None else [f"hydra.searchpath=['file://{_existing(config_dir)}']"]
    with _fresh_hydra(), initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return hydra_compose(CONFIG_NAME, overrides=[*overrides, *extra])


def _existing(config_dir: Path | str) -> Path:
    folder = Path(config_dir).resolve()
    if not folder.is_dir():
        raise ModelPressError(f"--config-dir {config_dir}: there is no such folder.")
    return folder


@contextmanager
def _fresh_hydra() -> Iterator[None]:
    """Hydra keeps one global state; a composition inside a running Hydra app must leave it as it was."""
    from hydra.core.global_hydra import GlobalHydra

    running = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        yield
    finally:
        GlobalHydra.instance().clear()  # not the instance of before: Hydra puts another one in its place
        if running is not None:
            GlobalHydra.instance().initialize(running)


def build(node: DictConfig | Mapping[str, Any], key: str = "") -> Any:
    """The object a node describes: the only call to ``hydra.utils.instantiate``.

    ``key`` is the node's address for messages; a DictConfig knows its own. Plain numbers, strings, lists and dicts go
    in, never live objects. Raises :class:`ModelPressError` with the key.
    """
    from hydra.errors import HydraException
    from hydra.utils import instantiate

    key = key or (node._get_full_key(None) if isinstance(node, DictConfig) else "") or "this node"
    if not node or "_target_" not in node:
        raise ModelPressError(f"{key} has no _target_, so there is nothing to build.")
    try:
        return instantiate(node, _convert_="all")
    except (HydraException, OmegaConfBaseException, ModelPressError) as error:
        cause = _cause(error)
        raise ModelPressError(cause if cause.startswith(key) else f"{key}: {cause}") from error


def _cause(error: BaseException) -> str:
    """What went wrong in the innermost place; Hydra wraps it in its own words."""
    from hydra.errors import InstantiationException

    cause: BaseException = error
    while isinstance(cause, InstantiationException) and cause.__cause__ is not None:
        cause = cause.__cause__
    if isinstance(cause, ModelPressError):
        return str(cause)
    return f"{type(cause).__name__}: {cause}" if cause is not error else str(error).partition("\nfull_key")[0]
