from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from modelpress.benchmark import load
from modelpress.benchmark.load import Usage, process_cpu_s, usage


def test_share_of_others() -> None:
    earlier = Usage(wall_s=10, busy_s=100, stolen_s=1, ours_s=50, cpus=2)
    later = Usage(wall_s=20, busy_s=114, stolen_s=2, ours_s=60, cpus=2)
    between = later - earlier
    assert between.foreign_share == pytest.approx((14 + 1 - 10) / 20)
    assert (between + between).foreign_share == pytest.approx(between.foreign_share)
    assert Usage(1, 1, 0, 5, 2).foreign_share == 0
    assert Usage(0, 0, 0, 0, 2).foreign_share == 0


def test_columns_of_proc_stat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "stat").write_text(
        "cpu  9 9 9 9\ncpu0 100 20 30 999 999 4 6 8 50 0\ncpu7 1 1 1 1 1 1 1 1 0 0\nintr 1\n"
    )
    monkeypatch.setattr(load, "PROC", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    found = usage(())
    assert found is not None
    tick = os.sysconf("SC_CLK_TCK")
    assert (found.busy_s, found.stolen_s, found.cpus) == (160 / tick, 8 / tick, 1)
    assert process_cpu_s(1) == 0


def test_nothing_is_claimed_without_proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "PROC", tmp_path)
    assert usage(()) is None


def test_a_busy_stranger_is_seen_and_our_own_work_is_not() -> None:
    spin = [sys.executable, "-c", "while True: pass"]
    with subprocess.Popen(spin) as stranger:
        try:
            before, known = usage(()), usage((stranger.pid,))
            time.sleep(0.6)
            after, known_after = usage(()), usage((stranger.pid,))
        finally:
            stranger.kill()
    assert before is not None
    assert after is not None
    assert known is not None
    assert known_after is not None
    as_stranger, as_ours = after - before, known_after - known
    assert as_stranger.foreign_share > as_ours.foreign_share
    assert as_ours.ours_s - as_stranger.ours_s > 0.1
