from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from bench import quantization_cost as cost
from modelpress import training
from modelpress.config import compose
from modelpress.graph import graph
from modelpress.job import Job
from modelpress.stage import IDENTITY, Stage


@pytest.fixture(scope="module")
def qat(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    folder = tmp_path_factory.mktemp("run")
    return graph(Job.of(compose(["technique=qat", "model=minilm", f"store={folder}"]), folder)).last


def test_the_plain_stage_differs_in_its_transform_only(qat: Stage) -> None:
    timed = cost.short(qat, 9)
    other = cost.plain(timed)
    assert timed.spec is not None
    assert other.spec is not None
    assert timed.spec["trainer"] | {"max_steps": 9, "max_epochs": -1} == timed.spec["trainer"]
    assert other.spec["transform"] == {"_target_": IDENTITY}
    assert {k: v for k, v in other.spec.items() if k in ("optimizer", "trainer")} == {
        k: v for k, v in timed.spec.items() if k in ("optimizer", "trainer")
    }
    assert other.parent is qat.parent
    assert qat.spec is not None
    assert qat.spec["trainer"]["max_steps"] != 9


def test_the_ratio_is_that_of_medians_in_blocks_a_b_b_a(
    qat: Stage, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    order = []

    def times(made: Any, stage: Stage) -> list[float]:
        quantized = stage.spec is not None and stage.spec["transform"]["_target_"] != IDENTITY
        order.append("qat" if quantized else "plain")
        return [1e6] * cost.WARM_UP + [30.0 if quantized else 20.0] * 4

    job = SimpleNamespace(precision="bf16-mixed")
    monkeypatch.setattr(cost, "arms", lambda *given: SimpleNamespace(graph=SimpleNamespace(last=qat), job=job))
    monkeypatch.setattr(cost, "step_times", times)
    cost.step_ratio("minilm", 9, 2, [])
    assert order == ["qat", "plain", "plain", "qat"]
    assert "30.0 ms, plain step 20.0 ms; 1.50x as long [1.50, 1.50]" in capsys.readouterr().out


def test_the_clock_joins_the_pipelines_trainer_and_leaves_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "make_trainer", lambda arm, batches: SimpleNamespace(callbacks=["own"]))
    usual, clock = training.make_trainer, cost.Clock()
    with cost.clocked(clock):
        assert training.make_trainer(None, batches=1).callbacks == ["own", clock]  # type: ignore[arg-type]
    assert training.make_trainer is usual
