"""What is said while a stage trains: a bar on a terminal, otherwise a line now and then."""

from __future__ import annotations

import logging
import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import tests.toy as toy
from modelpress.callbacks.progress import Progress, clock
from modelpress.objectives.task import Task


@pytest.mark.parametrize(
    ("seconds", "said"), [(0, "0:00"), (59.9, "0:59"), (60, "1:00"), (125, "2:05"), (3600, "60:00")]
)
def test_clock(seconds: float, said: str) -> None:
    assert clock(seconds) == said


def said_while_training(folder: Path, caplog: pytest.LogCaptureFixture, every_s: float) -> list[str]:
    trainer = toy.trainer(folder, Progress(every_s), max_epochs=2, enable_progress_bar=True)
    with caplog.at_level(logging.INFO, "modelpress.callbacks.progress"), toy.known_warnings():
        trainer.fit(toy.technique(Task(), steps=2 * toy.BATCHES), toy.loader(), toy.loader(2, seed=9))
    return [record.message for record in caplog.records if record.name == "modelpress.callbacks.progress"]


def test_a_log_file_gets_lines_with_step_metrics_and_time_left(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lines = said_while_training(tmp_path, caplog, every_s=0.0)
    assert len(lines) == 2 * toy.BATCHES
    assert re.fullmatch(r"step 12/12 · .*loss \d+\.\d{3}.* · 0:\d\d so far, 0:00 left", lines[-1])
    assert lines[0].startswith("step 1/12 · ")


def test_lines_come_no_more_often_than_asked(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert said_while_training(tmp_path, caplog, every_s=1e6) == []


def test_time_left_counts_only_the_steps_of_this_attempt(tmp_path: Path) -> None:
    progress = Progress()
    progress._first_step = 40  # a resumed stage
    trainer: Any = SimpleNamespace(global_step=50, progress_bar_metrics={"loss": 0.5})
    line = progress._line(trainer, steps=100, elapsed_s=30.0)
    assert line == "step 50/100 · loss 0.500 · 0:30 so far, 2:30 left"  # 3 s a step, 50 steps


@pytest.mark.parametrize("terminal", [True, False])
def test_the_bar_is_for_terminals(terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
    assert bool(Progress().is_enabled) is terminal
