"""A job: one composed config with the objects that every step of it needs. Torch-free."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf, read_write

from modelpress.config import build
from modelpress.data.base import Dataset
from modelpress.engines.base import Engine, Hardware
from modelpress.errors import ModelPressError, not_installed
from modelpress.models.recipe import Recipe
from modelpress.store import Store, file_digest

TRAINING_LIBRARIES = ("torch", "lightning", "transformers", "tokenizers")


@dataclass
class Job:
    """``config`` is the resolved tree; ``folder`` is this run's own folder; ``command`` repeats it."""

    config: dict[str, Any]
    folder: Path
    command: str = ""
    only_here: str = ""  # why no command repeats it on another machine
    own: dict[str, Any] | None = None  # `finetune` as the model itself wants it; None: as the tree says

    @classmethod
    def of(cls, cfg: DictConfig, folder: Path, command: str = "", only_here: str = "") -> Job:
        """Resolve a composed config once and for all."""
        config: Any = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=False)
        return cls(config, Path(folder).absolute(), command, only_here, _own_finetune(cfg))

    @property
    def name(self) -> str:
        return str(self.config["name"])

    @property
    def seed(self) -> int:
        return int(self.config["seed"])

    @cached_property
    def store(self) -> Store:
        return Store(self.config["store"])

    @cached_property
    def dataset(self) -> Dataset:
        dataset: Dataset = build(self.config["dataset"], "dataset")
        return dataset

    @cached_property
    def hardware(self) -> Hardware:
        facts = self.config["hardware"]
        return Hardware(**{**facts, "engines": tuple(facts["engines"])})

    @cached_property
    def engines(self) -> dict[str, Engine]:
        return {name: build(node, f"engine.{name}") for name, node in self.config["engine"].items()}

    def recipe(self, key: str) -> Recipe:
        """The recipe mounted at ``model`` or ``teacher``."""
        recipe: Recipe = build(self.config[key], key)
        return recipe

    def finetune(self, key: str) -> dict[str, Any]:
        """How the network mounted at ``model`` or ``teacher`` is trained if it is not trained for the dataset yet."""
        spec: dict[str, Any] = self.config["finetune"] if key == "teacher" or self.own is None else self.own
        return spec

    @property
    def precision(self) -> str:
        """Training precision with ``auto`` resolved: bf16-mixed where the processor, or the oldest GPU, has it."""
        from modelpress.benchmark.machine import has_bf16
        from modelpress.engines.driver import BF16_FROM, probe

        if self.hardware.precision != "auto":
            return self.hardware.precision
        if self.hardware.accelerator == "cpu":
            return "bf16-mixed" if has_bf16() else "32-true"
        old = [device for device in probe().devices if device.compute_capability < BF16_FROM]
        return "16-mixed" if old else "bf16-mixed"


def _own_finetune(cfg: DictConfig) -> dict[str, Any] | None:
    """The tree's ``finetune`` follows the teacher's wishes where there is one; here it follows the model's."""
    if not cfg.teacher:
        return None
    alone = cfg.copy()
    with read_write(alone):
        alone.teacher = {}
    spec: Any = OmegaConf.to_container(alone.finetune, resolve=True, throw_on_missing=False)
    return dict(spec)


def versions(*packages: str) -> dict[str, str]:
    """Installed versions, without importing anything. onnxruntime-gpu counts as onnxruntime, whose place it takes."""
    return {name: _version(name) for name in packages}


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        if package != "onnxruntime":
            raise
    try:
        return f"{metadata.version('onnxruntime-gpu')} (gpu)"
    except metadata.PackageNotFoundError:
        raise ModelPressError(not_installed(package)) from None


def sources(*modules: str) -> dict[str, str]:
    """sha256 of each module's source file: other code, other key."""
    return {name: file_digest(_source(name)) for name in sorted(set(modules))}


def _source(module: str) -> Path:
    from importlib.util import find_spec

    spec = find_spec(module)
    assert spec is not None and spec.origin is not None, f"{module} has no source file"
    return Path(spec.origin)


def targets(node: Any) -> list[str]:
    """Modules of every ``_target_`` in a config tree."""
    if isinstance(node, dict):
        own = [str(node["_target_"]).rpartition(".")[0]] if "_target_" in node else []
        return own + [name for value in node.values() for name in targets(value)]
    return [name for item in node for name in targets(item)] if isinstance(node, list) else []
