"""What pruning costs and gives: metric against sparsity, and against measured latency, for four kinds of pruning.

    make bench PART=pruning
    python -m bench.pruning --preset quick --kinds unstructured,structured dataset.limit=60     # a quick look

One seed, three sparsities a kind, two epochs each (``longer``: the default four), all from one fine-tuned MiniLM.
Everything trained lands in the store, so an interrupted bench continues; all files are then measured in one session.
The tables and the picture are also written to outputs/bench_pruning. ``packed``: the sparsest unstructured network in
INT8, without and with OpenVINO's sparse weights. Further overrides hold for every run, also of the technique
(technique.prune_structured.trainer.max_epochs=1).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from bench.contest import ABSENT, Contender, Contest, hold, number, points
from bench.pressed import Arms, arms
from bench.pruning_plot import STYLES, draw, point
from modelpress.anatomy import described, sizes
from modelpress.assemble import plan_size_mb
from modelpress.engines.base import Plan
from modelpress.press import Pressed

SHAPE = "1x128"
DENSE, ANCHOR = "dense", "dense/onnxruntime/fp32"
FOLDER = Path("outputs") / "bench_pruning"
STRUCTURED = "technique.prune_structured.transform"
UNSTRUCTURED = "technique.prune.transform"
SPARSEST = 0.9
SHORT = "technique.prune.trainer.max_epochs=2"


def _shares(technique: str, address: str, shares: Sequence[float], *more: str) -> dict[str, list[str]]:
    return {f"{share:.0%}": [f"technique={technique}", f"{address}.sparsity={share}", *more] for share in shares}


# kind -> what is asked for -> overrides
KINDS: dict[str, dict[str, list[str]]] = {
    "unstructured": _shares("prune", UNSTRUCTURED, (0.5, 0.7, SPARSEST), SHORT),
    "longer": _shares("prune", UNSTRUCTURED, (0.7,)),
    "n:m": {
        pattern: ["technique=prune", f"{UNSTRUCTURED}.pattern='{pattern}'", f"{UNSTRUCTURED}.sparsity=null", SHORT]
        for pattern in ("2:4", "1:4", "1:8")
    },
    "structured": _shares("prune_structured", STRUCTURED, (0.3, 0.5, 0.7)),
    "layers": _shares("prune_structured", STRUCTURED, (0.3, 0.45, 0.65), f"{STRUCTURED}.remove=[layers]"),
    "packed": {
        name: [
            "technique=[prune,ptq]",
            f"{UNSTRUCTURED}.sparsity={SPARSEST}",
            SHORT,
            f"engine.openvino.sparse_weights={rate}",
        ]
        for name, rate in (("INT8", "null"), ("INT8, sparse weights", "0.8"))
    },
}


@dataclass(frozen=True)
class File:
    """One pruned network."""

    kind: str
    asked: str
    made: Pressed

    @property
    def title(self) -> str:
        return f"{self.kind} {self.asked}".strip()


def main(arguments: Sequence[str] = ()) -> None:
    args = parse(arguments)
    first, files = make(args.kinds, [f"benchmark={args.preset}", *args.overrides])
    contest = compare(first, files)
    shown = [file for file in files if file.kind != DENSE]
    text = f"{table(contest, files)}\n\n{curves(contest, shown)}\n{notes(contest)}"
    (contest.session.trace.parent / "pruning.md").write_text(text, encoding="utf-8")
    picture(contest, shown)
    print(text)
    print(f"in {contest.session.trace.parent}")


def make(kinds: Sequence[str], overrides: Sequence[str]) -> tuple[Arms, list[File]]:
    """Train what the store lacks; the dense parent first."""
    wanted = [(kind, asked, given) for kind in kinds for asked, given in KINDS[kind].items()]
    made = [(kind, asked, arms("model=minilm", *given, *relevant(given, overrides))) for kind, asked, given in wanted]
    dense = next((one for kind, _, one in made if kind != "packed"), None) or arms(
        "model=minilm", *KINDS["unstructured"]["50%"], *relevant(KINDS["unstructured"]["50%"], overrides)
    )
    return dense, [File(DENSE, "", dense.parent), *(File(kind, asked, one.candidate) for kind, asked, one in made)]


def relevant(given: Sequence[str], overrides: Sequence[str]) -> list[str]:
    """Without values of techniques that this run does not have: they would be ghosts to the config."""
    chosen = given[0].partition("=")[2].strip("[]").split(",")
    return [o for o in overrides if not o.startswith("technique.") or o.split(".")[1] in chosen]


def compare(first: Arms, files: Sequence[File]) -> Contest:
    """One session of every file in ONNX Runtime and in the fastest precision of OpenVINO."""
    folder = FOLDER / f"{datetime.now():%Y-%m-%d_%H-%M-%S}"
    contenders = {key: entry for file in files for key, entry in entries(file).items()}
    workloads, test = first.workloads(folder / "requests", SHAPE), first.test(folder / "requests")
    anchors = {"anchor": ANCHOR, "lossless": ANCHOR}
    return hold(contenders, workloads, test, first.settings, first.job.hardware, folder, **anchors)


def entries(file: File) -> dict[str, Contender]:
    """One row per engine: of several precisions the last asked for, which is the fastest."""
    plans: dict[str, Plan] = {plan.engine: plan for plan in file.made.plans.values()}
    key = file.kind if file.kind == DENSE else f"{file.kind}/{file.asked}"
    rows = {f"{key}/{plan.engine}/{plan.precision}": Contender(file.title, plan) for plan in plans.values()}
    return rows | {f"{key}/{name}": Contender(file.title, None, why=why) for (_, name), why in file.made.absent.items()}


def table(contest: Contest, files: Sequence[File]) -> str:
    """One row per file and engine; speed-ups are over the dense network in the same engine."""
    titles = ("network", "sizes", "zeros, %", "accuracy", "drop, points", "engine", "p50, ms", "x dense, same engine")
    lines = [_line([*titles, "MB", "MB zipped"]), _line(["---"] * (len(titles) + 2))]
    lines += [_row(contest, file, key) for file in files for key in entries(file)]
    return "\n".join(lines)


def _row(contest: Contest, file: File, key: str) -> str:
    entry, row = contest.contenders[key], contest.row(key, SHAPE)
    if row is None or entry.plan is None:
        return _line([file.title, *[ABSENT] * 9])
    twin = twin_of(contest, entry.plan.engine)
    quality, ratio = contest.quality(key), contest.ratio(twin, key, SHAPE) if twin not in (None, key) else None
    found = sizes(file.made.entry.folder / "model")
    cells = [
        described(found) if found else ABSENT,
        number(100 * file.made.facts["main"]["sparsity"], 1),
        f"{quality[0]:.4f}" if quality else ABSENT,
        points(quality[1]) if quality and key != ANCHOR else ABSENT,
        f"{entry.plan.engine} {row.precision}",
        number(row.latency_ms.p50 if row.latency_ms else None, 2),
        f"{ratio.value:.2f} [{ratio.ci_low:.2f}, {ratio.ci_high:.2f}]" if ratio else ABSENT,
        number(plan_size_mb(entry.plan), 1),
        number(file.made.facts["main"].get("compressed_mb"), 1),
    ]
    return _line([file.title, *cells])


def twin_of(contest: Contest, engine: str) -> str | None:
    """The dense network in this engine."""
    return next((key for key in contest.contenders if key.startswith(f"{DENSE}/{engine}/")), None)


def curves(contest: Contest, files: Sequence[File]) -> str:
    """Accuracy against sparsity and against latency in ONNX Runtime, a line per kind."""
    lines = [_line(["kind", "zeros or parameters gone → accuracy @ p50 ms in ONNX Runtime"]), _line(["---"] * 2)]
    kinds: Mapping[str, list[str]] = {kind: [] for kind in dict.fromkeys(file.kind for file in files)}
    for file in files:
        key = next((key for key in entries(file) if "/onnxruntime/" in key), None)
        row, quality = (contest.row(key, SHAPE), contest.quality(key)) if key else (None, None)
        if row is not None and row.latency_ms is not None and quality is not None:
            kinds[file.kind].append(f"{file.asked} → {quality[0]:.4f} @ {number(row.latency_ms.p50, 2)}")
    return "\n".join([*lines, *(_line([kind, "; ".join(found)]) for kind, found in kinds.items())])


def picture(contest: Contest, files: Sequence[File], engine: str = "openvino") -> Path | None:
    """``pruning.svg`` beside the table, for the engine that is the fastest here; ``None`` if nothing was measured."""
    keys = [(file, key) for file in files for key in entries(file) if f"/{engine}/" in key]
    found = [point(contest, file.kind, file.asked, key, SHAPE) for file, key in keys if file.kind in STYLES]
    dense = twin_of(contest, engine)
    row = contest.row(dense, SHAPE) if dense else None
    if row is None or row.latency_ms is None or row.latency_ms.p50 is None:
        return None
    path = contest.session.trace.parent / "pruning.svg"
    draw(path, [one for one in found if one is not None], row.latency_ms.p50, f"OpenVINO {row.precision}")
    return path


def notes(contest: Contest) -> str:
    """Why a row is missing or not to be trusted, and what became of sparse weights."""
    lines = [f"- {entry.title}: {entry.why}" for entry in contest.contenders.values() if entry.why]
    for key, entry in contest.contenders.items():
        row = contest.row(key, SHAPE)
        if row is not None and row.why:
            lines.append(f"- {key}: {row.status}: {row.why}")
        packed = row.details.get("engine", {}).get("sparse_weights") if row is not None else None
        if packed:
            lines.append(
                f"- {entry.title}: {packed['layers']} layers use sparse weights. {packed.get('why', '')}".strip()
            )
    return "\n".join(["", *lines, ""])


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser("bench.pruning", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--preset", default="default", help="a name in conf/benchmark")
    parser.add_argument("--kinds", type=lambda text: text.split(","), default=list(KINDS), help=",".join(KINDS))
    parser.add_argument("overrides", nargs="*", help="more overrides, as for run.py")
    return parser.parse_args(list(arguments))


if __name__ == "__main__":
    main(sys.argv[1:])
