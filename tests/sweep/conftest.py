"""A working folder of its own for every sweep, and Hydra's logging taken back afterwards."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

import tests.sweep.jobs as jobs


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Jobs in this process run ``jobs.run`` instead of a real one, and waste no time."""
    monkeypatch.setenv(jobs.ENV, str(tmp_path))
    monkeypatch.setenv("MODELPRESS_LOCK_FOLDER", str(tmp_path))
    monkeypatch.setattr("modelpress.pipeline.run", jobs.run)
    monkeypatch.setattr(jobs, "span", lambda kind, seconds: None)
    return tmp_path


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    root, raises = logging.getLogger(), logging.raiseExceptions
    handlers, level = root.handlers[:], root.level
    yield
    for handler in [handler for handler in root.handlers if handler not in handlers]:
        handler.close()
    root.handlers[:], logging.raiseExceptions = handlers, raises
    root.setLevel(level)
