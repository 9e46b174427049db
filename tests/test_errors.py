"""Faults a user can mend: the words of the exception, and what run.py prints about them in a fresh process."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from modelpress.errors import ModelPressError, one_of
from modelpress.store import Request, Store

ROOT = Path(__file__).parents[1]


def test_one_of_returns_what_is_allowed() -> None:
    assert one_of("precision", "bf16", ["fp32", "bf16"]) == "bf16"
    assert one_of("letter", "b", iter("abc")) == "b"


def test_one_of_names_given_allowed_and_nearest() -> None:
    with pytest.raises(ModelPressError) as caught:
        one_of("precision", "bf61", ["fp32", "bf16"])
    assert str(caught.value) == "precision is 'bf61'; allowed: 'fp32', 'bf16'. Did you mean 'bf16'?"


@pytest.mark.parametrize("given", ["zzz", None, 3])
def test_one_of_guesses_nothing_where_nothing_is_near(given: object) -> None:
    with pytest.raises(ModelPressError, match="allowed: 'fp32'") as caught:
        one_of("precision", given, ["fp32"])
    assert "Did you mean" not in str(caught.value)


def test_a_teacher_that_needs_the_network(tmp_path: Path) -> None:
    """Offline and not in the cache: a sentence, no traceback, no waiting for retries."""
    command = [sys.executable, str(ROOT / "run.py"), "model@teacher=hf", "teacher.path=some-org/absent"]
    started = time.monotonic()
    result = subprocess.run(
        [*command, f"store={tmp_path / 'store'}"],
        cwd=tmp_path,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert time.monotonic() - started < 10
    assert result.returncode == 1
    assert "some-org/absent" in result.stderr
    assert "connect" in result.stderr
    assert "Traceback" not in result.stderr + result.stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can drop to another user")
def test_an_output_folder_of_another_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python's own folder may be closed to that user, so the rights are dropped after the imports."""
    from modelpress.launch import main

    tmp_path.chmod(0o755)
    (tmp_path / "here").mkdir(mode=0o755)
    monkeypatch.chdir(tmp_path / "here")
    said = tmp_path / "said"
    with pytest.MonkeyPatch.context() as patch, said.open("w") as file:
        patch.setattr("modelpress.check.check", lambda cfg, overrides=(): None)
        child = os.fork()
        if child == 0:
            code = 99
            try:
                os.dup2(file.fileno(), 2)
                sys.stderr = os.fdopen(2, "w", closefd=False)
                os.setgid(65534)
                os.setuid(65534)
                code = main([])
            finally:
                sys.stderr.flush()
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
    assert said.read_text().startswith("Cannot write outputs/reviews_tinybert_distill/")
    assert "Traceback" not in said.read_text()
    assert "hydra.run.dir=" in said.read_text()


def test_a_store_that_cannot_be_made(tmp_path: Path) -> None:
    """A file stands where the store should be."""
    (tmp_path / "taken").write_text("mine")
    store = Store(tmp_path / "taken")
    with pytest.raises(ModelPressError, match="Could not write a result under .*taken.*store="):
        store.obtain(Request("stage", "a result", {}), lambda folder: None)
    assert (tmp_path / "taken").read_text() == "mine"
