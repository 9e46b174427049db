"""``modelpress plan``: composes and checks like a run, and prints what it would do."""

from __future__ import annotations

from typing import Any

import pytest
from omegaconf import DictConfig

from modelpress.cli import main
from modelpress.cli_run import table
from modelpress.errors import ModelPressError
from modelpress.pipeline import Step

HIT = Step("stage", "minilm · finetune", True, 0.0, "in the store")
LONG = Step("stage", "tinybert · distill", False, 3.2, "measured on this machine")
SHORT = Step("press", "export, engines, benchmark", False, 0.5, "preset")


@pytest.fixture
def planned(monkeypatch: pytest.MonkeyPatch) -> list[DictConfig]:
    seen: list[DictConfig] = []

    def plan(cfg: DictConfig) -> list[Step]:
        seen.append(cfg)
        return [HIT, LONG, SHORT]

    monkeypatch.setattr("modelpress.pipeline.plan", plan)
    monkeypatch.setattr("modelpress.check.check", lambda cfg, overrides=(): None)
    return seen


def test_it_prints_one_line_per_step(planned: list[DictConfig], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "seed=4", "technique=distill"]) == 0
    assert planned[0].seed == 4
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["in", "store", "stage", "minilm", "·", "finetune"]
    assert lines[1].endswith("3 min  (measured on this machine)")
    assert lines[2].endswith("30 s  (preset)")
    assert lines[3] == "2 of 3 steps to do, about 4 min."


def test_a_step_without_an_estimate_is_no_zero() -> None:
    open_end = Step("stage", "clip_small · finetune", False, None, "not known before its first run here")
    lines = table([open_end, SHORT]).splitlines()
    assert lines[0].endswith("      ?  (not known before its first run here)")
    assert lines[-1] == "2 of 2 steps to do, about 30 s, and 1 whose time is not known."


def test_nothing_to_do() -> None:
    assert table([HIT]).splitlines()[-1].startswith("Everything is in the store")


def test_a_typo(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "model=tinybrt"]) == 1
    assert "Did you mean 'tinybert'?" in capsys.readouterr().err


def test_a_fault(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def refuse(cfg: Any, overrides: Any = ()) -> None:
        raise ModelPressError(f"refused with {list(overrides)}")

    monkeypatch.setattr("modelpress.check.check", refuse)
    assert main(["plan", "press=x"]) == 1
    assert capsys.readouterr().err == "refused with ['press=x']\n"
