"""From measurements to the report: one row per model x engine x precision x shape, then the verdict and the files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelpress import anatomy
from modelpress.benchmark.session import Measurement
from modelpress.engines.base import Plan
from modelpress.provenance import curves, diagnostics, environment, lineage, seconds
from modelpress.report.evidence import DECIDING
from modelpress.report.quality import correct
from modelpress.report.record import Report, Row
from modelpress.report.verdict import Budget, Evidence, judge
from modelpress.reproduction import reproduction
from modelpress.stage import QUANTIZE, Stage
from modelpress.store import write_atomic

if TYPE_CHECKING:
    from modelpress.press import Pressed
    from modelpress.pressing import Pressing

NUMERICS = "numerics.json"  # beside the weights of a quantized or 16-bit stage
PRUNING = "pruning.json"  # and of a pruned one
RANDOM = "its weights are random (no checkpoint was given and nothing was trained)"
PREPROCESSED = 200  # test items on which pre-processing is timed


def write(pressing: Pressing) -> Report:
    """Judge the rows, assemble ``deploy/`` and write report.json, .html and .md; prints the table."""
    from modelpress.deploying import folder as deploying
    from modelpress.deploying.module import preprocess_ms
    from modelpress.report import html, markdown, terminal
    from modelpress.report.extras import Extras

    job, folder = pressing.job, pressing.job.folder
    evidence = collect(pressing)
    budget = Budget(**job.config["budget"])
    expected = {"control_expected": pressing.graph.control_expected, "equal_expected": pressing.graph.equal_expected}
    verdict = judge(evidence, pressing.labels, budget, metric=job.dataset.metric, **expected)
    found = environment(pressing)
    rows = [entry.row for entry in evidence]
    report = Report(
        name=job.name,
        command=job.command,
        dataset=job.dataset.describe(),
        task_metric=job.dataset.metric,
        seed=job.seed,
        rows=rows,
        verdict=verdict,
        complete=bool(verdict["complete"]),
        environment=found,
        lineage=[entry.lineage() for entry in lineage(pressing)],
        seconds=seconds(pressing),
        reproduction=reproduction(job, found["code"]),
    )
    chosen, plan = shipped(pressing, verdict["row"])
    made = deploying.assemble(
        folder,
        model_folder=chosen.entry.folder / "model",
        onnx=chosen.onnx,
        plans=list(chosen.plans.values()),
        best=plan,
        report=report,
        dataset=job.config["dataset"],
    )
    spent_ms = preprocess_ms(made, job.dataset.samples(PREPROCESSED))
    for row in rows:  # it is the same for every row of a run: one measurement serves them all
        row.preprocess_ms = spent_ms
    extras = Extras(curves(pressing), {e.row.id: _trace(e) for e in evidence if e.rounds}, diagnostics(pressing))
    report.save(folder / "report.json")
    write_atomic(folder / "report.html", html.render(report, extras))
    write_atomic(folder / "report.md", markdown.render(report))
    terminal.render(report)
    return report


def collect(pressing: Pressing) -> list[Evidence]:
    """All rows, with the raw rounds and the logits that comparisons need."""
    rows = [entry for item in pressing.pressed for entry in _measured(pressing, item)]
    return rows + [entry for item in pressing.pressed for entry in _absent(pressing, item)]


def _measured(pressing: Pressing, item: Pressed) -> list[Evidence]:
    session, found = pressing.session, []
    for key, plan in item.plans.items():
        logits, further = pressing.logits(item, key), _further(pressing, item, key)
        for shape in pressing.shapes(key):
            measurement = session.of(key, shape)
            row = _row(pressing, item, plan, measurement)
            row.metrics |= further
            found.append(Evidence(row, measurement.rounds or None, logits))
    return found


def _further(pressing: Pressing, item: Pressed, key: str) -> dict[str, float]:
    """Share of right answers on every test beside the test split."""
    found = {}
    for split in pressing.further:
        logits, labels = pressing.logits(item, key, split), pressing.labels_of(split)
        if logits is not None and labels is not None:
            found[f"{split.removeprefix('@')}_{pressing.job.dataset.metric}"] = float(correct(logits, labels).mean())
    return found


def _row(pressing: Pressing, item: Pressed, plan: Plan, measured: Measurement) -> Row:
    blank = _blank(pressing, item, (plan.tower, plan.engine, measured.precision), measured.shape)
    details = {**measured.details, **blank.details, "precision_asked": plan.precision}
    if pressing.measurement.reused:
        record = json.loads((pressing.measurement.folder / "measured.json").read_text())
        details["latency_from"] = f"{record['name']}/{record['run']}"
    return replace(
        blank,
        status=measured.status,
        why=measured.why,
        size_mb=plan_size_mb(plan),
        parity_max_abs=item.facts[plan.tower]["parity_max_abs"] if _exact(plan) else None,
        peak_memory_mb=measured.peak_memory_mb,
        cold_start_ms=measured.cold_start_ms,
        latency_ms=measured.latency_ms,
        device_latency_ms=measured.device_latency_ms,
        peak_device_memory_mb=measured.peak_device_memory_mb,
        throughput_per_s=measured.throughput_per_s,
        energy_j_per_sample=measured.energy_j_per_sample,
        details=details,
    )


def _blank(pressing: Pressing, item: Pressed, kind: tuple[str, str, str], shape: str) -> Row:
    """What is known of a row before it is measured. ``kind``: tower, engine and precision."""
    tower, engine, precision = kind
    stage, facts = item.stage, item.facts[tower]
    return Row(
        id="/".join([stage.slug, *([tower] if tower != "main" else []), engine, precision, shape]),
        stage=stage.name,
        model=stage.recipe.name,
        role="reference" if engine.startswith("torch") else stage.role,
        tower=tower,
        engine=engine,
        precision=precision,
        device=pressing.job.hardware.accelerator,
        shape=shape,
        status="unsupported",
        params_m=facts["params_m"],
        macs_g=facts["macs_g"] if shape == facts["counted_shape"] else None,
        sparsity=facts["sparsity"],
        details={
            "kernel_multiple": pressing.job.hardware.kernel_multiple,
            **anatomy.details(item.entry.folder / "model"),
            "operators": sum(facts["ops"].values()),
            "compressed_mb": facts["compressed_mb"],
            **pruning(item.entry.folder / "model", facts),
            **({"description": described(stage)} if stage.role == "control" else {}),
            **numerics(item.entry.folder / "model"),
            **random_weights(pressing, stage),
            **({"one_of_several": True} if _alike(pressing, stage) > 1 else {}),
        },
    )


def _alike(pressing: Pressing, stage: Stage) -> int:
    """How many stages of the same role and model there are in the report."""
    return sum((s.role, s.recipe.name) == (stage.role, stage.recipe.name) for s in pressing.graph.pressed)


def described(control: Stage) -> str:
    """What a control arm is."""
    if control.rival is not None and control.spec is not None:
        what = ", ".join(control.spec["transform"]["remove"])
        return f"the same parent without {what}, as slow as the result, trained the same way"
    if control.spec and control.spec["transform"]["_target_"] == QUANTIZE:
        return "the same quantization without training (PTQ)"
    return "same start and steps, no technique"


def random_weights(pressing: Pressing, stage: Stage) -> dict[str, Any]:
    """That a row's network has learned nothing, and why its metric is empty."""
    if not stage.is_random:
        return {}
    reasons = dict.fromkeys(("metric", "metric_drop"), RANDOM) if pressing.is_random else {}
    return {"weights": "random", "reasons": reasons}


def numerics(model: Path) -> dict[str, Any]:
    """What was done to a network that is not float32; without the long lists of a search."""
    path = model / NUMERICS
    if not path.is_file():
        return {}
    record = json.loads(path.read_text(encoding="utf-8"))
    search = {k: v for k, v in record.get("search", {}).items() if k != "sensitivity"}
    return {"numerics": {**record, **({"search": search} if search else {})}}


def pruning(model: Path, facts: Mapping[str, Any]) -> dict[str, Any]:
    """How a network was pruned, and how many zeros its file holds with those tables that nothing multiplies."""
    path = model / PRUNING
    if not path.is_file():
        return {}
    record = json.loads(path.read_text(encoding="utf-8"))
    del record["weights"]
    return {"pruning": {**record, "sparsity_file": facts["sparsity_file"]}}


def _absent(pressing: Pressing, item: Pressed) -> list[Evidence]:
    """A row with its reason for every engine that could not be built."""
    rows = []
    for (tower, name), why in item.absent.items():
        kind = numerics(item.entry.folder / "model").get("numerics", {}).get("kind")
        place = (tower, name, kind or pressing.job.engines[name].precisions[0])
        rows += [replace(_blank(pressing, item, place, shape), why=why) for shape in pressing.other_shapes(tower)]
    return [Evidence(row, None, None) for row in rows]


def _exact(plan: Plan) -> bool:
    """The graph check ran in ONNX Runtime FP32; it speaks for that row only."""
    return (plan.engine, plan.precision) == ("onnxruntime", "fp32")


def plan_size_mb(plan: Plan) -> float:
    """Size on disk of a plan: its file and those that share its stem (OpenVINO's ``.xml`` and ``.bin``)."""
    if plan.parts:
        return sum(map(plan_size_mb, plan.parts))
    path = Path(plan.file)
    files = [path] if path.is_file() else []
    files += [other for other in path.parent.glob(f"{path.stem}.*") if other != path and other.is_file()]
    folder = [f for f in path.rglob("*") if f.is_file()] if path.is_dir() else []
    return sum(file.stat().st_size for file in [*files, *folder]) / 1e6


def shipped(pressing: Pressing, row_id: str | None) -> tuple[Pressed, Plan]:
    """The stage and the plan to deploy: the verdict's row, else the last stage's first engine."""
    for item in pressing.pressed:
        for key, plan in item.plans.items():
            if row_id is not None and row_id.startswith(f"{key}/"):
                return item, plan
    last = pressing.pressed[-1]
    return last, next(plan for plan in last.plans.values() if plan.tower in DECIDING)


def _trace(entry: Evidence) -> list[float]:
    return [value for block in entry.rounds or [] for value in block]
