"""Rules between the parts of a config: pure functions on the plain tree. Nothing is imported or built."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from typing import Any

from modelpress.benchmark.machine import has_bf16
from modelpress.check_devices import compilers, devices, gpus
from modelpress.check_nodes import Tree, stages
from modelpress.check_signature import class_attribute
from modelpress.errors import ModelPressError, one_of

PRESS = ("last", "all")
CONTROL = (True, False, "same_steps")
PRECISIONS = ("auto", "32-true", "bf16-mixed", "16-mixed")
LOGGER_MODES = ("auto", "online", "offline", "disabled")
MAX_SEED = 2**32 - 1


def faults(config: Tree) -> list[str]:
    """Every broken rule."""
    rules = (
        _root,
        _stage_order,
        _teacher,
        _engines,
        _deployable,
        _precision,
        devices,
        gpus,
        compilers,
        _budget,
        _logger,
    )
    return [fault for rule in rules for fault in rule(config)]


def warnings(config: Tree) -> list[str]:
    """What may be meant, but probably is not."""
    return [*_idle_teacher(config), *_slow_precision(config)]


def repeated_stages(overrides: Sequence[str]) -> list[str]:
    """``technique=[distill,distill]`` composes into one stage; only the command line shows the two."""
    found = []
    for override in overrides:
        key, _, value = override.partition("=")
        names = [name.strip(" '\"") for name in value.strip("[] ").split(",")]
        twice = sorted({name for name in names if names.count(name) > 1})
        if key.lstrip("+") == "technique" and twice:
            found.append(
                f"{override}: {', '.join(twice)} is named twice, and a name can stand for one stage only. For a second "
                f"one copy conf/technique/{twice[0]}.yaml under another name (and change its first line)."
            )
    return found


def _root(config: Tree) -> Iterable[str]:
    yield from _closed("press", config["press"], PRESS)
    if config["control"] not in CONTROL:
        yield f"control is {config['control']!r}; allowed: true, false or same_steps (no arm of equal latency)."
    if not 0 <= config["seed"] <= MAX_SEED:
        yield f"seed is {config['seed']}; allowed: 0 to {MAX_SEED}."
    if not re.fullmatch(r"[\w][\w.-]*", config["name"]):
        yield f"name is {config['name']!r}; it names a folder: letters, digits, _ - and . only."
    if not config["technique"]:
        yield "technique selects no stage; choose one: technique=distill"


def _closed(key: str, given: object, allowed: Iterable[str]) -> Iterable[str]:
    try:
        one_of(key, given, allowed)
    except ModelPressError as error:
        yield str(error)


def _attribute(node: Any, name: str) -> object:
    """A class attribute of a node's target; None where the target is broken (another check says so)."""
    try:
        return class_attribute(str(node["_target_"]), name)
    except (ModelPressError, KeyError, TypeError):
        return None


def _stage_order(config: Tree) -> Iterable[str]:
    if config["side_by_side"]:
        if "finetune" in config["technique"] and len(config["technique"]) > 1:
            yield "technique.finetune: what stands side by side starts from it. Leave it out, or set side_by_side=false"
        return
    before: list[tuple[str, object]] = []
    for name, stage in config["technique"].items():
        forbidden: Any = _attribute(stage["transform"], "forbidden_after") or ()
        for earlier, kind in before:
            if kind in forbidden:
                yield (
                    f"technique.{name} may not come after technique.{earlier} ({kind}). "
                    f"Turn them round: 'technique=[{name},{earlier}]'"
                )
        before.append((name, _attribute(stage["transform"], "kind")))


def teacher_of(stage: Tree) -> str:
    """Who teaches a stage: external, parent or none. The yaml wins over the class."""
    objective = stage["objective"] if isinstance(stage["objective"], dict) else {}
    return str(objective.get("teacher") or _attribute(objective, "teacher") or "none")


def external_stages(config: Tree) -> list[str]:
    """Full keys of the stages that learn from the run's teacher."""
    return [key for key, stage in stages(config).items() if key != "finetune" and teacher_of(stage) == "external"]


def _teacher(config: Tree) -> Iterable[str]:
    if teacher_of(config["finetune"]) != "none":
        yield "finetune.objective learns from a teacher; fine-tuning has none. Choose technique@finetune=finetune"
    if not config["teacher"]:
        for key in external_stages(config):
            yield f"{key} learns from a teacher, and teacher is none. Choose one: model@teacher=minilm"


def _idle_teacher(config: Tree) -> Iterable[str]:
    starts = isinstance(config["model"], dict) and config["model"].get("init") == "teacher"
    if config["teacher"] and not starts and not external_stages(config):
        name = config["teacher"].get("name", "the teacher")
        yield f"teacher: no stage learns from {name}; it will be trained only to stand in the report as baseline."


def _engines(config: Tree) -> Iterable[str]:
    able = config["hardware"].get("engines")
    for name in config["engine"] or ():
        if isinstance(able, list) and name not in able:
            near = difflib.get_close_matches(name, able, n=1)
            usable = [other for other in config["engine"] if other in able] or near or able
            yield (
                f"engine.{name}: hardware={config['hardware'].get('name')} runs {', '.join(map(str, able))} only. "
                f"Choose 'engine=[{','.join(map(str, usable))}]'"
            )


def _deployable(config: Tree) -> Iterable[str]:
    names = list(config["engine"] or ())
    if not names:
        name, able = config["hardware"].get("name"), config["hardware"].get("engines") or ()
        known = ",".join(map(str, able))
        yield f"engine selects nothing, and hardware={name} has no choice of its own. It runs engine=[{known}]"
        return
    if not any(not str(name).startswith("torch") for name in names):
        yield (
            f"engine is [{', '.join(map(str, names))}]: PyTorch rows are for reference and cannot be deployed. "
            "Add a runtime: 'engine=[onnxruntime,torch]'"
        )


def _precision(config: Tree) -> Iterable[str]:
    given, accelerator = config["hardware"].get("precision", "auto"), config["hardware"].get("accelerator")
    yield from _closed("hardware.precision", given, PRECISIONS)
    if given == "16-mixed" and accelerator == "cpu":
        yield "hardware.precision is 16-mixed and hardware.accelerator cpu: fp16 training needs a GPU. Use bf16-mixed"


def _slow_precision(config: Tree) -> Iterable[str]:
    hardware = config["hardware"]
    if hardware.get("precision") == "bf16-mixed" and hardware.get("accelerator") == "cpu" and not has_bf16():
        yield "hardware.precision is bf16-mixed and this processor has no bf16 instructions: slower than 32-true."


def _budget(config: Tree) -> Iterable[str]:
    for name in ("latency_ms", "size_mb", "memory_mb"):
        value = config["budget"][name]
        if value is not None and not value > 0:
            yield f"budget.{name} is {value}; it must be above 0, or null for no goal."
    drop = config["budget"]["max_metric_drop"]
    if not 0 <= drop <= 1:
        yield f"budget.max_metric_drop is {drop}; it is absolute, from 0 to 1 (0.01: one point of accuracy)."


def _logger(config: Tree) -> Iterable[str]:
    for name, node in (config["logger"] or {}).items():
        if isinstance(node, dict) and "mode" in node:
            yield from _closed(f"logger.{name}.mode", node["mode"], LOGGER_MODES)
