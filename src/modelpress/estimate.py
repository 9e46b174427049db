"""How long a stage will take: from the store's own history where there is one, from arithmetic otherwise."""

from __future__ import annotations

from modelpress.job import Job
from modelpress.stage import Stage, deciding
from modelpress.store import RECORD, Entry, Store, read

# floating-point operations per second of a small encoder in training on two cores, measured once; a rough guide
FLOPS = {"bf16-mixed": 2.0e11, "16-mixed": 2.0e11, "32-true": 1.0e11}
FORWARD, TRAIN = 2, 6  # operations per parameter and token


def minutes(job: Job, stage: Stage) -> tuple[float, str]:
    """Estimated minutes of a stage and what the estimate rests on."""
    if stage.spec is None:
        return 0.2, "loading only"
    similar = [entry for entry in history(job.store) if _similar(entry, job, stage)]
    if similar:
        latest = max(similar, key=lambda entry: entry.created)
        return latest.seconds / 60, f"as {latest.name} took on {latest.created[:10]}"
    return _arithmetic(job, stage), "arithmetic"


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


def _arithmetic(job: Job, stage: Stage) -> float:
    assert stage.spec is not None
    sizes = job.dataset.describe()["splits"]
    trainer = stage.spec["trainer"]
    share = trainer["limit_train_batches"]
    batch = job.config["dataset"]["batch_size"]
    items = min(share * batch, sizes["train"]) if isinstance(share, int) else share * sizes["train"]
    tokens = items * trainer["max_epochs"] * min(32, job.config["dataset"]["max_length"])
    work = TRAIN * (stage.recipe.parameters() or 110e6) * tokens
    if stage.needs_teacher and stage.teacher is not None:
        work += FORWARD * (stage.teacher.recipe.parameters() or 110e6) * tokens
    return float(work / FLOPS[job.precision] / 60)
