"""The README of a deploy folder: a model card in the form the model hub reads. Torch-free."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from modelpress.deploying.kinds import IMAGES, PAIRS, TEXTS, Kind
from modelpress.report.columns import columns
from modelpress.report.names import thousands
from modelpress.report.numbers import NULL, Z_95, fixed, points_text
from modelpress.report.record import Report, Row

KEYS = ("engine", "precision", "shape", "metric", "p50", "p95", "size_mb", "peak_memory_mb", "speedup", "speedup_best")
NAMED = 20  # labels that the card lists
TEXT_USE = ('python predict.py "your text"', "python predict.py --file texts.txt --batch 8 --json")
IMAGE_USE = ("python predict.py photo.jpg", "python predict.py *.jpg --top 3 --json")
PAIR_USE = (*IMAGE_USE, 'python predict.py photo.jpg --labels "a dog,a cat"')
ALONE = "`predict.py` needs nothing but the packages in `requirements.txt`; `python predict.py --help` shows the rest."


def render(report: Report, kind: Kind, settings: Mapping[str, Any], digests: Mapping[str, str]) -> str:
    """The card. ``settings`` is ``deploy.json``; ``digests`` maps each file of the folder to its sha256."""
    row = _best(report)
    rows = [other for other in report.rows if row and (other.stage, other.model) == (row.stage, row.model)]
    parts = [
        _front_matter(report, kind),
        f"# {report.name}",
        _what(report, kind),
        "## Use",
        use(kind),
        "## Base model and licence",
        _origin(report),
        "## Data",
        _data(report),
        "## Result",
        _result(report, row),
        _table(report, rows),
        "## Limits",
        f"{_cut(settings['preprocessing'])}\n{LIMITS}",
        "## How it was made",
        f"```\n{report.command or '(from Python)'}\n```",
        f"Seed {report.seed}. Stages, their inputs and library versions are in the run's `report.json`.",
        "## Files",
        _files(digests),
    ]
    return "\n\n".join(part for part in parts if part)


LIMITS = """\
- The figures hold for the test split of this dataset. Texts of another kind or language can do much worse.
- Probabilities are softmax values; they were not calibrated.
- Latencies were measured on one machine; ratios between engines differ on other processors."""


def _best(report: Report) -> Row | None:
    """The row that the verdict names, else the first one of the last model that was measured."""
    named = next((row for row in report.rows if row.id == report.verdict["row"]), None)
    made = [row for row in report.rows if row.role == "candidate"] or report.rows
    return named or (made[0] if made else None)


def _what(report: Report, kind: Kind) -> str:
    labels = [str(label) for label in report.dataset["labels"]]
    listed = ", ".join(labels[:NAMED]) + (f" and {len(labels) - NAMED} more" if len(labels) > NAMED else "")
    if kind is PAIRS:
        return f"A dual encoder: it says which of any texts fits an image. Its own {len(labels)} texts: {listed}."
    return f"A classifier of {'texts' if kind is TEXTS else 'images'} into {len(labels)} labels: {listed}."


def use(kind: Kind) -> str:
    """How the folder is used."""
    examples = {TEXTS: TEXT_USE, IMAGES: IMAGE_USE, PAIRS: PAIR_USE}[kind]
    commands = "\n".join(["pip install -r requirements.txt", *examples])
    checkpoint = (
        '`checkpoint/` is the same network for `AutoModelForSequenceClassification.from_pretrained("checkpoint")`.'
        if kind is TEXTS
        else "`checkpoint/` is the same network for another run of ModelPress (`model.path`)."
    )
    return f"```\n{commands}\n```\n\n{ALONE}\n{checkpoint}"


def _cut(preprocessing: Mapping[str, Any]) -> str:
    tokens = preprocessing.get("max_length") or preprocessing.get("context_length")
    size = preprocessing.get("size")
    lines = [f"- Texts are cut at {tokens} tokens."] if tokens else []
    return "\n".join(lines + ([f"- Images are scaled to {size[0]}x{size[1]} pixels."] if size else []))


def _front_matter(report: Report, kind: Kind) -> str:
    lines = ["---", f"pipeline_tag: {kind.pipeline_tag}", "tags: [modelpress, onnx]"]
    return "\n".join([*lines, f"metrics: [{report.task_metric}]", "---"])


def _origin(report: Report) -> str:
    """Where the weights began, as far as the lineage knows; a licence is never guessed."""
    models = [entry["inputs"].get("model") for entry in report.lineage if entry["kind"] == "stage"]
    names = [_source(model) for model in models if isinstance(model, Mapping)]
    began = "\n".join(f"- {name}" for name in dict.fromkeys(names)) or "- not recorded"
    return (
        f"{began}\n\nLicence: that of these weights and of the data below; look it up before you pass this folder on."
    )


def _source(model: Mapping[str, Any]) -> str:
    start = {"checkpoint": f"weights of `{model.get('path')}`", "teacher": "cut out of its teacher's weights"}
    return f"{model.get('name')}: {start.get(str(model.get('init')), 'random weights')}"


def _data(report: Report) -> str:
    facts = {key: report.dataset.get(key) for key in ("name", "source", "licence", "fingerprint")}
    lines = [f"- {key}: {value}" for key, value in facts.items() if value is not None]
    if splits := report.dataset.get("splits"):
        lines.append("- items: " + ", ".join(f"{name} {thousands(size)}" for name, size in splits.items()))
    return "\n".join(lines)


def _result(report: Report, row: Row | None) -> str:
    words = str(report.verdict.get("words", ""))
    if row is None or row.metric is None:
        return words
    text = f"{report.task_metric} {fixed(100 * row.metric, 1)} %"
    if row.metric_n and report.task_metric == "accuracy":
        low, high = wilson(row.metric, row.metric_n)
        text += (
            f" (95 % interval {fixed(100 * low, 1)} to {fixed(100 * high, 1)}, {thousands(row.metric_n)} test items)"
        )
    if row.metric_drop is not None:
        text += f"; against the uncompressed model {points_text(row.metric_drop)} points lost (paired, 95 %)"
    return f"{text}. {words}".strip()


def wilson(share: float, n: int) -> tuple[float, float]:
    """Two-sided 95 % interval of a share of n trials.

    E. B. Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22 (1927):
    (p + z²/2n ± z·sqrt(p(1−p)/n + z²/4n²)) / (1 + z²/n).
    """
    z2 = Z_95**2 / n
    centre, half = share + z2 / 2, math.sqrt(share * (1 - share) * z2 + z2**2 / 4)
    return (centre - half) / (1 + z2), (centre + half) / (1 + z2)


def _table(report: Report, rows: Sequence[Row]) -> str:
    measured = [row for row in rows if row.status in ("ok", "unstable")]
    if not measured:
        return ""
    chosen = [column for column in columns(report) if column.key in KEYS]
    cells = [[column.text(row) or NULL for column in chosen] for row in measured]
    head = [[column.title for column in chosen], ["---:" if column.numeric else "---" for column in chosen]]
    return "\n".join("| " + " | ".join(line) + " |" for line in head + cells)


def _files(digests: Mapping[str, str]) -> str:
    """The large files by digest; all of them are in SHA256SUMS."""
    shown = [name for name in digests if name.endswith((".onnx", ".bin", ".safetensors", ".data", "tokenizer.json"))]
    lines = [f"- `{name}` sha256 `{digests[name]}`" for name in shown]
    return "\n".join(["Check all files with `sha256sum -c SHA256SUMS`.", "", *lines])
