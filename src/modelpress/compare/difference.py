"""What differs between two runs, in sections. Pure: takes what report.json and status.json hold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from modelpress.compare.origin import flat
from modelpress.compare.overrides import Value, overrides, spelled
from modelpress.report.record import Report, Row

# State of a machine at one moment; the rest of its facts do not change between two runs.
PASSING = ("clock_mhz", "load_average", "kernel")
TRAINING = ("stage", "dataset", "preprocessor", "precision", "accelerator", "devices", "model")
Pair = tuple[str, str, str]


@dataclass(frozen=True)
class Section:
    """``rows``: name, value in A, value in B. ``note`` stands below, also where there are no rows."""

    title: str
    rows: list[Pair]
    note: str = ""


def differences(a: Report, b: Report) -> list[Section]:
    """Every section, in the order of cause and effect; a section without rows says that nothing differs."""
    stages = [_entries(report, "stage") for report in (a, b)]
    return [
        Section("Overrides", _pairs(overrides(a.command), overrides(b.command))),
        _settings(*stages),
        Section("Measuring", _pairs(*(_measuring(report) for report in (a, b)))),
        Section("Data", _pairs(*(dict(flat("", report.dataset)) for report in (a, b)))),
        Section("Libraries", _pairs(*(_versions(report) for report in (a, b)))),
        Section("Machine", _pairs(*(_machine(report) for report in (a, b)))),
        _code(a, b),
    ]


def first_difference(a: Report, b: Report) -> str:
    """Where the two runs part: the first stage that is not the same entry of the store."""
    stages = [_entries(report, "stage", whole=True) for report in (a, b)]
    shared = [name for name in stages[0] if name in stages[1]]
    same = [name for name in shared if stages[0][name].get("key") == stages[1][name].get("key")]
    parted = next((name for name in shared if name not in same), None)
    words = f"Both rest on the same {' and '.join(same)}." if same else ""
    if parted is not None:
        inputs = [dict(flat("", side[parted].get("inputs"))) for side in stages]
        causes = [name for name, _, _ in _pairs(*inputs) if not name.startswith("sources.")]
        code = any(name.startswith("sources.") for name, _, _ in _pairs(*inputs))
        listed = ", ".join([*causes[:4], *(["…"] if len(causes) > 4 else []), *(["source files"] if code else [])])
        words += f" They part at {parted}: {listed or 'its parent'}."
    elif same and len(same) == max(len(stages[0]), len(stages[1])):
        words += " No weights differ: only how they were measured can."
    return words.strip()


def headline_figures(a: Report, b: Report) -> list[tuple[str, Row | None, Row | None]]:
    """Rows to put side by side: baselines, controls and candidates that both have, else each one's best."""
    mine, theirs = ({row.id: row for row in report.rows} for report in (a, b))
    best = [report.verdict.get("row") for report in (a, b)]
    shared = [name for name in mine if name in theirs and _shape(name) == _shape(best[0] or best[1] or name)]
    found: list[tuple[str, Row | None, Row | None]] = [(name, mine[name], theirs[name]) for name in shared]
    if best[0] not in shared or best[1] not in shared:
        found.append(("best", mine.get(best[0] or ""), theirs.get(best[1] or "")))
    return [entry for entry in found if entry[1] is not None or entry[2] is not None]


def _shape(row_id: str) -> str:
    return row_id.rpartition("/")[2]


def _pairs(a: Mapping[str, Value], b: Mapping[str, Value]) -> list[Pair]:
    """Names whose values differ; what only one side has is shown as a dash on the other."""
    names = list(dict.fromkeys([*a, *b]))
    return [(name, _side(a, name), _side(b, name)) for name in names if _side(a, name) != _side(b, name)]


def _side(values: Mapping[str, Value], name: str) -> str:
    return spelled(values[name]) if name in values else "–"


def _entries(report: Report, kind: str, *, whole: bool = False) -> dict[str, Any]:
    """Name -> entry of the lineage, or only its inputs."""
    found = [entry for entry in report.lineage if entry.get("kind") == kind and "inputs" in entry]
    return {str(entry["name"]): entry if whole else entry["inputs"] for entry in found}


def _settings(a: Mapping[str, Any], b: Mapping[str, Any]) -> Section:
    """What the stages that both have were told; stages of only one side are named."""
    rows: list[Pair] = []
    for name in [name for name in a if name in b]:
        sides = [dict(flat("", {key: side[name].get(key) for key in (*TRAINING, "seed")})) for side in (a, b)]
        rows += [(f"{name}: {key.removeprefix('stage.')}", left, right) for key, left, right in _pairs(*sides)]
    alone = [f"only A trained {name}" for name in a if name not in b]
    alone += [f"only B trained {name}" for name in b if name not in a]
    return Section("Settings of the stages", rows, "; ".join(alone))


def _measuring(report: Report) -> dict[str, Value]:
    inputs: Mapping[str, Any] = next(iter(_entries(report, "measurement").values()), {})
    found = {key: inputs.get(key) for key in ("benchmark", "hardware") if key in inputs}
    return dict(flat("", found))


def _versions(report: Report) -> dict[str, Value]:
    """Of everything that trained, exported or measured."""
    found: dict[str, Value] = {}
    for entry in report.lineage:
        found |= dict(flat("", (entry.get("inputs") or {}).get("versions") or {}))
    before = report.environment.get("before", report.environment)
    return {**found, **dict(flat("", before.get("runtimes") or {})), "python": before.get("python")}


def _machine(report: Report) -> dict[str, Value]:
    facts = report.environment.get("before", report.environment)
    left_out = (*PASSING, "runtimes", "libraries", "python")
    return dict(flat("", {key: value for key, value in facts.items() if key not in left_out}))


def _code(a: Report, b: Report) -> Section:
    """The commit where it was recorded, and which source files differ (by their sha256 in the lineage)."""
    commits = [dict(flat("", report.environment.get("code") or {})) for report in (a, b)]
    files = [dict(_sources(report)) for report in (a, b)]
    differing = sorted(name for name in files[0].keys() & files[1].keys() if files[0][name] != files[1][name])
    note = f"{len(differing)} source files differ: {', '.join(differing[:12])}{', …' if len(differing) > 12 else ''}"
    return Section("Code", _pairs(*commits), note if differing else "")


def _sources(report: Report) -> Iterator[tuple[str, str]]:
    for entry in report.lineage:
        yield from ((entry.get("inputs") or {}).get("sources") or {}).items()
