"""The wrapper around ``hydra.main`` used by run.py and ``modelpress run``: every failure ends in a short message.

Each job leaves a ``status.json`` in its folder. A failing job does not end a sweep: the others go on, and the table
at the end names it; the same command continues in the same folder (``modelpress.sweep``). Tracebacks of bugs go to the
run folder's ``error.txt``; ``HYDRA_FULL_ERROR=1`` shows them all.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from hydra.errors import HydraException
from hydra.experimental.callback import Callback

from modelpress.config import CONFIG_NAME, conf_dir, register
from modelpress.errors import ModelPressError
from modelpress.status import BUG_FILE, Status
from modelpress.sweep import folder as sweep_folder
from modelpress.sweep import member, space, summary

FULL_ERROR = "HYDRA_FULL_ERROR"
log = logging.getLogger(__name__)


class _Launch:
    """What one command line started. Hydra offers a task function no other way to tell its caller anything."""

    program = "python run.py"
    prefix: tuple[str, ...] = ()
    folder: Path | None = None
    is_sweep = False
    failed: dict[Path, str] = {}  # noqa: RUF012
    interrupted = False

    @classmethod
    def begin(cls, program: str, prefix: Sequence[str]) -> None:
        cls.program, cls.prefix = program, tuple(prefix)
        cls.folder, cls.is_sweep, cls.failed, cls.interrupted = None, False, {}, False


class RunFolder(Callback):
    """Hydra callback (conf/config.yaml) that learns where a run or a sweep puts its files."""

    def on_run_start(self, config: Any, **_: Any) -> None:
        """One job."""
        _Launch.folder = Path(str(config.hydra.run.dir))

    def on_multirun_start(self, config: Any, **_: Any) -> None:
        """A sweep."""
        _Launch.folder, _Launch.is_sweep = Path(str(config.hydra.sweep.dir)), True
        command = member.spelled(_Launch.program, sys.argv[1:])
        with suppress(OSError, HydraException):  # Hydra itself meets them next, and is heard
            sweep_folder.begin(_Launch.folder, sys.argv[1:], command, space.swept(config))


def main(argv: Sequence[str] | None = None, program: str = "python run.py", prefix: Sequence[str] = ()) -> int:
    """Run what a command line asks for and return its exit code: 0, 1 (failed), 2 (unknown flag) or 130 (stopped).

    ``program`` is how messages spell this command; ``prefix`` are the words between ``sys.argv[0]`` and ``argv``.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    full_error = os.environ.get(FULL_ERROR) == "1"
    logging.raiseExceptions = full_error  # a full disk must not print one traceback per log line
    caller = member.Member.of_process()
    _Launch.begin(caller.program if caller else program, prefix)
    try:
        with (
            sweep_folder.continued(arguments) as given,
            _arguments(given),
            _environment({FULL_ERROR: "1"}),  # so that Hydra raises instead of printing
        ):
            _hydra()
    except SystemExit as stop:
        return _stopped(arguments) if _Launch.interrupted else stop.code if isinstance(stop.code, int) else 1
    except KeyboardInterrupt:
        return _stopped(arguments)
    except Exception as error:
        if full_error:
            raise
        return _tell(error, arguments)
    return _summary()


def program() -> str:
    """How messages spell this command."""
    return _Launch.program


def _hydra() -> None:
    import hydra
    from omegaconf import OmegaConf

    register()
    OmegaConf.register_new_resolver("program", lambda: _Launch.program, replace=True)  # for conf/hydra/help
    # A path relative to this module would be looked up as a package; an absolute one works from anywhere.
    hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=CONFIG_NAME)(job)()


def job(cfg: Any) -> member.Score:
    """Hydra's task function: check, run the pipeline, record how it ended. Returns the score, NaN after a failure.

    The score is the best candidate's task metric; in a search, what ``hydra.sweeper.objectives`` names instead.
    """
    from hydra.core.hydra_config import HydraConfig

    state = HydraConfig.get()
    folder = Path(state.runtime.output_dir)
    sweep = member.Member.of(state, _Launch.program)
    own = member.own_arguments(state, sweep)
    command = member.spelled(_Launch.program, own)
    objectives = member.objectives_of(state) if sweep else []
    only_train = sweep is not None and sweep.only_train
    if sweep and (before := member.finished(folder, cfg, objectives)) is not None:
        log.info("Finished before: %s", folder)
        return before
    status = Status(folder, command, sweep.facts(state.overrides.task) if sweep else None)
    try:
        # What loggers record as the command line; a job of a sweep is only one of its runs.
        with (
            _arguments([*_Launch.prefix, *own]),
            _environment({FULL_ERROR: None} if not logging.raiseExceptions else {}),
        ):
            metric = _checked_run(cfg, state, folder, command, status, measure=not only_train)
        score = member.nothing(objectives) if only_train else member.score(folder, metric, objectives)
    except (KeyboardInterrupt, SystemExit) as stop:
        # Lightning turns Ctrl-C into SystemExit.
        _Launch.interrupted = isinstance(stop, KeyboardInterrupt) or isinstance(stop.__context__, KeyboardInterrupt)
        by = "by the user" if _Launch.interrupted else repr(stop)
        status.failed(f"stopped {by}; the same command continues")
        raise
    except Exception as error:
        _failed(status, folder, error)
        return member.nothing(objectives)
    status.trained() if only_train else status.done(metric)
    return score


def _checked_run(cfg: Any, state: Any, folder: Path, command: str, status: Status, *, measure: bool) -> float:
    from modelpress.check import check

    check(cfg, list(state.overrides.task))
    status.note(identity=member.identity(cfg))
    from modelpress import pipeline

    score = pipeline.run(cfg, folder=folder, command=command, measure=measure)
    return float("nan") if score is None else float(score)


def _failed(status: Status, folder: Path, error: Exception) -> None:
    from modelpress.explain import describe

    reason = describe(error)
    _Launch.failed[folder] = reason
    status.failed(reason, None if isinstance(error, ModelPressError) else error)
    if logging.raiseExceptions:
        log.error("", exc_info=error)
    elif _Launch.is_sweep:
        log.error("failed: %s", reason)


def _summary() -> int:
    """Print what came out of a sweep, and what failed, and return the exit code."""
    if _Launch.is_sweep and _Launch.folder is not None:
        return summary.show(_Launch.folder)
    for reason in _Launch.failed.values():
        _print(reason)
    for bug in [folder / BUG_FILE for folder in _Launch.failed if (folder / BUG_FILE).is_file()]:
        _print(f"\nTraceback: {summary.relative(bug)}")
    return 1 if _Launch.failed else 0


def _stopped(arguments: Sequence[str]) -> int:
    _print("\nStopped. The same command continues where it was:")
    _print(f"  {member.spelled(_Launch.program, arguments)}")
    return 130


def _tell(error: Exception, arguments: Sequence[str]) -> int:
    """Explain an error that came before any job started."""
    from modelpress.explain import explain

    _print(explain(error, arguments, _Launch.folder))
    return 1


def _print(text: str) -> None:
    print(text, file=sys.stderr)


@contextmanager
def _arguments(arguments: Sequence[str]) -> Iterator[None]:
    """``hydra.main`` reads ``sys.argv``."""
    before = sys.argv
    sys.argv = [before[0], *arguments]
    try:
        yield
    finally:
        sys.argv = before


@contextmanager
def _environment(values: Mapping[str, str | None]) -> Iterator[None]:
    """Set variables (``None``: unset) for a while; child processes of a run must not inherit ours."""
    before = {name: os.environ.get(name) for name in values}
    _set(values)
    try:
        yield
    finally:
        _set(before)


def _set(values: Mapping[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def point_latest(run_folder: Path, link: Path = Path("outputs/latest")) -> None:
    """Let ``link`` point to the newest run, wherever its folder lies; atomically.

    A place that cannot be written is logged, since the run itself is complete. Raises :class:`ModelPressError` if a
    real folder has the link's name.
    """
    if link.exists() and not link.is_symlink():
        raise ModelPressError(f"{link} is a folder of its own, so it cannot point to {run_folder}. Rename it.")
    temporary = link.with_name(f".latest-{os.getpid()}")
    try:
        link.parent.mkdir(parents=True, exist_ok=True)
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(os.path.relpath(run_folder, link.parent), target_is_directory=True)
        temporary.replace(link)
    except OSError as error:
        log.warning("cannot point %s to %s: %s", link, run_folder, error.strerror)
