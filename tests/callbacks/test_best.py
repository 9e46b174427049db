"""Which weights are kept: the latest within one standard error of the best."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from modelpress.callbacks.best import Best, standard_error


def trainer(is_final: bool = True) -> Any:
    module = SimpleNamespace(is_final=is_final)
    return SimpleNamespace(strategy=SimpleNamespace(reduce_boolean_decision=bool), lightning_module=module)


TRAINER: Any = trainer()


def kept(folder: Path, scores: list[float], items: int, final_from: int = 0) -> list[bool]:
    """The first ``final_from`` scores are those of a network that is still being reshaped."""
    best = Best(folder, "accuracy", items)
    return [best.check_monitor_top_k(trainer(i >= final_from), torch.tensor(score)) for i, score in enumerate(scores)]


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


def test_weights_of_an_unfinished_structure_never_count(tmp_path: Path) -> None:
    """Neither as the best nor as the peak that others are measured against."""
    assert kept(tmp_path, [0.95, 0.94, 0.80, 0.70], items=696, final_from=2) == [False, False, True, False]
    assert kept(tmp_path, [0.95, 0.94], items=696, final_from=2) == [False, False]
