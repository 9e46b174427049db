"""The loggers of a job, built from the real ``logger`` group."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from omegaconf import OmegaConf

from modelpress.config import conf_dir
from modelpress.loggers import Tracking, described, slug


def job(folder: Path, logger: Any) -> Any:
    return SimpleNamespace(folder=folder, name="demo", config={"logger": logger, "seed": 1})


def group(option: str) -> Any:
    node = OmegaConf.load(conf_dir() / f"logger/{option}.yaml")
    OmegaConf.update(node, "name", "demo", merge=True)  # what `group: ${name}` refers to
    node.pop("defaults", None)
    resolved = OmegaConf.to_container(node, resolve=True)
    assert isinstance(resolved, dict)
    return {key: value for key, value in resolved.items() if key != "name"}


def test_csv_keeps_one_folder_per_stage_for_fit_and_test(tmp_path: Path) -> None:
    with Tracking(job(tmp_path, group("csv"))) as tracking:
        for step, stage in enumerate(("minilm · finetune", "tinybert · distill", "tinybert · distill")):
            (logger,) = tracking.loggers(stage)
            logger.log_metrics({"loss": 0.5}, step)
            logger.save()
    assert (tmp_path / "logs/minilm/finetune/metrics.csv").read_text().splitlines()[1:] == ["0.5,0"]
    assert (tmp_path / "logs/tinybert/distill/metrics.csv").read_text().splitlines()[1:] == ["0.5,1", "0.5,2"]


def test_no_logger_is_no_logger(tmp_path: Path) -> None:
    with Tracking(job(tmp_path, group("none"))) as tracking:
        assert tracking.loggers("distill") == []
    assert not (tmp_path / "logs").exists()


@pytest.mark.parametrize(
    ("error", "code"), [(None, 0), (ValueError("no"), 1), (KeyboardInterrupt(), 143), (SystemExit(143), 143)]
)
def test_the_run_ends_as_the_job_did(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException | None, code: int
) -> None:
    codes: list[int] = []
    tracking = Tracking(job(tmp_path, group("wandb")))
    with pytest.raises(type(error)) if error else nullcontext(), tracking:
        (run,) = tracking._runs.values()
        finish = run.open().finish
        monkeypatch.setattr(run.run, "finish", lambda exit_code: [codes.append(exit_code), finish(exit_code)])
        if error:
            raise error
    assert codes == [code]


def test_slug() -> None:
    assert slug("tinybert · distill") == "tinybert/distill"
    assert slug("distill") == "distill"
    assert slug("my model/v2 · qat") == "my-model/v2/qat"


def test_a_sweep_is_one_group_and_its_parameters_are_config(tmp_path: Path) -> None:
    swept = {"technique.distill.objective.temperature": "2", "finetune.optimizer.lr": "1e-4", "model": "tinybert"}
    record = {"status": "running", "sweep": "multirun/now", "swept": swept}
    (tmp_path / "status.json").write_text(json.dumps(record))
    found = described(job(tmp_path, {}), {"group": "demo"})
    assert found["group"] == "sweep now"
    assert found["name"] == "demo temperature=2 lr=0.0001 model=tinybert"
    assert found["config"]["swept"] == {"temperature": 2, "lr": 1e-4, "model": "tinybert"}
    assert found["config"]["seed"] == 1
    assert described(job(tmp_path, {}), {"group": "mine"})["group"] == "mine"


def test_a_run_alone_keeps_its_name_and_the_group_of_the_config(tmp_path: Path) -> None:
    (tmp_path / "status.json").write_text(json.dumps({"status": "running"}))
    assert described(job(tmp_path, {}), {"group": "demo"}) == {"name": "demo", "config": {"logger": {}, "seed": 1}}
