"""Help, plans, checks and benchmark workers start fast because these modules import no heavy library."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import modelpress

ROOT = Path(modelpress.__file__).parent
HEAVY = (
    "torch",
    "torchvision",
    "torchmetrics",
    "lightning",
    "transformers",
    "datasets",
    "pandas",
    "pyarrow",
    "onnx",
    "onnxruntime",
    "openvino",
    "wandb",
    "plotly",
    "optuna",
    "ray",
    "submitit",
)
# Files (or whole folders) that must stay lean. A name that does not exist is a mistake here, not a pass.
LEAN = (
    "api.py",
    "assemble.py",
    "benchmark",
    "check.py",
    "cli.py",
    "cli_run.py",
    "code_version.py",
    "compare",
    "config.py",
    "data/base.py",
    "data/emoji.py",
    "data/image_dataset.py",
    "data/image_sources.py",
    "data/image_text.py",
    "data/imagefolder.py",
    "data/images.py",
    "data/pixels.py",
    "data/preprocess.py",
    "data/reviews.py",
    "data/tables.py",
    "data/text.py",
    "data/tokenizer.py",
    "demo.py",
    "deploying/card.py",
    "deploying/command.py",
    "deploying/folder.py",
    "deploying/kinds.py",
    "deploying/module.py",
    "diagnostics.py",
    "doctor",
    "engines",
    "errors.py",
    "estimate.py",
    "graph.py",
    "job.py",
    "launch.py",
    "loggers/__init__.py",
    "loggers/offline.py",
    "loggers/server.py",
    "loggers/sync.py",
    "loggers/wandb.py",
    "models/recipe.py",
    "models/source.py",
    "models/text.py",
    "pipeline.py",
    "press.py",
    "pressing.py",
    "provenance.py",
    "report",
    "sensitivity.py",
    "sensitivity_cli.py",
    "stage.py",
    "status.py",
    "store.py",
    "store_cli.py",
    "sweep",
)


def modules(entry: str) -> list[str]:
    path = ROOT / entry
    files = sorted(path.rglob("*.py")) if path.is_dir() else [path]
    names = [".".join(("modelpress", *file.relative_to(ROOT).with_suffix("").parts)) for file in files]
    return [name.removesuffix(".__init__") for name in names]


def imported_by(*names: str) -> set[str]:
    """Heavy libraries in ``sys.modules`` of a fresh interpreter that imported ``names``."""
    code = f"import importlib, sys\nfor name in {names!r}: importlib.import_module(name)\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return set(HEAVY) & set(done.stdout.split())


def test_importing_the_package_pulls_no_heavy_library() -> None:
    assert imported_by("modelpress") == set()


@pytest.mark.parametrize("entry", LEAN)
def test_lean_modules_pull_no_heavy_library(entry: str) -> None:
    assert (ROOT / entry).exists()
    assert imported_by(*modules(entry)) == set()


def test_the_check_sees_a_heavy_import() -> None:
    assert imported_by("modelpress.models.base") >= {"torch"}
