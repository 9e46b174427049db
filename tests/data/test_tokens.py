from __future__ import annotations

import errno
import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modelpress.data import tokens
from modelpress.data.base import SPLITS
from modelpress.data.tables import Table
from modelpress.data.tokenizer import TextTokenizer
from modelpress.data.tokens import TokenCache
from modelpress.errors import ModelPressError


def make(csv: str, tokenizer: Path, root: Path, **options: Any) -> TokenCache:
    return TokenCache(Table(csv, **options), TextTokenizer(tokenizer), root)


def test_a_split_comes_back_as_it_was_tokenized(reviews_csv: str, tokenizer_folder: Path, tmp_path: Path) -> None:
    cache = make(reviews_csv, tokenizer_folder, tmp_path)
    cache.ensure()
    for split in SPLITS:
        rows, found = cache.dataset.split(split), cache.split(split)
        wanted = cache.tokenizer.encode(rows["text"].tolist())
        assert found.input_ids.tolist() == wanted.input_ids.tolist()
        assert found.lengths.tolist() == wanted.lengths.tolist()
        assert found.labels.tolist() == rows["label"].tolist()
    assert cache.tokens_per_item("train") == pytest.approx(float(cache.split("train").lengths.mean()))


def test_pairs_keep_their_token_types(tokenizer_folder: Path, tmp_path: Path) -> None:
    lines = "\n".join(f"a good film {i},very dull,{i % 2}" for i in range(60))
    (tmp_path / "pairs.csv").write_text("text,other,label\n" + lines)
    cache = make(str(tmp_path / "pairs.csv"), tokenizer_folder, tmp_path, text_pair="other")
    cache.ensure()
    found = cache.split("train")
    first = slice(found.offsets[0], found.offsets[1])
    assert found.token_type_ids[first].tolist() == [0, 0, 0, 0, 0, 0, 1, 1, 1]


def test_a_second_use_reads_and_does_not_tokenize(
    reviews_csv: str, tokenizer_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(reviews_csv, tokenizer_folder, tmp_path).ensure()
    again = make(reviews_csv, tokenizer_folder, tmp_path)
    monkeypatch.setattr(again, "_write", lambda: pytest.fail("tokenized twice"))
    again.ensure()
    assert len(again.split("train")) == 96


@pytest.mark.parametrize("option", [{"max_length": 6}, {"limit": 8}, {"split_seed": 3}])
def test_what_changes_the_tokens_changes_the_key(
    reviews_csv: str, tokenizer_folder: Path, tmp_path: Path, option: dict[str, int]
) -> None:
    plain = make(reviews_csv, tokenizer_folder, tmp_path)
    assert make(reviews_csv, tokenizer_folder, tmp_path, **option).key != plain.key
    assert make(reviews_csv, tokenizer_folder, tmp_path, batch_size=7).key == plain.key


@pytest.mark.parametrize("damage", ["flip", "cut", "remove", "manifest"])
def test_a_damaged_cache_is_noticed_and_rebuilt(
    reviews_csv: str, tokenizer_folder: Path, tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    cache = make(reviews_csv, tokenizer_folder, tmp_path)
    cache.ensure()
    wanted, file = cache.split("test").input_ids.copy(), cache.folder / "test.arrow"
    data = bytearray(file.read_bytes())
    if damage == "flip":
        data[len(data) // 2] ^= 255
        file.write_bytes(data)
    elif damage == "cut":
        file.write_bytes(data[:100])
    elif damage == "remove":
        file.unlink()
    else:
        (cache.folder / "manifest.json").write_text("{")
    with caplog.at_level(logging.WARNING):
        make(reviews_csv, tokenizer_folder, tmp_path).ensure()
    assert "is damaged: tokenizing again" in caplog.text
    assert np.array_equal(cache.split("test").input_ids, wanted)


def test_racing_writers_leave_one_intact_folder(reviews_csv: str, tokenizer_folder: Path, tmp_path: Path) -> None:
    caches = [make(reviews_csv, tokenizer_folder, tmp_path / "root") for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda cache: cache.ensure(), caches))
    assert [path.name for path in (tmp_path / "root").iterdir()] == [caches[0].folder.name]
    assert caches[0]._intact()


def test_a_full_disk_is_reported_and_leaves_nothing(
    reviews_csv: str, tokenizer_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(file: Path, found: object) -> None:
        file.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tokens, "write_arrow", full)
    with pytest.raises(ModelPressError, match=r"cannot write the cache in .*: No space left on device"):
        make(reviews_csv, tokenizer_folder, tmp_path / "root").ensure()
    assert list((tmp_path / "root").iterdir()) == []


def test_many_cut_texts_are_worth_a_warning(
    reviews_csv: str, tokenizer_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        make(reviews_csv, tokenizer_folder, tmp_path, max_length=6).ensure()
    assert "of 96 training texts are longer than 6 tokens and were cut" in caplog.text
