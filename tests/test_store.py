"""The store: content addressing, verification, locks between processes, full disks."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import resource
import signal
import time
from pathlib import Path

import pytest

from modelpress.errors import ModelPressError
from modelpress.store import RECORD, Request, Store, damage, digest, write_atomic

REQUEST = Request("stage", "toy · distill", {"seed": 1, "nested": {"b": 2, "a": 1}})


def fill(folder: Path) -> None:
    (folder / "model").mkdir(exist_ok=True)
    (folder / "model" / "weights").write_bytes(b"w" * 1000)


def test_key_ignores_order_and_sees_every_value() -> None:
    same = Request("stage", "another name", {"nested": {"a": 1, "b": 2}, "seed": 1})
    other = Request("stage", "toy · distill", {"seed": 1, "nested": {"a": 1, "b": 3}})
    assert same.key == REQUEST.key
    assert other.key != REQUEST.key
    assert Request("export", "toy", REQUEST.inputs).key != REQUEST.key


def test_digest_refuses_nan() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        digest({"loss": float("nan")})


def test_obtain_computes_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store, calls = Store(tmp_path), []

    def compute(folder: Path) -> None:
        calls.append(folder)
        fill(folder)

    first = store.obtain(REQUEST, compute)
    with caplog.at_level(logging.INFO):
        second = store.obtain(REQUEST, compute)
    assert len(calls) == 1
    assert (first.reused, second.reused) == (False, True)
    assert second.folder == first.folder
    assert "Reused from the store: toy · distill" in caplog.text
    assert second.digest_of("model/weights") == digest_of(b"w" * 1000)


def digest_of(data: bytes) -> str:
    import hashlib

    return hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("harm", ["flip", "truncate", "remove", "record"])
def test_damaged_entry_is_made_again(tmp_path: Path, harm: str) -> None:
    store = Store(tmp_path)
    entry = store.obtain(REQUEST, fill)
    weights = entry.folder / "model" / "weights"
    if harm == "flip":
        weights.write_bytes(b"x" + b"w" * 999)
    elif harm == "truncate":
        weights.write_bytes(b"w" * 10)
    elif harm == "remove":
        weights.unlink()
    else:
        (entry.folder / RECORD).write_text("{")
    assert damage(entry.folder) is not None
    assert store.find(REQUEST) is None
    again = store.obtain(REQUEST, fill)
    assert (again.folder / "model" / "weights").read_bytes() == b"w" * 1000
    assert len(list((tmp_path / "damaged").iterdir())) == 1


def test_killed_attempt_is_continued(tmp_path: Path) -> None:
    store = Store(tmp_path)

    def dies(folder: Path) -> None:
        (folder / "half").write_text("done so far")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.obtain(REQUEST, dies)
    assert store.find(REQUEST) is None
    seen = []
    store.obtain(REQUEST, lambda folder: seen.append((folder / "half").read_text()))
    assert seen == ["done so far"]


def contend(root: Path, log: Path) -> None:
    def compute(folder: Path) -> None:
        with log.open("a") as file:
            file.write(f"{os.getpid()}\n")
        time.sleep(0.5)
        fill(folder)

    Store(root).obtain(REQUEST, compute)


def test_two_processes_compute_it_once(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    workers = [spawn.Process(target=contend, args=(tmp_path, tmp_path / "log")) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(30)
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert len((tmp_path / "log").read_text().splitlines()) == 1


def hold(root: Path, started: Path) -> None:
    def compute(folder: Path) -> None:
        started.write_text("holding")
        time.sleep(60)

    Store(root).obtain(REQUEST, compute)


def test_a_dead_owner_blocks_nobody(tmp_path: Path) -> None:
    started = tmp_path / "started"
    owner = multiprocessing.get_context("spawn").Process(target=hold, args=(tmp_path, started))
    owner.start()
    while not started.is_file():
        time.sleep(0.02)
    assert owner.pid is not None
    os.kill(owner.pid, signal.SIGKILL)
    owner.join(10)
    assert Store(tmp_path).obtain(REQUEST, fill).reused is False


def full_disk(root: Path, answer: Path) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500))
    try:
        Store(root).obtain(REQUEST, fill)
    except ModelPressError as error:
        os.write(1, b"")
        answer.write_text(str(error)[:400])


def test_full_disk_is_a_clear_error_and_the_next_try_succeeds(tmp_path: Path) -> None:
    answer = tmp_path / "answer"
    child = multiprocessing.get_context("spawn").Process(target=full_disk, args=(tmp_path / "store", answer))
    child.start()
    child.join(30)
    message = answer.read_text()
    assert "Could not write toy · distill" in message
    assert "MODELPRESS_STORE" in message
    assert Store(tmp_path / "store").obtain(REQUEST, fill).reused is False


def test_other_errors_pass_unchanged(tmp_path: Path) -> None:
    def compute(folder: Path) -> None:
        (folder / "absent").read_text()

    with pytest.raises(FileNotFoundError):
        Store(tmp_path).obtain(REQUEST, compute)


def test_write_atomic_leaves_no_temporary_file(tmp_path: Path) -> None:
    write_atomic(tmp_path / "deep" / "file.json", json.dumps({"a": 1}))
    assert json.loads((tmp_path / "deep" / "file.json").read_text()) == {"a": 1}
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["file.json"]
