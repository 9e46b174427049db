"""``modelpress sync`` on offline runs that wandb really wrote. Pushes go to a stand-in, for want of a W&B server."""

from __future__ import annotations

import json
import os
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from modelpress.cli import main
from modelpress.errors import ModelPressError
from modelpress.loggers import offline, server
from modelpress.loggers.wandb import Wandb
from modelpress.store import Entry
from tests.loggers.stand_in import StandIn, serving

KEY = "k" * 40


def stage(name: str, weights: str, reused: bool, **inputs: Any) -> Entry:
    files = {"model/model.safetensors": {"sha256": weights, "bytes": 1}}
    return Entry(f"key-{weights}", "stage", name, Path(), inputs, files, 1.0, "", reused)


def job(folder: Path, status: str, *stages: Entry, end: str | None = "finished", **facts: Any) -> Path:
    """A job with its offline run; ``end=None`` leaves the run as a killed process does, without its last record."""
    folder.mkdir(parents=True)
    (folder / "status.json").write_text(json.dumps({"status": status, "host": os.uname().nodename, **facts}))
    run = Wandb(folder / "logs", name=folder.name)
    for entry in stages:
        run.log_stage(entry)
    run.open().log({"metric": 1.0})
    run.finish(end or "failed")
    (file,) = offline.find(folder)
    deadline = time.monotonic() + 60
    while not any(record.WhichOneof("record_type") == "exit" for record in offline.records(file)):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    if end is None:
        cut_before_exit(file)
    return file


def cut_before_exit(file: Path) -> None:
    data = file.read_bytes()
    while any(record.WhichOneof("record_type") == "exit" for record in offline.records(file)):
        data = data[:-1]
        file.write_bytes(data)


@pytest.fixture
def sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two finished jobs, of which the first has trained the teacher, one that runs still and one that was killed."""
    monkeypatch.chdir(tmp_path)
    distilled = {"parent": None, "teacher": "aaa"}
    first = (stage("big · finetune", "aaa", reused=False), stage("tiny · distill", "bbb", reused=False, **distilled))
    second = (stage("big · finetune", "aaa", reused=True), stage("tiny · distill", "ccc", reused=False, **distilled))
    job(tmp_path / "multirun/now/0", "done", *first)
    job(tmp_path / "multirun/now/1", "failed", *second, end="failed")
    job(tmp_path / "multirun/now/2", "running", end=None, pid=os.getpid())
    job(tmp_path / "multirun/now/3", "running", end=None, pid=2**22 + 1)
    return tmp_path / "multirun/now"


def known_login(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("WANDB_BASE_URL", url)
    monkeypatch.setenv("WANDB_API_KEY", KEY)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def test_runs_are_pushed_once_and_their_parents_recorded(
    sweep: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    stand_in = StandIn()
    with serving(stand_in) as url:
        known_login(monkeypatch, url)
        assert main(["sync"]) == 0
        said = capfd.readouterr().out
        first, second, running, killed = (read(sweep / str(number)) for number in range(4))
        assert stand_in.runs == {first.id: 0, second.id: 1, killed.id: 1}  # with their exit codes
        assert stand_in.used == [(second.id, "stage-big-finetune")]
        assert "3 to push, 1 left alone, 0 pushed before." in said
        assert f"left alone  {os.path.relpath(running.file.parent)}: it is still being written (process" in said
        assert "3 pushed, lineage of 1 recorded, 0 failed." in said
        assert not running.is_pushed
        asked = len(stand_in.asked)
        assert main(["sync", "multirun"]) == 0
        assert len(stand_in.asked) == asked
        assert "1 left alone, 3 pushed before." in capfd.readouterr().out


def test_lineage_that_was_cut_off_is_recorded_by_the_next_sync(
    sweep: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    stand_in, second = StandIn(), read(sweep / "1")
    for number in (0, 1, 3):
        offline.beside(read(sweep / str(number)).file, offline.SYNCED).touch()  # as plain `wandb sync` leaves it
    stand_in.runs[second.id] = 1
    with serving(stand_in) as url:
        known_login(monkeypatch, url)
        assert main(["sync"]) == 0
        assert f"({second.parents[0].digest}) is in no run that was pushed" in capfd.readouterr().out
        assert not second.is_recorded
        given = {"artifactCollectionName": "stage-big-finetune", "artifactTypeName": "stage", "metadata": "{}"}
        alias = {"alias": second.parents[0].digest}
        stand_in._CreateArtifact({"input": {**given, "digest": second.parents[0].digest, "aliases": [alias]}})
        assert main(["sync"]) == 0
    assert stand_in.used == [(second.id, "stage-big-finetune")]
    assert second.is_recorded
    assert stand_in.runs == {second.id: 1}
    assert "CreateRunFiles" not in stand_in.asked  # nothing was pushed again


def test_a_dry_run_asks_no_server(
    sweep: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    known_login(monkeypatch, f"http://127.0.0.1:{free_port()}")
    assert main(["sync", "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert said.count("to push     multirun/now/") == 3
    assert not list(sweep.rglob(f"*{offline.SYNCED}"))


@pytest.mark.parametrize("host", ["127.0.0.1", "no-such-host.invalid"])
def test_an_unreachable_server_is_an_error_within_seconds(
    sweep: Path, host: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"http://{host}:{free_port()}"
    known_login(monkeypatch, url)
    start = time.monotonic()
    assert main(["sync"]) == 1
    assert time.monotonic() - start < 30
    said = capsys.readouterr().err
    assert f"The W&B server {url} cannot be reached (" in said
    assert "name another server with WANDB_BASE_URL" in said
    assert "nothing is lost" in said
    assert not list(sweep.rglob(f"*{offline.SYNCED}"))


def test_a_missing_and_a_refused_login_are_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(StandIn(status=401)) as url:
        server.reach(url)  # it answers, if only with a refusal
        with pytest.raises(ModelPressError, match=f"There is no login for the W&B server {url}.*`wandb login --host"):
            server.login(url)
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        with pytest.raises(ModelPressError, match=f"{url} does not accept the login .*permission denied.*--relogin"):
            server.login(url)
        monkeypatch.setenv("WANDB_API_KEY", "short")
        with pytest.raises(ModelPressError, match=r"does not accept the login .*40\+ characters"):
            server.login(url)


def test_an_address_without_a_scheme_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_BASE_URL", "wandb.example.org/")
    with pytest.raises(ModelPressError, match=r"WANDB_BASE_URL is 'wandb\.example\.org'; allowed"):
        server.reach(server.address())


def test_what_is_left_alone_and_what_a_kill_has_left(tmp_path: Path) -> None:
    from modelpress.loggers.sync import plan

    killed = job(tmp_path / "killed", "running", end=None, pid=2**22 + 1)
    elsewhere = job(tmp_path / "elsewhere", "running", end=None, pid=1, host="node7")
    alone = job(tmp_path / "alone", "failed", end=None)
    (alone.parents[3] / "status.json").unlink()
    empty = tmp_path / "empty/logs/wandb/offline-run-1-x/run-x.wandb"
    empty.parent.mkdir(parents=True)
    empty.write_bytes(killed.read_bytes()[:40])
    found = plan([killed, elsewhere, alone, empty])
    assert [run.file for run in found.push] == [killed]
    assert found.push[0].exit_code is None
    assert "process 1 on node7" in found.left[elsewhere]
    assert "no status.json that says otherwise" in found.left[alone]
    assert "`wandb sync` pushes it as it is" in found.left[alone]
    assert "it holds no run" in found.left[empty]


def _texts(file: Path) -> list[str]:
    history = [record.history for record in offline.records(file) if record.WhichOneof("record_type") == "history"]
    return [json.loads(item.value_json) for entry in history for item in entry.item if "text" in item.nested_key]


def test_a_file_of_several_blocks_is_read_whole(tmp_path: Path) -> None:
    run = Wandb(tmp_path / "logs")
    for number in range(40):
        run.open().log({"text": f"{number}" * 3000})
    run.finish("finished")
    (file,) = offline.find(tmp_path)
    assert file.stat().st_size > 2 * offline.BLOCK
    deadline = time.monotonic() + 10
    while len(texts := _texts(file)) < 40 and time.monotonic() < deadline:  # W&B may still be writing
        time.sleep(0.2)
    assert texts == [f"{number}" * 3000 for number in range(40)]
    assert [record.WhichOneof("record_type") for record in offline.records(file)][-1] == "exit"
    found = offline.read(file)
    assert found is not None
    assert (found.project, found.exit_code, found.parents) == ("modelpress", 0, ())


def read(folder: Path) -> offline.OfflineRun:
    (file,) = offline.find(folder)
    run = offline.read(file)
    assert run is not None
    return run
