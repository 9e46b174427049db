"""Plain sweeps in this process: the table, going on in the same folder, and the commands that repeat one job."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import tests.sweep.jobs as jobs
from modelpress.errors import ModelPressError
from modelpress.launch import main
from modelpress.sweep import folder as sweep_folder

TEMPERATURE = "technique.distill.objective.temperature"


@pytest.fixture(autouse=True)
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(jobs.ENV, str(tmp_path))
    monkeypatch.setenv("MODELPRESS_LOCK_FOLDER", str(tmp_path))
    monkeypatch.setattr("modelpress.pipeline.run", jobs.run)
    monkeypatch.setattr(jobs, "span", lambda kind, seconds: None)
    return tmp_path


def sweeps(place: Path) -> list[Path]:
    return sorted((place / "multirun").iterdir())


def test_the_table_shows_what_differs_and_what_came_out(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["-m", "name=x", f"{TEMPERATURE}=1,2", "seed=1,13"]) == 1
    said = capsys.readouterr()
    lines = [line.split() for line in said.out.splitlines()]
    assert ["job", "temperature", "seed", "status", "metric", "p50", "ms", "verdict"] in lines
    assert ["0", "1", "1", "done", "0.9600", "1", "pays"] in lines
    assert ["3", "2", "13", "failed", "seed", "13", "is", "unlucky"] in lines
    assert f"seed 13 is unlucky\n  python run.py name=x {TEMPERATURE}=2 seed=13\n" in said.err


def test_the_same_command_runs_only_what_is_missing(stand_in: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["-m", "name=x", "seed=1,13", f"{TEMPERATURE}=1,2"]
    assert main(command) == 1
    assert len(jobs.ran()) == 4
    (stand_in / "mended").touch()
    assert main([*command, "hydra.launcher._target_=hydra._internal.core_plugins.basic_launcher.BasicLauncher"]) == 0
    assert [words[1] for words in jobs.notes("ran")[4:]] == ["13", "13"]
    assert main(command) == 0
    assert len(jobs.ran()) == 6
    assert len(sweeps(stand_in)) == 1
    assert capsys.readouterr().out.count("0.9600") >= 5  # the table shows the jobs of the first part as well


def test_a_killed_job_and_one_whose_report_is_gone_run_again(stand_in: Path) -> None:
    command = ["-m", "name=x", f"{TEMPERATURE}=1,2,4"]
    assert main(command) == 0
    first, second, _ = (sweeps(stand_in)[0] / str(number) for number in range(3))
    (first / "report.json").unlink()
    record = jobs.status(second)
    (second / "status.json").write_text(json.dumps({**record, "status": "running", "pid": 2**22 + 1}))
    assert main(command) == 0
    assert jobs.ran() == [1, 2, 4, 1, 2]


def test_other_code_is_another_sweep(stand_in: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = ["-m", "name=x", f"{TEMPERATURE}=1,2"]
    assert main(command) == 0
    monkeypatch.setattr(sweep_folder, "code", lambda: "other")
    assert main(command) == 0
    assert (len(jobs.ran()), len(sweeps(stand_in))) == (4, 2)


def test_another_command_is_another_sweep(stand_in: Path) -> None:
    assert main(["-m", "name=x", f"{TEMPERATURE}=1,2"]) == 0
    assert main(["-m", "name=x", f"{TEMPERATURE}=1,2,4"]) == 0
    assert len(sweeps(stand_in)) == 2


def test_changed_data_are_not_taken_for_the_same(stand_in: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = stand_in / "reviews.csv"
    data.write_text("text,label\n" + "".join(f"a film {i},{'pos' if i % 2 else 'neg'}\n" for i in range(40)))
    command = ["-m", "name=x", "dataset=csv", f"dataset.path={data}", f"{TEMPERATURE}=1,2"]
    assert main(command) == 0
    data.write_text(data.read_text() + "fine,pos\n" * 2)
    assert main(command) == 0
    assert jobs.ran() == [1, 2, 1, 2]


def test_a_job_of_a_sweep_from_a_file_is_repeated_alone(stand_in: Path) -> None:
    assert main(["sweep=temperature", "name=x"]) == 0
    (sweep,) = sweeps(stand_in)
    record = jobs.status(sweep / "2")
    assert record["command"] == f"python run.py {TEMPERATURE}=4 sweep=temperature name=x hydra.mode=RUN"
    assert record["swept"] == {TEMPERATURE: "4"}
    given = record["command"].split()[2:]
    assert main(given) == 0
    assert jobs.ran() == [1, 2, 4, 8, 4]
    assert len(sweeps(stand_in)) == 1
    (again,) = (stand_in / "outputs" / "x").iterdir()
    assert jobs.status(again)["command"] == record["command"]


def test_one_sweep_is_not_run_twice_at_once(stand_in: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["-m", "name=x", f"{TEMPERATURE}=1,2"]
    assert main(command) == 0
    import subprocess
    import sys

    hold = f"import fcntl, sys; f = open({str(sweeps(stand_in)[0] / '.lock')!r}, 'r+'); fcntl.flock(f, fcntl.LOCK_EX)"
    code = f"{hold}; print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        assert main(command) == 1
        assert "The same sweep is running already in" in capsys.readouterr().err
        other.kill()
    assert main(command) == 0


def test_the_root_of_sweeps_is_the_one_in_the_config() -> None:
    import yaml

    from modelpress.config import conf_dir

    written = yaml.safe_load((conf_dir() / "config.yaml").read_text())
    assert Path(written["hydra"]["sweep"]["dir"]).parent == sweep_folder.ROOT


def test_a_damaged_record_is_no_earlier_sweep(tmp_path: Path) -> None:
    (tmp_path / "multirun" / "a").mkdir(parents=True)
    (tmp_path / "multirun" / "a" / "sweep.json").write_text("{")
    assert sweep_folder.find(["seed=1,2"]) is None


def test_columns_are_checked(tmp_path: Path) -> None:
    from modelpress.sweep import columns

    report = jobs.report_of(tmp_path, 0.9, 2.0)
    report.save(tmp_path / "report.json")
    assert columns.values(tmp_path, "metric", "latency_ms.p50") == [0.9, 2.0]
    with pytest.raises(ModelPressError, match=r"'latency_ms.p5'; allowed: .*Did you mean 'latency_ms.p"):
        columns.values(tmp_path, "latency_ms.p5")
    with pytest.raises(ModelPressError, match="has no latency_ms.p99 and no size_mb"):
        columns.values(tmp_path, "metric", "latency_ms.p99", "size_mb")


def test_a_status_file_says_who_it_belongs_to(stand_in: Path) -> None:
    assert main(["-m", "name=x", f"{TEMPERATURE}=1,2"]) == 0
    record: dict[str, Any] = jobs.status(sweeps(stand_in)[0] / "1")
    assert Path(record["sweep"]).resolve() == sweeps(stand_in)[0]
    assert record["overrides"] == ["name=x", f"{TEMPERATURE}=2"]
    assert len(record["identity"]) == 64
