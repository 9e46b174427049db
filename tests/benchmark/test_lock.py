from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from modelpress.benchmark import lock

HOLD = """
import sys, time
from modelpress.benchmark import lock
with getattr(lock, sys.argv[1])(sys.argv[2], tell=lambda text: print(text, flush=True)):
    print("held", flush=True)
    time.sleep(60)
"""


@contextmanager
def other_process(kind: str, reason: str) -> Iterator[subprocess.Popen[str]]:
    environment = {**os.environ, "TMPDIR": str(tempfile.gettempdir())}
    command = [sys.executable, "-c", HOLD, kind, reason]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            yield process
        finally:
            process.kill()


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.fixture(autouse=True)
def fresh(tmp_path: os.PathLike[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(lock, "POLL_S", 0.02)


def test_a_dead_trainer_frees_the_lock_and_waiting_says_who_holds_it() -> None:
    said: list[str] = []
    with other_process("shared", "training tinybert") as trainer:
        assert first_line(trainer) == "held"
        killer = threading.Timer(0.4, trainer.kill)
        killer.start()
        start = time.monotonic()
        with lock.exclusive("benchmark of 3 engines", tell=said.append):
            waited = time.monotonic() - start
        killer.join()
    assert waited > 0.2
    assert said == [f"benchmark of 3 engines: waiting for process {trainer.pid} (training tinybert)"]


def test_many_may_train_but_none_during_a_benchmark() -> None:
    with lock.shared("training a"), other_process("shared", "training b") as trainer:
        assert first_line(trainer) == "held"
        assert {holder["reason"] for holder in lock.holders()} == {"training a", "training b"}
    with lock.exclusive("benchmark"), other_process("shared", "training c") as trainer:
        assert first_line(trainer) == f"training c: waiting for process {os.getpid()} (benchmark)"
    assert lock.holders() == []


def test_a_benchmark_inside_a_training_does_not_wait_for_itself() -> None:
    with lock.shared("training"):
        with lock.exclusive("benchmark"):
            assert [holder["kind"] for holder in lock.holders()] == ["exclusive"]
            with lock.shared("a nested training"), lock.exclusive("nested"):
                assert [holder["kind"] for holder in lock.holders()] == ["exclusive"]
        assert [(holder["kind"], holder["reason"]) for holder in lock.holders()] == [("shared", "training")]
    assert lock.holders() == []


def test_two_trainings_that_both_want_to_measure_do_not_deadlock() -> None:
    code = HOLD.replace(
        "time.sleep(60)",
        "time.sleep(0.3)\n    with lock.exclusive('benchmark', tell=lambda text: None): print('measured', flush=True)",
    )
    environment = {**os.environ, "TMPDIR": str(tempfile.gettempdir())}
    command = [sys.executable, "-c", code, "shared", "training"]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) for _ in range(2)]
    outputs = [process.communicate(timeout=60)[0].split() for process in processes]
    assert outputs == [["held", "measured"]] * 2


def test_the_lock_is_given_back_after_an_error() -> None:
    with pytest.raises(RuntimeError, match="broken"), lock.exclusive("benchmark"):
        raise RuntimeError("broken")
    with other_process("exclusive", "benchmark") as other:
        assert first_line(other) == "held"


def test_a_forked_child_does_not_hold_it() -> None:
    with lock.shared("training"):
        child = os.fork()
        if child == 0:
            os._exit(0 if lock._held.file is None and not lock._held.stack else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert [holder["kind"] for holder in lock.holders()] == ["shared"]


def test_the_folder_is_usable_by_every_user() -> None:
    with lock.shared("training"):
        assert lock.folder().stat().st_mode & 0o7777 == 0o1777
        assert (lock.folder() / "lock").stat().st_mode & 0o777 == 0o666
