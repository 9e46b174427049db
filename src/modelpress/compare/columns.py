"""The columns of a comparison: their names, which way is better, and what a user may call them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import fields, is_dataclass
from functools import cache

from modelpress.compare.overrides import Value
from modelpress.compare.run import Run
from modelpress.errors import ModelPressError
from modelpress.report.record import NESTED, Row

# Which row of a run; conditions on these choose among rows.
IDENTITY = ("stage", "model", "role", "tower", "engine", "precision", "device", "shape")
# Facts of the run itself, known also where there is no report.
OF_RUN = ("run", "name", "dataset", "machine", "seed", "started", "seconds", "complete", "command")
ALIASES = {
    "accuracy": "metrics.accuracy",
    "drop": "metric_drop.value",
    "latency": "latency_ms.p50",
    "latency_ms": "latency_ms.p50",
    "memory_mb": "peak_memory_mb",
    "metric_drop": "metric_drop.value",
    "speedup": "speedup.ratio",
    "speedup_best": "speedup_best.ratio",
    "throughput": "throughput_per_s",
    # end to end, where a GPU's own clock has given the same statistics
    **{name: f"latency_ms.{name}" for name in ("p50", "p90", "p95", "p99", "min", "cov", "n")},
}
HIGHER = ("metric", "metrics.", "agreement", "throughput_per_s", "speedup.", "speedup_best.", "sparsity")
LOWER = (
    *("latency_ms.p50", "latency_ms.p90", "latency_ms.p95", "latency_ms.p99", "latency_ms.min", "latency_ms.cov"),
    *("metric_drop.", "size_mb", "peak_memory_mb", "peak_device_memory_mb", "cold_start_ms", "preprocess_ms"),
    *("energy_j_per_sample", "params_m", "macs_g", "seconds", "parity_max_abs"),
)
PER_CENT = ("metric", "metrics.", "agreement", "sparsity", "metric_drop.")


@cache
def row_columns() -> tuple[str, ...]:
    """Names of what a row holds, nested ones with a dot: ``latency_ms.p50``."""
    names: list[str] = []
    for entry in fields(Row):
        if entry.name in NESTED:
            names += [f"{entry.name}.{part.name}" for part in fields(NESTED[entry.name])]
        elif entry.name not in ("id", "metrics", "details"):
            names.append(entry.name)
    return tuple(names)


def row_values(row: Row) -> dict[str, Value]:
    """A row under the names of :func:`row_columns`, and its ``metrics.<name>``."""
    found: dict[str, Value] = {f"metrics.{name}": value for name, value in row.metrics.items()}
    for name in row_columns():
        head, _, tail = name.partition(".")
        part = getattr(row, head)
        found[name] = getattr(part, tail) if tail and is_dataclass(part) else None if tail else part
    return found


def run_values(run: Run) -> dict[str, Value]:
    """What is known of a run without its rows."""
    return {
        "run": str(run.folder),
        "name": run.name,
        "dataset": run.origin.dataset or None,
        "machine": run.origin.machine or None,
        "seed": run.seed,
        "started": run.started or None,
        "seconds": run.seconds,
        "complete": run.report.complete if run.report else None,
        "command": run.command or None,
        "status": run.status,
    }


def matches(name: str, patterns: Iterable[str]) -> bool:
    """Whether a column is one of ``patterns``; a pattern that ends in a dot stands for all below it."""
    return any(name == pattern or (pattern.endswith(".") and name.startswith(pattern)) for pattern in patterns)


def direction(name: str) -> int | None:
    """1: higher is better; -1: lower is better; ``None``: neither is known.

    >>> direction("metrics.macro_f1"), direction("latency_ms.p50"), direction("technique.prune.transform.sparsity")
    (1, -1, None)
    """
    return 1 if matches(name, HIGHER) else -1 if matches(name, LOWER) else None


def known(runs: Sequence[Run]) -> list[str]:
    """Every column that these runs have: of the run, of its rows, its metrics and its overrides."""
    metrics = {name for run in runs if run.report for row in run.report.rows for name in row.metrics}
    overrides = {name for run in runs for name in run.overrides}
    settings = {name for run in runs for name in run.origin.settings}
    own = [*OF_RUN, *row_columns(), *sorted(f"metrics.{name}" for name in metrics)]
    return list(dict.fromkeys([*own, *sorted(overrides), *sorted(settings)]))


def resolve(given: str, names: Sequence[str], what: str) -> str:
    """The column that ``given`` names: exactly, by an alias, or by the end of its name where only one ends so.

    Raises :class:`ModelPressError`, naming near columns, where none or several fit; ``what`` says who asked.
    """
    if given in names:
        return given
    if ALIASES.get(given) in names:
        return ALIASES[given]
    ending = [name for name in names if name.endswith(f".{given}")]
    if len(ending) == 1:
        return ending[0]
    if ending:
        raise ModelPressError(
            f"{what} is {given!r}, which fits several columns: {', '.join(ending)}. Write one in full."
        )
    raise ModelPressError(f"{what} is {given!r}, but no run has such a column.{_near(given, names)}")


def _near(given: str, names: Sequence[str]) -> str:
    """What was probably meant; otherwise what there is."""
    ends = {name.rpartition(".")[2]: name for name in names[::-1]}
    found = difflib.get_close_matches(given, names, n=3, cutoff=0.6)
    found += [ends[end] for end in difflib.get_close_matches(given.rpartition(".")[2], ends, n=3, cutoff=0.7)]
    if found:
        return f" Did you mean {' or '.join(map(repr, list(dict.fromkeys(found))[:3]))}?"
    return f" There are, among others: {', '.join(names[:40])}."


def short_names(names: Sequence[str], taken: Iterable[str] = ()) -> dict[str, str]:
    """The shortest end of each dotted name that no other of ``names`` or ``taken`` has.

    >>> short_names(["technique.prune.transform.sparsity", "finetune.optimizer.lr"], ["sparsity"])
    {'technique.prune.transform.sparsity': 'transform.sparsity', 'finetune.optimizer.lr': 'lr'}
    """
    others = set(taken)
    return {name: _shortest(name, [other for other in names if other != name], others) for name in names}


def _shortest(name: str, others: Sequence[str], taken: set[str]) -> str:
    parts = name.split(".")
    for count in range(1, len(parts)):
        end = ".".join(parts[-count:])
        if end not in taken and not any(other == end or other.endswith(f".{end}") for other in others):
            return end
    return name
