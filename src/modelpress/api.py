"""The command line as one Python call."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelpress.errors import ModelPressError

if TYPE_CHECKING:
    import pandas as pd

    from modelpress.report.record import Report


def compress(
    model: str | Path = "tinybert",
    data: str | Path | pd.DataFrame = "reviews",
    technique: str | Sequence[str] = "distill",
    *,
    teacher: str | Path | None = None,
    overrides: Sequence[str] | Mapping[str, Any] = (),
    folder: str | Path | None = None,
) -> Report:
    """Run the pipeline that ``python run.py`` runs and return its report.

    ``model`` and ``teacher`` are names from ``conf/model``, or a folder or hub id of a checkpoint.
    ``data`` is a name from ``conf/dataset``, a csv/tsv/parquet/jsonl file, or a data frame with ``text`` and ``label``.
    ``overrides`` are command-line overrides, as a list (``["seed=2"]``) or a mapping (``{"seed": 2}``).
    ``folder`` receives the reports and ``deploy/``; by default ``outputs/<name>/<time>``.

    >>> report = compress("tinybert", "reviews.csv", ["distill"], overrides={"seed": 2})  # doctest: +SKIP
    """
    from modelpress.check import check
    from modelpress.config import compose
    from modelpress.job import Job
    from modelpress.launch import point_latest
    from modelpress.pipeline import execute

    given = [f"{k}={_literal(v)}" for k, v in overrides.items()] if isinstance(overrides, Mapping) else list(overrides)
    arguments = [*data_overrides(data), *model_overrides(model, teacher), technique_override(technique), *given]
    cfg = compose(arguments)
    check(cfg)
    if "report" not in cfg.callbacks:
        raise ModelPressError("compress() returns a report, but callbacks=none only trains; leave the callbacks in.")
    name = f"{datetime.now():%Y-%m-%d_%H-%M-%S-%f}"
    target = Path(folder) if folder is not None else Path("outputs") / str(cfg.name) / name
    target.mkdir(parents=True, exist_ok=True)
    only_here = "" if isinstance(data, str | Path) else "its data came from memory (a data frame given to compress())."
    report = execute(Job.of(cfg, target, f"modelpress run {shlex.join(arguments)}", only_here))
    assert report is not None
    if folder is None:
        point_latest(target)
    return report


def technique_override(technique: str | Sequence[str]) -> str:
    """One stage or a pipeline, in the words of the command line.

    >>> technique_override(["distill", "qat"])
    'technique=[distill,qat]'
    """
    return f"technique={technique}" if isinstance(technique, str) else f"technique=[{','.join(technique)}]"


def model_overrides(model: str | Path, teacher: str | Path | None) -> list[str]:
    """Names stay names; anything else is a checkpoint for ``model=hf``."""
    found = [f"model={model}"] if _known("model", model) else ["model=hf", f"model.path={_path(model)}"]
    if teacher is None:
        return found
    if _known("model", teacher):
        return [*found, f"model@teacher={teacher}"]
    return [*found, "model@teacher=hf", f"teacher.path={_path(teacher)}"]


def data_overrides(data: str | Path | pd.DataFrame) -> list[str]:
    """Names stay names; a file or a data frame becomes ``dataset=csv``."""
    if isinstance(data, str | Path):
        return [f"dataset={data}"] if _known("dataset", data) else ["dataset=csv", f"dataset.path={_path(data)}"]
    return ["dataset=csv", f"dataset.path={_written(data)}"]


def _written(frame: pd.DataFrame) -> Path:
    """A data frame as a parquet file named after its content, so that the store recognises it."""
    import hashlib
    import tempfile

    content = frame.to_csv(index=False).encode()
    path = Path(tempfile.gettempdir()) / f"modelpress-{hashlib.sha256(content).hexdigest()[:16]}.parquet"
    frame.to_parquet(path, index=False)
    return path


def _literal(value: Any) -> str:
    """A Python value in Hydra's grammar; a string is taken as it would be typed.

    >>> _literal({"hard": 1.0, "soft": None}), _literal((1, None))
    ('{hard:1.0,soft:null}', '[1,null]')
    """
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{_literal(entry)}" for key, entry in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(_literal, value)) + "]"
    return "null" if value is None else str(value)


def _known(group: str, name: str | Path) -> bool:
    from modelpress.config import conf_dir

    return (conf_dir() / group / f"{name}.yaml").is_file()


def _path(path: str | Path) -> str:
    """Absolute where it exists; a hub id otherwise. Quoted for Hydra's grammar."""
    text = str(Path(path).absolute()) if Path(path).exists() else str(path)
    return "'" + text.replace("'", "\\'") + "'"
