"""The file format: nothing is lost that was committed, nothing is believed that is damaged."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from modelpress import teacher_cache
from modelpress.teacher_cache import MAGIC, RECORD, CacheUnavailable, ItemCache

HEADER = len(MAGIC) + 32


def content(item: int) -> bytes:
    return np.random.default_rng(item).bytes(50 + 7 * item)


def source(item: int) -> int:
    return 1000 + item


def opened(folder: Path, items: int = 20, key: str = "key", limit: float = 1e9) -> ItemCache:
    return ItemCache(folder, "teacher", key, items, limit)


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    cache = opened(tmp_path)
    for item in (3, 0, 19, 7):
        cache.put(item, source(item), content(item))
    cache.close()
    return tmp_path


def held(folder: Path, items: int = 20) -> list[int]:
    """Numbers of the items that are held; each must be right."""
    cache = opened(folder, items)
    found = {item: cache.get(item, source(item)) for item in range(items)}
    cache.close()
    assert all(data == content(item) for item, data in found.items() if data is not None)
    return [item for item, data in found.items() if data is not None]


def test_what_was_put_is_found_now_and_after_reopening(tmp_path: Path) -> None:
    cache = opened(tmp_path)
    assert cache.get(5, source(5)) is None
    cache.put(5, source(5), content(5))
    assert cache.get(5, source(5)) == content(5)
    cache.close()
    cache.close()
    assert held(tmp_path) == [5]


def test_items_of_another_input_are_not_found_and_not_overwritten(filled: Path) -> None:
    cache = opened(filled)
    assert cache.get(3, source(4)) is None
    cache.put(3, source(4), b"augmented")
    assert cache.get(3, source(3)) == content(3)
    assert (cache.get(20, 0), cache.get(-1, 0)) == (None, None)
    cache.put(20, 0, b"beyond the end")
    assert cache.filled == 4
    cache.close()


@pytest.mark.parametrize(("key", "items"), [("other key", 20), ("key", 21)])
def test_another_key_or_size_starts_empty(filled: Path, key: str, items: int) -> None:
    cache = opened(filled, items, key)
    assert cache.filled == 0
    cache.put(1, source(1), content(1))
    cache.close()
    assert opened(filled, items, key).get(1, source(1)) == content(1)


def test_bytes_without_a_record_are_overwritten(filled: Path) -> None:
    with (filled / "teacher.data").open("ab") as file:
        file.write(b"half a write of a killed run")
    cache = opened(filled)
    cache.put(1, source(1), content(1))
    cache.close()
    assert held(filled) == [0, 1, 3, 7, 19]


def test_a_changed_byte_is_noticed_and_the_item_can_be_put_again(
    filled: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with (filled / "teacher.data").open("r+b") as file:
        file.seek(len(content(3)) + 10)  # inside item 0, the second one written
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))
    cache = opened(filled)
    assert cache.get(0, source(0)) is None
    assert "item 0 is damaged" in caplog.text
    cache.put(0, source(0), content(0))
    cache.close()
    assert held(filled) == [0, 3, 7, 19]


def test_a_short_data_file_loses_only_what_is_missing(filled: Path, caplog: pytest.LogCaptureFixture) -> None:
    os.truncate(filled / "teacher.data", len(content(3)) + len(content(0)) + 5)
    assert held(filled) == [0, 3]
    assert "2 outputs are missing on disk" in caplog.text


@pytest.mark.parametrize("damage", ["short", "garbage", "empty"])
def test_a_damaged_index_is_built_again(filled: Path, damage: str) -> None:
    index = filled / "teacher.index"
    whole = index.read_bytes()
    index.write_bytes({"short": whole[:-1], "garbage": b"x" * len(whole), "empty": b""}[damage])
    assert held(filled) == []
    cache = opened(filled)
    cache.put(2, source(2), content(2))
    cache.close()
    assert held(filled) == [2]


@pytest.mark.parametrize("record", [(0, 2**62, 1003, 0), (2**62, 2**62, 1003, 0), (-5, 10, 1003, 0), (0, -1, 1003, 0)])
def test_impossible_records_are_dropped(filled: Path, record: tuple[int, int, int, int]) -> None:
    with (filled / "teacher.index").open("r+b") as file:
        file.seek(HEADER + 3 * RECORD.itemsize)
        file.write(np.array(record, RECORD).tobytes())
    assert held(filled) == [0, 7, 19]


def test_a_record_that_points_to_another_item_is_not_believed(filled: Path) -> None:
    with (filled / "teacher.index").open("r+b") as file:
        file.seek(HEADER + 3 * RECORD.itemsize)
        stolen = np.frombuffer(file.read(RECORD.itemsize), RECORD).copy()
        stolen["source"] = source(4)
        file.write(stolen.tobytes())  # the place of item 4
    assert held(filled) == [0, 3, 7, 19]


def test_records_are_written_after_their_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []
    files = {}
    for name in ("pwrite", "fsync"):
        real = getattr(os, name)
        monkeypatch.setattr(
            teacher_cache.os, name, lambda fd, *a, _r=real, _n=name: steps.append(f"{_n} {files[fd]}") or _r(fd, *a)
        )
    cache = opened(tmp_path)
    files.update({cache._data: "data", cache._index: "index"})
    for item in (1, 2):
        cache.put(item, source(item), content(item))
    cache.close()
    assert steps == ["pwrite data", "pwrite data", "fsync data", "pwrite index", "pwrite index", "fsync index"]


WRITER = """
import sys
from pathlib import Path
from tests_helper import content, source
from modelpress import teacher_cache
teacher_cache.COMMIT_BYTES = 2000
cache = teacher_cache.ItemCache(Path(sys.argv[1]), "teacher", "key", 3000, 1e9)
for item in range(3000):
    cache.put(item, source(item), content(item))
    if item == 40:
        print("going", flush=True)
"""
HELPER = """
import random
def content(item): return random.Random(item).randbytes(50 + 7 * (item % 100))
def source(item): return 1000 + item
"""


def test_a_killed_writer_leaves_only_the_truth(tmp_path: Path) -> None:
    (tmp_path / "tests_helper.py").write_text(HELPER)
    scope: dict = {}
    exec(HELPER, scope)
    counts = []
    for delay_s in (0.0, 0.02, 0.05):
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
        command = [sys.executable, "-c", WRITER, str(tmp_path)]
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == b"going\n"
            time.sleep(delay_s)
            writer.send_signal(signal.SIGKILL)
        cache = opened(tmp_path, 3000)
        found = [cache.get(item, scope["source"](item)) for item in range(3000)]
        cache.close()
        assert all(data == scope["content"](item) for item, data in enumerate(found) if data is not None)
        counts.append(sum(data is not None for data in found))
    assert counts == sorted(counts)
    assert counts[0] >= 7  # at least the first commit


def test_only_one_process_holds_it(tmp_path: Path) -> None:
    cache = opened(tmp_path)
    with pytest.raises(CacheUnavailable, match=r"another process uses teacher\.lock"):
        opened(tmp_path)
    cache.close()
    opened(tmp_path).close()
    abandoned = opened(tmp_path)
    del abandoned
    opened(tmp_path).close()
    assert held(tmp_path) == []


def fill(cache: ItemCache, items: int) -> None:
    for item in range(items):
        cache.put(item, 1, bytes([1]) * 1000)


def test_the_limit_is_kept_and_foreseen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = opened(tmp_path, items=1000, limit=10_000)
    with pytest.raises(CacheUnavailable, match="it needs at least"):
        fill(cache, 1000)
    assert cache.filled == 10
    cache.delete()
    assert not (tmp_path / "teacher.data").exists()
    monkeypatch.setattr(teacher_cache, "SAMPLE", 5)
    early = opened(tmp_path, items=100, limit=10_000)
    with pytest.raises(CacheUnavailable, match=r"8\.3e-05 GB, allowed are 1e-05 GB"):
        fill(early, 100)
    assert early.filled == 5
    early.close()


def test_a_full_disk_is_an_os_error_and_what_was_committed_stays(filled: Path) -> None:
    cache = opened(filled)
    size = (filled / "teacher.data").stat().st_size
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, limits[1]))
    try:
        with pytest.raises(OSError, match=r"short write|File too large"):
            cache.put(15, source(15), content(15))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    cache.close()
    assert held(filled) == [0, 3, 7, 19]


def test_closing_unlocks_although_a_child_process_inherited_the_lock(tmp_path: Path) -> None:
    cache = opened(tmp_path)
    with subprocess.Popen(["sleep", "60"], pass_fds=[cache._descriptors[0]]) as child:
        with pytest.raises(CacheUnavailable):
            opened(tmp_path)
        cache.close()
        again = opened(tmp_path)
        again.put(1, source(1), content(1))
        again.close()
        child.kill()
    assert held(tmp_path) == [1]
