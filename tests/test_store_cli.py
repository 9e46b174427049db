"""``modelpress store ls | gc``."""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import pytest

from modelpress.errors import ModelPressError
from modelpress.store import RECORD, Entry, Request, Store
from modelpress.store_cli import add_parser, collect, main, usage


def parse(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_parser(parser.add_subparsers())
    return parser.parse_args(["store", *arguments])


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path)
    for number in range(3):
        entry = store.obtain(Request("stage", f"toy {number}", {"n": number}), fill)
        age(entry, days=30 - 10 * number)
    return store


def fill(folder: Path) -> None:
    (folder / "weights").write_bytes(b"w" * 1_000_000)


def age(entry: Entry, days: float) -> None:
    then = time.time() - days * 86400
    os.utime(entry.folder / RECORD, (then, then))


def test_usage_lists_least_recently_used_first(store: Store) -> None:
    rows = usage(store)
    assert [row.entry.name for row in rows] == ["toy 0", "toy 1", "toy 2"]
    assert [round(row.idle_days) for row in rows] == [30, 20, 10]
    assert rows[0].size_mb == pytest.approx(1.0)


def test_collect_by_age_and_by_size(store: Store) -> None:
    assert [row.entry.name for row in collect(store, older_than_days=15, max_gb=None)] == ["toy 0", "toy 1"]
    assert [row.entry.name for row in collect(store, older_than_days=None, max_gb=0.0025)] == ["toy 0"]
    assert collect(store, older_than_days=None, max_gb=1) == []


def test_ls_and_gc(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(parse("ls", "--store", str(store.root))) == 0
    assert "3 entries, 3 MB" in capsys.readouterr().out
    main(parse("gc", "--store", str(store.root), "--older-than", "15", "--dry-run"))
    assert len(usage(store)) == 3
    main(parse("gc", "--store", str(store.root), "--older-than", "15"))
    assert [row.entry.name for row in usage(store)] == ["toy 2"]


def test_faults_say_what_to_do(store: Store, tmp_path: Path) -> None:
    with pytest.raises(ModelPressError, match="--older-than"):
        main(parse("gc", "--store", str(store.root)))
    with pytest.raises(ModelPressError, match="no store at"):
        main(parse("ls", "--store", str(tmp_path / "absent")))
