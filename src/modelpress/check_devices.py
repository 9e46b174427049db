"""Devices that are not there, and what cannot be trained on several: said before anything is built."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from modelpress.check_nodes import Tree, stages
from modelpress.engines.driver import BF16_FROM, probe
from modelpress.engines.torch import cannot_compile
from modelpress.errors import ModelPressError, one_of

ACCELERATORS = ("cpu", "cuda")
STRATEGIES = ("auto", "ddp", "ddp_find_unused_parameters_true")
STARTED = ("WORLD_SIZE", "SLURM_STEP_NUM_TASKS")  # set by torchrun and by srun in each of the processes they start
QUANTIZE, PRUNE_STRUCTURED = ".Quantize", ".PruneStructured"


def devices(config: Tree) -> Iterable[str]:
    """Faults of ``hardware.devices`` and ``hardware.strategy``, and of stages that they do not suit."""
    given, strategy = config["hardware"].get("devices"), config["hardware"].get("strategy")
    if not isinstance(given, int):
        return  # another check says so
    if given < 1:
        yield f"hardware.devices is {given}; allowed: 1, 2, … devices of this machine."
    try:
        one_of("hardware.strategy", strategy or "auto", STRATEGIES)
    except ModelPressError as error:
        yield str(error)
    yield from _started_by_others()
    if given > 1:
        for key, stage in stages(config).items():
            if _trains(config, stage) and isinstance(stage["transform"], dict):
                yield from (f"{key}.transform.{fault} hardware.devices=1" for fault in _alone(stage["transform"]))


def gpus(config: Tree) -> Iterable[str]:
    """Faults of a GPU that this machine does not have, or that lacks what is asked of it."""
    hardware = config["hardware"]
    name, given, count = hardware.get("name"), hardware.get("accelerator", "cpu"), hardware.get("devices")
    if given not in ACCELERATORS:
        yield f"hardware.accelerator is {given!r}; allowed: {', '.join(ACCELERATORS)}."
    if given != "cuda":
        return
    driver = probe()
    if driver.reason is not None:
        yield f"hardware={name} needs an NVIDIA GPU: {driver.reason}. Here hardware=cpu runs."
        return
    found = ", ".join(device.name for device in driver.devices)
    if isinstance(count, int) and count > len(driver.devices):
        yield f"hardware.devices is {count}, and this machine has {len(driver.devices)} ({found})."
    old = [device for device in driver.devices if device.compute_capability < BF16_FROM]
    if hardware.get("precision") == "bf16-mixed" and old:
        yield f"hardware.precision is bf16-mixed, and {old[0].name} has no bf16 arithmetic. Use 16-mixed"


def compilers(config: Tree) -> Iterable[str]:
    """Training that is to be compiled where something that compiles is missing."""
    training = {key: _trainer(config, stage) for key, stage in stages(config).items() if _trains(config, stage)}
    asked = [key for key, trainer in training.items() if trainer.get("compile") is True]
    for key in asked:
        transform = stages(config)[key]["transform"]
        if isinstance(transform, dict) and str(transform.get("_target_")).endswith(QUANTIZE):
            yield (
                f"{key}: trainer.compile is true, and quantizers that train break a network into hundreds of small "
                f"graphs, each compiled by itself. Set ++{key}.trainer.compile=false"
            )
    why = cannot_compile(config["hardware"].get("accelerator", "cpu")) if asked else None
    if why is not None:
        yield f"trainer.compile is true for {', '.join(asked)}, and {why}. Install it, or set trainer.compile=false"


def _started_by_others() -> Iterable[str]:
    for name in STARTED:
        if int(os.environ.get(name) or 1) > 1:
            yield (
                f"hardware.devices: this is one of {os.environ[name]} processes ({name}), as torchrun and srun start "
                "them. Start one: it starts those of its other devices itself, on its own machine."
            )


def _trains(config: Tree, stage: Tree) -> bool:
    return bool(_trainer(config, stage).get("max_epochs") != 0)


def _trainer(config: Tree, stage: Tree) -> dict[str, Any]:
    own = stage["trainer"] if isinstance(stage["trainer"], dict) else {}
    return {**config["trainer"], **own}


def _alone(transform: dict[str, Any]) -> Iterable[str]:
    """Why a stage must be trained by one process, and what else to choose; each sentence goes on with "or …"."""
    target = str(transform.get("_target_"))
    if target.endswith(QUANTIZE) and transform.get("ranges") == "learned":
        yield (
            "ranges is learned: the gradient of a range depends on how many values a process sees. Choose running, "
            "fixed, or"
        )
    if target.endswith(QUANTIZE) and transform.get("activations") == "dynamic":
        yield (
            "activations is dynamic: the range of a tensor spans its batch, of which a process sees a part. Choose "
            "static, or"
        )
    if target.endswith(PRUNE_STRUCTURED) and (transform.get("begin") or (transform.get("iterations") or 1) > 1):
        yield (
            "iterations and begin remove units while it trains, and the processes compare gradients of a network that "
            "keeps its shape. Choose iterations=1 and begin=0, or"
        )
