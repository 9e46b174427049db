"""Sweeps whose jobs run in other processes: really started, with a pipeline that only sleeps (tests/sweep/jobs.py)."""

from __future__ import annotations

import json
import os
import socket
import sys
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

import tests.sweep.jobs as jobs
from modelpress.launch import main
from modelpress.status import jobs as jobs_of
from modelpress.sweep import summary

ROOT = Path(__file__).resolve().parents[2]
TEMPERATURE = "technique.distill.objective.temperature"
LAUNCHERS = {
    "process": ["hydra/launcher=process", "hydra.launcher.n_jobs=2"],
    "ray": ["hydra/launcher=ray", "hydra.launcher.n_jobs=2"],
    "slurm": ["hydra/launcher=slurm", "hydra.launcher.cluster=local", "hydra.launcher.n_jobs=2"],
}
NEEDS = {"process": "os", "ray": "ray", "slurm": "submitit"}


@pytest.fixture(autouse=True)
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Processes started from here run ``jobs.run`` instead of a real job."""
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(jobs.SITE)
    monkeypatch.setenv(jobs.ENV, str(tmp_path))
    monkeypatch.setenv("MODELPRESS_LOCK_FOLDER", str(tmp_path))
    monkeypatch.setattr(sys, "path", [str(site), str(ROOT), *sys.path])
    return tmp_path


def sweep(kind: str, *overrides: str) -> int:
    pytest.importorskip(NEEDS[kind], reason=f"hydra/launcher={kind} needs the package {NEEDS[kind]}")
    return main(["-m", *LAUNCHERS[kind], "name=x", *overrides])


def folders(place: Path) -> list[Path]:
    (folder,) = (place / "multirun").iterdir()
    return sorted(path for path in folder.iterdir() if path.name.isdigit())


@pytest.mark.slow
@pytest.mark.parametrize("kind", LAUNCHERS)
def test_all_jobs_train_and_then_they_are_measured_one_after_another(kind: str, stand_in: Path) -> None:
    assert sweep(kind, f"{TEMPERATURE}=1,2,4") == 0
    assert sorted(jobs.ran()[:3]) == sorted(jobs.ran()[3:]) == [1.0, 2.0, 4.0]
    spans = [(kind, float(start), float(end)) for kind in ("shared", "exclusive") for start, end, _ in jobs.notes(kind)]
    assert len(spans) == 6
    for (one, start, end), (other, begin, finish) in combinations(spans, 2):
        if "exclusive" in (one, other):
            assert end <= begin or finish <= start, (one, other)
    trained = max(end for kind, _, end in spans if kind == "shared")
    assert trained <= min(start for kind, start, _ in spans if kind == "exclusive")
    found = [jobs.status(folder) for folder in folders(stand_in)]
    assert [record["status"] for record in found] == ["done"] * 3
    assert found[2]["command"] == f"python run.py name=x {TEMPERATURE}=4"
    assert found[2]["swept"] == {TEMPERATURE: "4"}
    assert os.getpid() not in {record["pid"] for record in found}


@pytest.mark.slow
def test_ray_workers_stay_alive_from_job_to_job(stand_in: Path) -> None:
    assert sweep("ray", f"{TEMPERATURE}=1,2,4,8") == 0
    assert len(jobs.notes("ran")) == 8
    assert len({pid for _, _, pid in jobs.notes("ran")}) == 2


@pytest.mark.slow
def test_one_job_at_a_time_needs_no_second_wave(stand_in: Path) -> None:
    assert sweep("process", f"{TEMPERATURE}=1,2", "hydra.launcher.n_jobs=1") == 0
    assert jobs.ran() == [1.0, 2.0]


@pytest.mark.slow
def test_what_was_trained_before_is_only_measured(stand_in: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["process", f"{TEMPERATURE}=1,2,4"]
    assert sweep(*command) == 0
    first, second, _ = folders(stand_in)
    for folder in (first, second):  # as Ctrl-C between the waves leaves them; the second one's configuration is other
        record = {**jobs.status(folder), "status": "trained", "score": None, "seconds": 1000.0}
        (folder / "status.json").write_text(json.dumps(record if folder is first else {**record, "identity": "other"}))
    assert "waiting to be measured" in "\n".join(summary.table(jobs_of(folders(stand_in)[0].parent)))
    assert sweep(*command) == 0
    assert jobs.ran()[6:] == [2.0, 1.0, 2.0]
    assert jobs.status(first)["seconds"] > 1000
    assert "3 jobs, 1 of them finished before" in capsys.readouterr().out


@pytest.mark.slow
def test_a_search_with_several_jobs_at_a_time_gets_its_figures(stand_in: Path) -> None:
    space = f"{TEMPERATURE}=interval(1,8)"
    given = ["sweep=pareto", *LAUNCHERS["process"], "name=x", space, "technique.distill.optimizer.lr=1e-4"]
    assert main([*given, "hydra.sweeper.n_trials=2"]) == 0
    (folder,) = (stand_in / "multirun").iterdir()
    found = json.loads((folder / "search.json").read_text())
    assert found["trials"] == 2
    assert found["best"]
    assert len(jobs.ran()) == 4


@pytest.mark.slow
@pytest.mark.parametrize("kind", LAUNCHERS)
def test_a_job_that_fails_or_dies_ends_nothing_but_itself(
    kind: str, stand_in: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sweep(kind, "seed=1,13,14,15") == 1
    good, failed, dead, late = (jobs.status(folder) for folder in folders(stand_in))
    assert [record["status"] for record in (good, failed, dead, late)] == ["done", "failed", "failed", "failed"]
    assert "early" in late["reason"]
    assert sorted(words[1] for words in jobs.notes("ran")) == ["1", "1", "13", "14", "15", "15"]
    assert failed["reason"] == "seed 13 is unlucky"
    assert "early" in dead["reason"]
    said = capsys.readouterr()
    assert "3 of the sweep's jobs failed" in said.err
    assert "  python run.py name=x seed=13\n" in said.err
    (stand_in / "mended").touch()
    assert sweep(kind, "seed=1,13,14,15") == 1
    assert [words[1] for words in jobs.notes("ran")].count("1") == 2  # the finished one was not run again
    assert [jobs.status(folder)["status"] for folder in folders(stand_in)] == ["done", "done", "failed", "done"]


def test_a_swept_key_that_does_not_exist_starts_no_job(stand_in: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sweep("process", "technique.distill.objective.temprature=1,2") == 1
    assert "temperature" in capsys.readouterr().err
    assert jobs.ran() == []


def test_an_unreachable_ray_address(stand_in: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    assert sweep("ray", "seed=1,2", f"hydra.launcher.address='{address}'") == 1
    error = capsys.readouterr().err
    assert f"hydra.launcher.address is '{address}', and no Ray cluster answers there: Connection refused" in error
    assert "Traceback" not in error
    assert sweep("ray", "seed=1,2", "hydra.launcher.address=somewhere") == 1
    assert "it is not host:port" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["hydra/launcher=process", "hydra.launcher.n_jobs=0"], "hydra.launcher.n_jobs is 0; allowed: 1, 2, … or null"),
        (["hydra/launcher=slurm", "hydra.launcher.cluster=slrum"], "Did you mean 'slurm'?"),
    ],
)
def test_bad_options_are_told_in_one_line(
    given: list[str], message: str, stand_in: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["-m", *given, "seed=1,2"]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


def test_slurm_without_slurm_says_what_to_do(stand_in: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("submitit", reason="hydra/launcher=slurm needs the package submitit")
    assert main(["-m", "hydra/launcher=slurm", "seed=1,2"]) == 1
    assert "hydra.launcher.cluster=local" in capsys.readouterr().err


def test_missing_packages_are_named(
    stand_in: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    absent: Any = None
    for package, extra in (("ray", "ray"), ("submitit", "slurm")):
        monkeypatch.setitem(sys.modules, package, absent)
        assert main(["-m", f"hydra/launcher={extra}", "seed=1,2"]) == 1
        assert f"pip install 'modelpress[{extra}]'" in capsys.readouterr().err
