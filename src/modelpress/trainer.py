"""Lightning's Trainer for one stage: options, callbacks, and what keeps its edges from showing."""

from __future__ import annotations

import signal
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from lightning import Trainer
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch.callbacks import Callback

from modelpress.callbacks.batch_norm import FrozenBatchNorm
from modelpress.callbacks.best import Best
from modelpress.callbacks.curves import Curves
from modelpress.callbacks.median import medians
from modelpress.callbacks.patience import Patience
from modelpress.callbacks.resume import Resume
from modelpress.config import OWN_TRAINER_KEYS, build

if TYPE_CHECKING:
    from modelpress.engines.base import Hardware
    from modelpress.training import Arm


def make_trainer(arm: Arm, *, batches: int) -> Trainer:
    """Lightning's Trainer from ``trainer`` (shared values and the technique's own) and ``hardware``."""
    assert arm.stage.spec is not None
    options = {key: value for key, value in arm.stage.spec["trainer"].items() if key not in OWN_TRAINER_KEYS}
    options["log_every_n_steps"] = min(options["log_every_n_steps"], _limited(options["limit_train_batches"], batches))
    hardware = arm.job.hardware
    return Trainer(
        accelerator=hardware.accelerator,
        devices=hardware.devices,
        strategy=strategy(hardware),
        plugins=[LightningEnvironment()] if hardware.devices > 1 else None,  # else Slurm's own would be found
        precision=arm.job.precision,  # type: ignore[arg-type]
        default_root_dir=arm.folder,
        callbacks=_callbacks(arm),
        logger=arm.loggers or False,
        enable_model_summary=False,
        **options,
    )


def strategy(hardware: Hardware) -> str:
    """Lightning's name for it. Parts of a loss that come and go leave parameters unused, which plain DDP refuses."""
    if hardware.devices == 1:
        return "auto"
    return "ddp_find_unused_parameters_true" if hardware.strategy == "auto" else hardware.strategy


def optimizer_steps(trainer: Mapping[str, Any], batches: int) -> int:
    """Optimizer steps of a whole stage, as Lightning counts them.

    >>> optimizer_steps(dict(limit_train_batches=1.0, accumulate_grad_batches=2, max_epochs=3, max_steps=-1), 5)
    9
    """
    per_epoch = -(-_limited(trainer["limit_train_batches"], batches) // trainer["accumulate_grad_batches"])
    epochs = trainer["max_epochs"]
    total = per_epoch * epochs if epochs is not None and epochs >= 0 else trainer["max_steps"]
    return int(min(total, trainer["max_steps"]) if trainer["max_steps"] > 0 else total)


def _limited(limit: int | float, batches: int) -> int:
    """How many of ``batches`` Lightning's ``limit_train_batches`` leaves, at least one."""
    return max(1, min(limit, batches) if isinstance(limit, int) else int(limit * batches))


def _callbacks(arm: Arm) -> list[Callback]:
    assert arm.stage.spec is not None
    options, metric = arm.stage.spec["trainer"], f"{arm.stage.name}/validation/{arm.job.dataset.metric}"
    checkpoints = arm.folder / "checkpoints"
    best = Best(checkpoints, metric, arm.job.dataset.describe()["splits"]["validation"])
    callbacks: list[Callback] = [best, Resume(checkpoints, options["checkpoint_seconds"]), Curves(arm.folder)]
    if options["freeze_batch_norm"]:
        callbacks.append(FrozenBatchNorm())
    if options["early_stopping_patience"] is not None:
        callbacks.append(Patience(metric, mode="max", patience=options["early_stopping_patience"]))
    callbacks += medians(arm.job.folder, metric, is_last=arm.stage.name == [*arm.job.config["technique"]][-1])
    nodes = arm.job.config["callbacks"] or {}
    return callbacks + [build(node, f"callbacks.{name}") for name, node in nodes.items()]


@contextmanager
def known_warnings() -> Iterator[None]:
    """Silence two of Lightning's warnings: one about its own code, one about what resuming is."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*LeafSpec.* is deprecated")
        warnings.filterwarnings("ignore", "Checkpoint directory .* exists and is not empty")
        yield


@contextmanager
def interruptible() -> Iterator[None]:
    """Ctrl-C stays a KeyboardInterrupt: Lightning turns it into an exit and mutes the signal."""
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as stop:
        if isinstance(stop.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from None
        raise
    finally:
        if handler is not None and threading.current_thread() is threading.main_thread():  # others may not touch it
            signal.signal(signal.SIGINT, handler)
