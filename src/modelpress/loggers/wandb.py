"""Weights & Biases: one run per job, shared by all its stages. wandb and Lightning are imported on first use."""

from __future__ import annotations

import logging
import os
import re
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelpress.errors import ModelPressError, one_of
from modelpress.loggers.artifacts import Artifacts
from modelpress.loggers.server import address, has_key, reach
from modelpress.report.record import NESTED

if TYPE_CHECKING:
    from lightning.pytorch.loggers import WandbLogger
    from wandb import Artifact, Run

    from modelpress.report.record import Report, Row
    from modelpress.store import Entry

log = logging.getLogger(__name__)

MODES = ("auto", "online", "offline", "disabled")
OFFLINE = "With logger.wandb.mode=offline the run is kept here, and `modelpress sync` pushes it later."
CONTINUES = "wandb-run"  # holds the id of a run that another process will go on with
EXIT_CODES = {"finished": 0, "failed": 1, "killed": 128 + signal.SIGTERM}
HEADLINE = re.compile(
    r"metric(_drop.*)?|agreement|size_mb|latency_ms_p\d+|peak_memory_mb|throughput_per_s|speedup.*|engine|precision|why"
)


class Wandb:
    """One job's run, built from ``conf/logger/wandb.yaml``; ``save_dir``, ``name`` and ``config`` are the job's own.

    Use: ``open()``, then ``stage(name)`` for each Trainer and ``log_stage`` when it is finished, ``log_report`` at the
    end, ``finish`` in ``finally``.
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
        self._artifacts = Artifacts()
        self._inputs: list[Artifact] = []
        self._sigterm: Any = None

    def open(self) -> Run:
        """Start the run, or return the one that is open. Where ``mode=auto`` has to be offline, the log says why.

        Raises :class:`ModelPressError` if a server that was asked for does not answer or starts no run for us.
        """
        import wandb

        if self.run is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            # "create_new": a run that someone left open in this process is neither reused nor closed
            where: dict[str, Any] = {"dir": str(self.folder), "mode": effective_mode(self.mode), "reinit": "create_new"}
            if where["mode"] == "online":  # the server that was tried; wandb may have read its settings long ago
                where["settings"] = {"base_url": address()}
            note = self.folder / CONTINUES
            if note.is_file():
                where |= {"id": note.read_text(), "resume": "allow"}
                note.unlink()
            try:
                self.run = wandb.init(**self._options, **where)
            except wandb.Error as fault:
                raise ModelPressError(f"The W&B server {address()} starts no run ({fault}). {OFFLINE}") from fault
            self._stop_on_sigterm()
        return self.run

    def stage(self, name: str) -> WandbLogger:
        """The Lightning logger of one stage: its metrics are ``name/…`` against ``name/step``, in the same run."""
        from modelpress.loggers.stage import StageLogger

        return StageLogger(self.open(), name, self.folder)

    def log_stage(self, entry: Entry) -> None:
        """A finished stage becomes an output of this run if it trained it, an input if it found it in the store.

        An offline run has no inputs: what it logs later names the stage, and `modelpress sync` declares it.
        """
        run = self.open()
        if not self.log_artifacts or run.disabled:
            return
        artifact = self._artifacts.stage(entry)
        if not entry.reused:
            run.log_artifact(artifact, aliases=aliases(artifact))
        elif not run.offline and not run.resumed:  # its first process has declared them
            self._inputs.append(artifact)  # declared at the end: wandb waits for the server then, and no training does

    def log_report(self, report: Report, folder: Path) -> None:
        """Send the table, the headline figures and (``log_artifacts``) the reports and ``deploy/`` in ``folder``."""
        run = self.open()
        log_report(run, report)
        for artifact in self._artifacts.finished(report, Path(folder)) if self.log_artifacts else []:
            run.log_artifact(artifact)

    def to_be_continued(self) -> None:
        """Whoever opens a run in this folder next goes on with this one: the job is not at its end."""
        (self.folder / CONTINUES).write_text(self.open().id)

    def finish(self, status: str) -> None:
        """Close the run as ``finished``, ``failed`` or ``killed``; harmless when none is open."""
        code = EXIT_CODES[one_of("status", status, EXIT_CODES)]
        run, self.run = self.run, None
        if run is not None:
            for artifact in self._inputs if status != "killed" else []:
                use(run, artifact)
            run.finish(exit_code=code)
        if self._sigterm is not None:
            signal.signal(signal.SIGTERM, self._sigterm)
            self._sigterm = None

    def _stop_on_sigterm(self) -> None:
        """A plain SIGTERM skips ``finally``, and everything not yet flushed would be lost."""
        main = threading.current_thread() is threading.main_thread()
        if main and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            self._sigterm = signal.signal(signal.SIGTERM, lambda *_: sys.exit(EXIT_CODES["killed"]))


def rank() -> int:
    """This process's number in a distributed job; 0 when it is alone."""
    given = (os.environ[name] for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID") if name in os.environ)
    return int(next(given, "0"))


def effective_mode(mode: str) -> str:
    """``auto`` resolved: what ``WANDB_MODE`` says, else online with a key for a server that answers, else offline.

    Other ranks log nothing. Raises :class:`ModelPressError` if ``online`` was asked for and no server answers.
    """
    wanted = os.environ.get("WANDB_MODE", "auto") if mode == "auto" else mode
    if rank() != 0:
        return "disabled"
    if wanted not in ("auto", "online"):
        return wanted
    try:
        if wanted == "auto" and not has_key(address()):
            log.info("W&B: no API key, so this run is kept offline; `modelpress sync` pushes it later.")
            return "offline"
        reach(address(), OFFLINE)
    except ModelPressError as fault:
        if wanted == "online":
            raise
        log.warning("This run is kept offline. %s", fault)
        return "offline"
    return "online"


def use(run: Run, artifact: Artifact) -> None:
    """Declare an input of a run that is online. What goes wrong there must not fail a job that is done."""
    try:
        run.use_artifact(artifact, aliases=aliases(artifact))
    except Exception as fault:  # wandb's own errors have many classes, some of them private
        log.warning("W&B: %s is not recorded as an input of this run: %s", artifact.name, fault)


def aliases(artifact: Artifact) -> list[str]:
    """Its digest is an alias, by which every run that rests on it can find it."""
    return ["latest", artifact.digest]


def log_report(run: Run, report: Report) -> None:
    """Send a finished report to an open run: the ``report`` table and the headline figures."""
    import wandb

    rows = [flat(row) for row in report.rows]
    columns: list[str | int] = list(rows[0]) if rows else []
    run.log({"report": wandb.Table(columns=columns, data=[list(row.values()) for row in rows], allow_mixed_types=True)})
    run.summary.update(headline(report))


def flat(row: Row) -> dict[str, Any]:
    """One row without nesting: the value at ``latency_ms.p50`` becomes the column ``latency_ms_p50``."""
    columns: dict[str, Any] = {}
    for name, value in asdict(row).items():
        if name in ("details", "metrics"):
            continue
        if name in NESTED:
            parts = [part.name for part in fields(NESTED[name])]
            columns.update({f"{name}_{part}": value[part] if value else None for part in parts})
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
