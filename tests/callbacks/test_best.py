"""Which weights are kept: the latest within one standard error of the best."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from modelpress.callbacks.best import Best, standard_error

TRAINER: Any = SimpleNamespace(strategy=SimpleNamespace(reduce_boolean_decision=bool))


def kept(folder: Path, scores: list[float], items: int) -> list[bool]:
    best = Best(folder, "accuracy", items)
    return [best.check_monitor_top_k(TRAINER, torch.tensor(score)) for score in scores]


def test_standard_error_of_a_share() -> None:
    assert standard_error(0.5, 100) == pytest.approx(0.05)
    assert standard_error(1.0, 100) == 0.0


def test_indistinguishable_scores_keep_the_latest(tmp_path: Path) -> None:
    assert kept(tmp_path, [0.835, 0.828, 0.833], items=696) == [True, True, True]


def test_a_real_fall_keeps_the_earlier_weights(tmp_path: Path) -> None:
    assert kept(tmp_path, [0.85, 0.80, 0.86], items=696) == [True, False, True]
    assert kept(tmp_path, [0.835, 0.828], items=100_000) == [True, False]


def test_small_falls_do_not_add_up(tmp_path: Path) -> None:
    """Measured from the peak, not from the weights kept last."""
    assert kept(tmp_path, [0.850, 0.840, 0.830], items=696) == [True, True, False]


def test_the_peak_survives_a_resume(tmp_path: Path) -> None:
    first = Best(tmp_path, "accuracy", 696)
    first.check_monitor_top_k(TRAINER, torch.tensor(0.85))
    second = Best(tmp_path, "accuracy", 696)
    second.load_state_dict(first.state_dict())
    assert second.peak == pytest.approx(0.85)
    assert not second.check_monitor_top_k(TRAINER, torch.tensor(0.80))


def test_nothing_to_compare_saves_nothing(tmp_path: Path) -> None:
    assert not Best(tmp_path, "accuracy", 10).check_monitor_top_k(TRAINER, None)
