"""How long a stage will take: from the store's own history where there is one, from arithmetic otherwise."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from modelpress.job import Job
from modelpress.stage import Stage, deciding
from modelpress.store import RECORD, Entry, Store, read

# floating-point operations per second of a small encoder in training on two cores: a guess until the store knows
FLOPS = {"bf16-mixed": 2.0e11, "16-mixed": 2.0e11, "32-true": 1.0e11}
UNKNOWN = "not known before its first run here"
FORWARD, TRAIN = 2, 6  # operations per parameter and token


def minutes(job: Job, stage: Stage) -> tuple[float | None, str]:
    """Estimated minutes of a stage and what the estimate rests on; ``None`` where nothing is known to count."""
    if stage.spec is None:
        return 0.2, "loading only"
    similar = [entry for entry in history(job.store) if _similar(entry, job, stage)]
    if similar:
        latest = max(similar, key=lambda entry: entry.created)
        return latest.seconds / 60, f"as {latest.name} took on {latest.created[:10]}"
    counted = _arithmetic(job, stage)
    return counted, UNKNOWN if counted is None else "arithmetic"


def history(store: Store) -> list[Entry]:
    """Every stage ever finished here."""
    entries = [read(path.parent) for path in (store.root / "entries").glob(f"*/{RECORD}")]
    return [entry for entry in entries if entry.kind == "stage"]


def _similar(entry: Entry, job: Job, stage: Stage) -> bool:
    spec = entry.inputs["stage"]
    same = (entry.inputs["model"], entry.inputs["precision"], entry.inputs["dataset"]["fingerprint"])
    wanted = (stage.recipe.fingerprint(), job.precision, job.dataset.fingerprint())
    mine = deciding(stage.spec)
    if spec is None or mine is None or entry.name != stage.title:
        return False
    return bool(same == wanted and spec["trainer"] == mine["trainer"])


def _arithmetic(job: Job, stage: Stage) -> float | None:
    assert stage.spec is not None
    tokens = _items(job, stage.spec["trainer"]) * job.dataset.positions
    teacher = stage.teacher.recipe if stage.needs_teacher and stage.teacher is not None else None
    networks = [(TRAIN, stage.recipe), *([(FORWARD, teacher)] if teacher else [])]
    counts = [(each, recipe.parameters()) for each, recipe in networks] if tokens else []
    known = [each * parameters for each, parameters in counts if parameters is not None]
    return sum(known) * tokens / FLOPS[job.precision] / 60 if len(known) == len(counts) else None


def _items(job: Job, trainer: Mapping[str, Any]) -> float:
    """Items that training sees in all: the epochs' or, where they end it sooner, the steps'."""
    train, batch = job.dataset.describe()["splits"]["train"], job.config["dataset"]["batch_size"]
    share, epochs, steps = trainer["limit_train_batches"], trainer["max_epochs"], trainer["max_steps"]
    each = min(share * batch, train) if isinstance(share, int) else share * train
    by_epochs = each * epochs if epochs is not None and epochs >= 0 else math.inf
    by_steps = steps * trainer["accumulate_grad_batches"] * batch if steps > 0 else math.inf
    return float(min(by_epochs, by_steps))
