"""Weights & Biases: one run per job, shared by all its stages. wandb and Lightning are imported on first use."""

from __future__ import annotations

import logging
import netrc
import os
import re
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from modelpress.errors import one_of

if TYPE_CHECKING:
    from lightning.pytorch.loggers import WandbLogger
    from wandb import Artifact, Run

    from modelpress.report.record import Report, Row

log = logging.getLogger(__name__)

MODES = ("auto", "online", "offline", "disabled")
EXIT_CODES = {"finished": 0, "failed": 1, "killed": 128 + signal.SIGTERM}
HOST = "api.wandb.ai"
REPORT_FILES = ("report.html", "report.json", "report.md")
NESTED = {
    "latency_ms": ("p50", "p90", "p95", "p99", "min", "cov", "n"),
    "metric_drop": ("value", "ci_low", "ci_high"),
    "speedup": ("ratio", "ci_low", "ci_high"),
    "speedup_best": ("ratio", "ci_low", "ci_high"),
}
HEADLINE = re.compile(
    r"metric(_drop.*)?|agreement|size_mb|latency_ms_p\d+|peak_memory_mb|throughput_per_s|speedup.*|engine|precision|why"
)


class Wandb:
    """One job's run, built from ``conf/logger/wandb.yaml``; ``save_dir``, ``name`` and ``config`` are the job's own.

    Use: ``open()``, then ``stage(name)`` for each Trainer, ``log_report`` at the end, ``finish`` in ``finally``.
    """

    def __init__(
        self,
        save_dir: Path | str,
        *,
        name: str | None = None,
        config: Mapping[str, Any] | None = None,
        project: str = "modelpress",
        entity: str | None = None,
        group: str | None = None,
        tags: Sequence[str] = (),
        mode: str = "auto",
        log_artifacts: bool = True,
    ) -> None:
        self.mode = one_of("logger.wandb.mode", mode, MODES)
        self.folder = Path(save_dir)
        self.log_artifacts = log_artifacts
        self.run: Run | None = None
        self._options: dict[str, Any] = {"project": project, "entity": entity, "group": group, "tags": list(tags)}
        self._options.update(name=name, config=dict(config or {}))
        self._sigterm: Any = None

    def open(self) -> Run:
        """Start the run, or return the one that is open. ``mode=auto`` without a key is offline, and says so."""
        import wandb

        if self.run is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            # "create_new": a run that someone left open in this process is neither reused nor closed
            where: dict[str, Any] = {"dir": str(self.folder), "mode": effective_mode(self.mode), "reinit": "create_new"}
            if (known := earlier(self.folder)) is not None:
                where |= {"id": known, "resume": "allow"}
            self.run = wandb.init(**self._options, **where)
            self._stop_on_sigterm()
        return self.run

    def stage(self, name: str) -> WandbLogger:
        """The Lightning logger of one stage: its metrics are ``name/…`` against ``name/step``, in the same run."""
        from modelpress.loggers.stage import StageLogger

        return StageLogger(self.open(), name, self.folder)

    def log_report(self, report: Report, folder: Path) -> None:
        """Send the table, the headline figures and (``log_artifacts``) the reports and ``deploy/`` in ``folder``."""
        log_report(self.open(), report, folder, artifacts=self.log_artifacts)

    def finish(self, status: str) -> None:
        """Close the run as ``finished``, ``failed`` or ``killed``; harmless when none is open."""
        code = EXIT_CODES[one_of("status", status, EXIT_CODES)]
        run, self.run = self.run, None
        if run is not None:
            run.finish(exit_code=code)
        if self._sigterm is not None:
            signal.signal(signal.SIGTERM, self._sigterm)
            self._sigterm = None

    def _stop_on_sigterm(self) -> None:
        """A plain SIGTERM skips ``finally``, and everything not yet flushed would be lost."""
        main = threading.current_thread() is threading.main_thread()
        if main and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            self._sigterm = signal.signal(signal.SIGTERM, lambda *_: sys.exit(EXIT_CODES["killed"]))


def earlier(folder: Path) -> str | None:
    """The id of the run that an earlier process logged into this folder: a job's W&B run goes on with the job."""
    kept = sorted(folder.glob("wandb/*run-*-*"), key=lambda path: path.name.partition("run-")[2])
    return kept[-1].name.rpartition("-")[2] if kept else None


def rank() -> int:
    """This process's number in a distributed job; 0 when it is alone."""
    given = (os.environ[name] for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID") if name in os.environ)
    return int(next(given, "0"))


def effective_mode(mode: str) -> str:
    """``auto`` resolved: what ``WANDB_MODE`` says, else online with a key, else offline. Other ranks log nothing."""
    if rank() != 0:
        return "disabled"
    if mode != "auto":
        return mode
    if given := os.environ.get("WANDB_MODE"):
        return given
    if has_key():
        return "online"
    log.info("W&B: no API key, so this run is kept offline; `wandb sync <folder>` uploads it later.")
    return "offline"


def has_key() -> bool:
    """Whether ``WANDB_API_KEY`` or netrc holds a key for the server (``WANDB_BASE_URL``)."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlsplit(os.environ.get("WANDB_BASE_URL", f"https://{HOST}")).netloc
    try:
        entry = netrc.netrc(os.environ.get("NETRC")).authenticators(host)
    except (FileNotFoundError, netrc.NetrcParseError):
        return False
    return bool(entry and entry[2])


def log_report(run: Run, report: Report, folder: Path, *, artifacts: bool = True) -> None:
    """Send a finished report to an open run: ``report`` table, summary, and the files as artefacts."""
    import wandb

    rows = [flat(row) for row in report.rows]
    columns: list[str | int] = list(rows[0]) if rows else []
    run.log({"report": wandb.Table(columns=columns, data=[list(row.values()) for row in rows], allow_mixed_types=True)})
    run.summary.update(headline(report))
    if artifacts:
        for artifact in _artifacts(run, report, Path(folder)):
            run.log_artifact(artifact)


def flat(row: Row) -> dict[str, Any]:
    """One row without nesting: the value at ``latency_ms.p50`` becomes the column ``latency_ms_p50``."""
    columns: dict[str, Any] = {}
    for name, value in asdict(row).items():
        if name in ("details", "metrics"):
            continue
        if name in NESTED:
            columns.update({f"{name}_{part}": value[part] if value else None for part in NESTED[name]})
        else:
            columns[name] = value
    return columns


def headline(report: Report) -> dict[str, Any]:
    """The figures of the row that the verdict names, for the run's summary; the verdict itself in any case."""
    found: dict[str, Any] = {"verdict": report.verdict["verdict"], "complete": report.complete}
    best = next((row for row in report.rows if row.id == report.verdict["row"]), None)
    if best is None:
        return found
    figures = {name: value for name, value in flat(best).items() if value is not None and HEADLINE.fullmatch(name)}
    return {**found, "row": best.id, **figures}


def _artifacts(run: Run, report: Report, folder: Path) -> list[Artifact]:
    """``<name>-report`` and ``<name>-deploy``, as far as their files exist."""
    deploy = folder / "deploy"
    reports = [folder / name for name in REPORT_FILES if (folder / name).is_file()]
    engines = [path for path in sorted(deploy.rglob("*")) if path.is_file()]
    made = [
        _artifact(report, f"{report.name}-report", "report", {path.name: path for path in reports}),
        _artifact(report, f"{report.name}-deploy", "model", {str(p.relative_to(deploy)): p for p in engines}),
    ]
    return [artifact for artifact in made if artifact is not None]


def _artifact(report: Report, name: str, kind: str, files: Mapping[str, Path]) -> Artifact | None:
    """An artefact that says what it was made from: the store keys of every stage, the last one being its parent."""
    import wandb

    if not files:
        return None
    keys = [{part: entry.get(part) for part in ("kind", "name", "key")} for entry in report.lineage]
    stages = [entry["key"] for entry in keys if entry["kind"] == "stage"]
    metadata = {"parent": stages[-1] if stages else None, "lineage": keys, "row": report.verdict["row"]}
    artifact = wandb.Artifact(name, type=kind, metadata=metadata)
    for inside, path in files.items():
        artifact.add_file(str(path), name=inside)
    return artifact
