"""The tree and its nodes: missing values, stages that an override conjured up, arguments that no constructor takes."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Any

from modelpress.check_signature import Signature, signature
from modelpress.check_values import fits, spell
from modelpress.config import OWN_TRAINER_KEYS, STAGE_PARTS
from modelpress.errors import ModelPressError

MISSING = "???"
HARDWARE = "modelpress.engines.base.Hardware"
OPTIMIZER = "modelpress.optimizer.OptimizerConfig"
TRAINER = "lightning.pytorch.trainer.trainer.Trainer"
# Arguments of Lightning's Trainer that the run fills from another group.
ELSEWHERE = {
    **{name: f"hardware.{name}" for name in ("accelerator", "devices", "strategy", "precision")},
    "callbacks": "the callbacks group",
    "logger": "the logger group",
    "default_root_dir": "hydra.run.dir",
    "enable_model_summary": "nothing: it stays off",
}
HINTS = {
    "dataset.path": "the file with your data: dataset.path=reviews.csv",
    "model.path": "a hub id or a local folder: model.path=org/name",
    "teacher.path": "a hub id or a local folder: teacher.path=org/name",
}
OWN_TRAINER_TYPES: Mapping[str, tuple[type, ...]] = {
    "early_stopping_patience": (int, type(None)),
    "checkpoint_seconds": (int, float),
    "compile": (bool,),
    "freeze_batch_norm": (bool,),
}

Tree = Mapping[str, Any]


def stages(config: Tree) -> dict[str, Tree]:
    """Every stage by its full key: ``finetune`` and the techniques."""
    return {"finetune": config["finetune"], **{f"technique.{name}": s for name, s in config["technique"].items()}}


def ghost_stages(config: Tree) -> dict[str, str]:
    """Stages without all four parts, by name, with what to say about them."""
    real = [name for name, stage in config["technique"].items() if not _absent(stage)]
    return {
        name: f"technique.{name} lacks {', '.join(_absent(stage))}: something sets values under technique.{name}, but "
        f"the stages selected are {', '.join(real) or 'none'}. Select it ('technique=[{','.join([*real, name])}]') or "
        f"remove those values."
        for name, stage in config["technique"].items()
        if _absent(stage)
    }


def _absent(stage: Tree) -> list[str]:
    return [part for part in STAGE_PARTS if stage.get(part, MISSING) == MISSING]


def missing_values(config: Tree) -> list[str]:
    """Every ``???`` that is left."""
    return [
        f"{key} is not given." + (f" It is {HINTS[key]}" if key in HINTS else f" Set it: {key}=…")
        for key, value in _leaves(config, "")
        if value == MISSING
    ]


def _leaves(node: Any, key: str) -> Iterator[tuple[str, Any]]:
    items = node.items() if isinstance(node, Mapping) else enumerate(node) if isinstance(node, list) else None
    if items is None:
        yield key, node
        return
    for name, value in items:
        yield from _leaves(value, f"{key}.{name}" if key else str(name))


def node_faults(config: Tree) -> list[str]:
    """Bind every ``_target_``, and the nodes whose class is fixed, to the signature they will be called with."""
    faults = [fault for key, node in _targets(config, "") for fault in _bind(key, node["_target_"], node)]
    faults += [] if "_target_" in config["hardware"] else _bind("hardware", HARDWARE, config["hardware"])
    for key, stage in stages(config).items():
        if isinstance(stage["optimizer"], Mapping) and "_target_" not in stage["optimizer"]:
            faults += _bind(f"{key}.optimizer", OPTIMIZER, stage["optimizer"])
        faults += _without_target(key, stage)
    return faults + [fault for key in ("dataset", "model") for fault in _chosen(key, config[key])]


def _without_target(key: str, stage: Tree) -> list[str]:
    parts = [part for part in ("transform", "objective") if "_target_" not in (stage[part] or {})]
    return [f"{key}.{part} has no _target_, so there is nothing to build." for part in parts]


def _chosen(key: str, node: Tree) -> list[str]:
    return [] if node and "_target_" in node else [f"{key} is none; choose one: {key}=…"]


def _targets(node: Any, key: str) -> Iterator[tuple[str, Tree]]:
    """Every dict with a ``_target_``, the outer before the inner."""
    if isinstance(node, Mapping):
        if "_target_" in node:
            yield key, node
        for name, value in node.items():
            yield from _targets(value, f"{key}.{name}" if key else str(name))
    elif isinstance(node, list):
        for i, value in enumerate(node):
            yield from _targets(value, f"{key}.{i}")


def _bind(key: str, target: str, node: Tree) -> list[str]:
    try:
        found = signature(str(target))
    except ModelPressError as error:
        return [f"{key}._target_: {error}"]
    given = {str(name): value for name, value in node.items() if not _is_ours(str(name))}
    faults = [fault for name, value in given.items() if (fault := _argument(key, name, value, found))]
    if node.get("_partial_") is True or "_args_" in node:
        return faults
    needed = [name for name, parameter in found.parameters.items() if parameter.required and name not in given]
    return faults + [f"{key}.{name} is not given, and {found.name} needs it. Set +{key}.{name}=…" for name in needed]


def _is_ours(name: str) -> bool:
    return name in ("_target_", "_partial_", "_args_", "_convert_", "_recursive_")


def _argument(key: str, name: str, value: Any, found: Signature) -> str | None:
    if name not in found.parameters:
        return None if found.open else f"{key}.{name}: {found.name} takes no {name!r}.{_like(name, found)}"
    parameter = found.parameters[name]
    if value == MISSING or fits(value, parameter.annotation, parameter.module):
        return None
    return f"{key}.{name} is {value!r}; {found.name} takes {spell(parameter.annotation)}."


def _like(name: str, found: Signature) -> str:
    near = difflib.get_close_matches(name, found.parameters, n=1)
    if near:
        return f" Did you mean {near[0]!r}?"
    listed = list(found.parameters)
    return f" It takes: {', '.join(listed[:20])}{' …' if len(listed) > 20 else ''}." if listed else " It takes nothing."


def trainer_faults(config: Tree) -> list[str]:
    """The shared ``trainer`` and each stage's own, against Lightning's Trainer and our own keys."""
    nodes = {"trainer": config["trainer"], **{f"{key}.trainer": s["trainer"] for key, s in stages(config).items()}}
    faults: list[str] = []
    for key, node in nodes.items():
        if isinstance(node, Mapping):
            lightning = {name: value for name, value in node.items() if name not in OWN_TRAINER_KEYS | ELSEWHERE.keys()}
            faults += _bind(key, TRAINER, lightning)
            faults += [f"{key}.{name} is set by {ELSEWHERE[name]}." for name in node if name in ELSEWHERE]
            faults += [fault for name in node if (fault := _own_trainer_value(key, name, node[name]))]
    lengths = (_length(key, stage, config["trainer"]) for key, stage in stages(config).items())
    return faults + [fault for fault in lengths if fault]


def _own_trainer_value(key: str, name: str, value: Any) -> str | None:
    if name not in OWN_TRAINER_TYPES:
        return None
    if OWN_TRAINER_TYPES[name] == (bool,):
        return None if isinstance(value, bool) else f"{key}.{name} is {value!r}; allowed: true, false."
    typed = isinstance(value, OWN_TRAINER_TYPES[name]) and not isinstance(value, bool)
    if typed and (value is None or value > 0):
        return None
    return f"{key}.{name} is {value!r}; it must be a number above 0" + (", or null." if name[0] == "e" else ".")


def _reshapes(stage: Tree) -> bool:
    """Whether the stage does something to the network beside training it."""
    node = stage["transform"]
    return isinstance(node, dict) and node.get("_target_") != "modelpress.transforms.base.Identity"


def _length(key: str, stage: Tree, shared: Tree) -> str | None:
    """A training must end, and must begin."""
    merged = {**shared, **(stage["trainer"] or {})}
    limits = {name: merged.get(name) for name in ("max_epochs", "max_steps")}
    if limits["max_epochs"] == 0 and _reshapes(stage):
        return None  # calibrate, convert or prune, and train nothing
    for name, value in limits.items():
        if isinstance(value, int) and value < 1 and value != -1:
            owner = f"{key}.trainer" if name in (stage["trainer"] or {}) else "trainer"
            return f"{owner}.{name} is {value}; it must be above 0 (or -1: no limit of this kind)."
    if all(value in (None, -1) for value in limits.values()):
        return f"{key}.trainer has neither max_epochs nor max_steps: it would never end. Set {key}.trainer.max_epochs=3"
    return None
