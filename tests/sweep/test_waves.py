"""A parallel sweep of real jobs, small ones: trained together, then measured one after another."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

import tests.tiny as tiny
from modelpress.launch import main
from modelpress.report.record import load
from modelpress.status import read


def span(entry: dict[str, Any]) -> tuple[float, float]:
    """When a store entry was made; it says so in whole seconds."""
    end = datetime.strptime(entry["created"], "%Y-%m-%dT%H:%M:%S%z").timestamp()
    return end - entry["seconds"], end


@pytest.mark.slow
def test_real_jobs_train_together_and_are_measured_alone(tmp_path: Path) -> None:
    tiny.make(tmp_path)
    waves = ["hydra/launcher=process", "hydra.launcher.n_jobs=2", "technique.distill.optimizer.lr=1e-3,3e-3"]
    assert main(["-m", *tiny.fast(tmp_path, "logger=csv"), *waves]) == 0
    (sweep,) = (tmp_path / "multirun").iterdir()
    folders = [sweep / "0", sweep / "1"]
    assert [read(folder)["status"] for folder in folders] == ["done", "done"]
    made = [entry for folder in folders for entry in load(folder / "report.json").lineage]
    trained = max(span(entry)[1] for entry in made if entry["kind"] == "stage")
    first, second = sorted(span(entry) for entry in made if entry["kind"] == "measurement")
    assert trained <= first[0] + 1
    assert first[1] <= second[0] + 1
    for folder in folders:
        assert len(list(folder.glob("logs/tinybert/distill/metrics.csv"))) == 1
        assert "Reused from the store" in (folder / "output.log").read_text()
        assert all(entry["reused"] for entry in load(folder / "report.json").lineage if entry["kind"] == "stage")
