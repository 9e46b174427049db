"""The wrapper around Hydra, with the pipeline replaced: exit codes, status files, sweeps, and short messages."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig

from modelpress.errors import ModelPressError
from modelpress.launch import main, point_latest

ROOT = Path(__file__).resolve().parents[1]
Run = Callable[[DictConfig, Path, str], float | None]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An empty working folder; Hydra's logging is taken back afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("modelpress.check.check", lambda cfg, overrides=(): None)
    root, raises = logging.getLogger(), logging.raiseExceptions
    handlers, level = root.handlers[:], root.level
    yield
    for handler in [handler for handler in root.handlers if handler not in handlers]:
        handler.close()
    root.handlers[:], logging.raiseExceptions = handlers, raises
    root.setLevel(level)


@pytest.fixture
def pipeline(monkeypatch: pytest.MonkeyPatch) -> Callable[[Run], list[dict[str, Any]]]:
    """Replace ``pipeline.run``; the returned list fills with what it was called with."""

    def replace(run: Run) -> list[dict[str, Any]]:
        calls: list[dict[str, Any]] = []

        def recorded(cfg: DictConfig, folder: Path, command: str = "", *, measure: bool = True) -> float | None:
            full_error = os.environ.get("HYDRA_FULL_ERROR")
            seen = {"cfg": cfg, "folder": folder, "command": command, "full_error": full_error, "argv": sys.argv[1:]}
            calls.append(seen)
            return run(cfg, folder, command)

        monkeypatch.setattr("modelpress.pipeline.run", recorded)
        return calls

    return replace


def _status(folder: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((folder / "status.json").read_text())
    return record


def test_a_run(pipeline: Any, tmp_path: Path) -> None:
    calls = pipeline(lambda cfg, folder, command: 0.8)
    assert main(["seed=7", "name=my_run"]) == 0
    (call,) = calls
    folder = call["folder"]
    assert call["cfg"].seed == 7
    assert (folder.parent, call["command"]) == (tmp_path / "outputs" / "my_run", "python run.py seed=7 name=my_run")
    assert (_status(folder)["status"], _status(folder)["score"]) == ("done", 0.8)
    assert len(folder.name.rsplit("-", 1)[1]) == 6  # microseconds
    assert call["full_error"] is None  # child processes do not inherit what we tell Hydra


def test_a_fault_of_the_user_is_told_in_one_line(pipeline: Any, capsys: pytest.CaptureFixture[str]) -> None:
    def fails(cfg: DictConfig, folder: Path, command: str, **_: bool) -> float:
        raise ModelPressError("reviews.csv has no column 'label'")

    calls = pipeline(fails)
    assert main(["name=x"]) == 1
    error = capsys.readouterr().err
    assert error.splitlines()[0] == "reviews.csv has no column 'label'"
    assert "Traceback (most" not in error
    folder = calls[0]["folder"]
    assert (_status(folder)["status"], _status(folder)["reason"]) == ("failed", "reviews.csv has no column 'label'")
    assert error.splitlines()[1:] == []


def test_a_bug_is_told_with_its_place(pipeline: Any, capsys: pytest.CaptureFixture[str]) -> None:
    calls = pipeline(lambda cfg, folder, command: 1 / 0)
    assert main(["name=x"]) == 1
    error = capsys.readouterr().err
    assert "ZeroDivisionError" in (calls[0]["folder"] / "error.txt").read_text()
    assert error.startswith("ZeroDivisionError: division by zero (test_launch.py:")
    assert "error.txt" in error


def test_full_errors_on_request(
    pipeline: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    calls = pipeline(lambda cfg, folder, command: 1 / 0)
    assert main(["name=x"]) == 1
    assert "Traceback (most recent call last)" in capsys.readouterr().out
    assert calls[0]["full_error"] == "1"
    from hydra.errors import HydraException

    with pytest.raises(HydraException):
        main(["nonsense=1"])


def test_a_failing_job_does_not_end_a_sweep(pipeline: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def sometimes(cfg: DictConfig, folder: Path, command: str, **_: bool) -> float:
        if cfg.seed == 2:
            raise ModelPressError("seed 2 is unlucky")
        return float(cfg.seed)

    calls = pipeline(sometimes)
    assert main(["-m", "seed=1,2,3"]) == 1
    sweep = next((tmp_path / "multirun").iterdir())
    assert [call["folder"] for call in calls] == [sweep / "0", sweep / "1", sweep / "2"]
    assert [_status(call["folder"])["status"] for call in calls] == ["done", "failed", "done"]
    assert [call["command"] for call in calls] == [f"python run.py seed={seed}" for seed in (1, 2, 3)]
    error = capsys.readouterr().err
    assert "1 of the sweep's jobs failed; the others are complete." in error
    assert "seed 2 is unlucky" in error
    assert "/1\n" in error


def test_a_sweep_that_goes_well(pipeline: Any, capsys: pytest.CaptureFixture[str]) -> None:
    calls = pipeline(lambda cfg, folder, command: None)
    arguments = ["-m", "technique=[distill],[finetune,distill]"]
    assert main(arguments, program="modelpress run", prefix=["run"]) == 0
    assert [call["argv"] for call in calls] == [["run", "technique=[distill]"], ["run", "technique=[finetune,distill]"]]
    assert [list(call["cfg"].technique) for call in calls] == [["distill"], ["finetune", "distill"]]
    assert capsys.readouterr().err == ""


def test_a_sweep_from_a_file(pipeline: Any) -> None:
    calls = pipeline(lambda cfg, folder, command: 0.5)
    assert main(["sweep=temperature"]) == 0
    assert [call["cfg"].technique.distill.objective.temperature for call in calls] == [1, 2, 4, 8]


def test_a_sweep_with_an_unknown_option_starts_no_job(pipeline: Any, capsys: pytest.CaptureFixture[str]) -> None:
    calls = pipeline(lambda cfg, folder, command: 0.5)
    assert main(["-m", "model=tinybert,tinybrt"]) == 1
    assert calls == []
    assert "Did you mean 'tinybert'?" in capsys.readouterr().err


@pytest.mark.parametrize("lightning", [False, True])
def test_stopping(lightning: bool, pipeline: Any, capsys: pytest.CaptureFixture[str]) -> None:
    def stopped(cfg: DictConfig, folder: Path, command: str, **_: bool) -> float:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            if lightning:
                sys.exit(1)
            raise

    calls = pipeline(stopped)
    assert main(["seed=2", "name=my run"]) == 130
    assert "  python run.py seed=2 'name=my run'" in capsys.readouterr().err
    assert _status(calls[0]["folder"])["reason"] == "stopped by the user; the same command continues"


def test_an_exit_that_is_not_ours_keeps_its_code(pipeline: Any) -> None:
    def exits(cfg: DictConfig, folder: Path, command: str, **_: bool) -> float:
        sys.exit(143)

    calls = pipeline(exits)
    assert main(["name=x"]) == 143
    assert _status(calls[0]["folder"])["status"] == "failed"


@pytest.mark.parametrize(
    "arguments", [["modle=tinybert"], ["-m", "modle=tinybert"], ["--cfg", "job", "modle=tinybert"]]
)
def test_typos(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert "Did you mean model=tinybert?" in error
    assert "Traceback" not in error
    assert not Path("outputs").exists()


def test_a_run_folder_that_cannot_be_made(capsys: pytest.CaptureFixture[str]) -> None:
    Path("outputs").write_text("a file stands in the way")
    assert main([]) == 1
    error = capsys.readouterr().err
    assert error.startswith("Cannot write outputs/reviews_tinybert_distill/")
    assert "hydra.run.dir=" in error
    assert "Traceback" not in error


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can drop to another user")
def test_a_folder_of_another_user(tmp_path: Path) -> None:
    from hydra import compose as _  # noqa: F401  (imported before the child loses its rights)

    tmp_path.chmod(0o755)
    child = os.fork()
    if child == 0:
        code = 99
        try:
            os.setgid(65534)
            os.setuid(65534)
            with open(os.devnull, "w") as quiet:
                os.dup2(quiet.fileno(), 2)
            code = main([])
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
    assert list(tmp_path.iterdir()) == []


def test_help_names_the_groups_and_who_asked(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"], program="modelpress run") == 0
    text = capsys.readouterr().out
    assert "modelpress run -m technique.distill.objective.temperature=1,2,4" in text
    for line in ("trainer: default, tiny", "logger: csv, none, wandb", "sweep: budget, none, pareto, temperature"):
        assert line in text


def test_cfg_job_shows_the_config(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--cfg", "job", "-p", "budget"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "# @package budget"


def test_unknown_flags_are_argparse_errors(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--hepl"]) == 2
    assert "--hepl" in capsys.readouterr().err


def test_config_dir_is_part_of_the_command(pipeline: Any, tmp_path: Path) -> None:
    (tmp_path / "mine" / "trainer").mkdir(parents=True)
    (tmp_path / "mine" / "trainer" / "short.yaml").write_text("defaults: [default]\nmax_steps: 3\n")
    calls = pipeline(lambda cfg, folder, command: 0.5)
    assert main(["--config-dir", "mine", "trainer=short"], program="modelpress run") == 0
    assert calls[0]["cfg"].trainer.max_steps == 3
    assert calls[0]["command"] == "modelpress run --config-dir mine trainer=short"


def test_log_files_carry_no_colour(pipeline: Any) -> None:
    def speaks(cfg: DictConfig, folder: Path, command: str, **_: bool) -> float:
        logging.getLogger("modelpress.somewhere").info("Stage 1 of 2")
        return 1.0

    calls = pipeline(speaks)
    assert main(["name=x"]) == 0
    text = (calls[0]["folder"] / "modelpress.log").read_text()
    assert "INFO    modelpress.somewhere: Stage 1 of 2" in text
    assert "\x1b" not in text


def test_latest_points_to_the_newest_run(tmp_path: Path) -> None:
    for time in ("1", "2"):
        folder = tmp_path / "outputs" / "name" / time
        folder.mkdir(parents=True)
        point_latest(folder)
    latest = tmp_path / "outputs" / "latest"
    assert latest.is_symlink()
    assert latest.resolve() == tmp_path / "outputs" / "name" / "2"
    assert os.readlink(latest) == os.path.join("name", "2")


def test_latest_points_to_a_run_anywhere(tmp_path: Path) -> None:
    job = tmp_path / "multirun" / "now" / "0"
    job.mkdir(parents=True)
    point_latest(job)
    assert (tmp_path / "outputs" / "latest").resolve() == job


def test_latest_that_cannot_be_written_is_only_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "outputs").write_text("a file")
    point_latest(tmp_path)
    assert "cannot point outputs/latest" in caplog.text


def test_latest_never_replaces_a_real_folder(tmp_path: Path) -> None:
    (tmp_path / "outputs" / "latest").mkdir(parents=True)
    with pytest.raises(ModelPressError, match="folder of its own"):
        point_latest(tmp_path / "outputs" / "name" / "1")


def test_run_py_answers_without_torch() -> None:
    """As a user starts it: a typo through the real script, in a fresh process."""
    probe = "import runpy, sys; sys.argv = ['run.py', 'model=tinybrt']\n"
    script = f"try: runpy.run_path({str(ROOT / 'run.py')!r}, run_name='__main__')\n"
    script += "except SystemExit as end: code = end.code\n"
    ask = "print(code, [m for m in ('torch', 'lightning', 'numpy', 'pandas', 'transformers') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", probe + script + ask], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "1 []"
    assert "Did you mean 'tinybert'?" in result.stderr
