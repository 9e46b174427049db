"""``predict.py`` of a deploy folder, used from here. Torch-free."""

from __future__ import annotations

import functools
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from modelpress.deploying.kinds import BESIDE, TEMPLATES
from modelpress.errors import ModelPressError


@functools.cache  # a module that died would take its OpenVINO core along: see engines/openvino_core.py
def predictor_module(folder: Path | None = None) -> ModuleType:
    """``predict.py`` of a deploy folder as a module (default: the one that is copied into every deploy folder)."""
    place = TEMPLATES if folder is None else Path(folder)
    beside = {name: _module(place / f"{name}.py") for name in BESIDE if (place / f"{name}.py").is_file()}
    before = {name: sys.modules.get(name) for name in beside}
    sys.modules.update(beside)
    try:
        return _module(place / "predict.py")
    finally:
        for name, module in before.items():
            sys.modules.pop(name) if module is None else sys.modules.update({name: module})


def _module(path: Path) -> ModuleType:
    """A file run as a module; an import would leave ``__pycache__`` and take another file of that name."""
    module = ModuleType(f"modelpress_{path.stem}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # dataclasses look their own module up
    try:
        exec(compile(path.read_text(encoding="utf-8"), path, "exec"), module.__dict__)
    finally:
        del sys.modules[module.__name__]
    return module


def preprocess_ms(folder: Path, items: Sequence[Any]) -> float:
    """Median milliseconds to turn one item into model inputs and one row of logits into an answer.

    ``folder`` is a deploy folder; ``items`` are real texts or images (each is measured once).
    """
    if not items:
        raise ModelPressError("preprocess_ms needs at least one item.")
    predictor = predictor_module(Path(folder)).Predictor(Path(folder))
    logits = [[1.0 / (1 + i) for i in range(len(predictor.labels))]]
    predictor.preprocess(items[:1])  # the first call builds tables
    return statistics.median(_elapsed_ms(predictor, item, logits) for item in items)


def _elapsed_ms(predictor: Any, item: Any, logits: list[list[float]]) -> float:
    started = time.perf_counter()
    predictor.preprocess([item])
    predictor.postprocess(logits)
    return (time.perf_counter() - started) * 1e3
