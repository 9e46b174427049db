from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from modelpress.data import pixels
from modelpress.data.image_text import ImageText
from modelpress.data.images import decode
from modelpress.data.pixels import PixelCache
from modelpress.errors import ModelPressError
from tests.data.pictures import wanted, write_captions


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_captions(tmp_path_factory.mktemp("source"))


@pytest.fixture
def csv(source: Path, tmp_path: Path) -> Path:
    shutil.copytree(source.parent, tmp_path / "data")
    return tmp_path / "data" / "captions.csv"


def make(csv: Path, root: Path, *, size: int = 8, **options: Any) -> PixelCache:
    return PixelCache(ImageText(str(csv), **options), wanted(size, size), root)


def test_every_image_is_decoded_once(csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = make(csv, tmp_path / "cache")
    cache.ensure()
    table, pictures = cache.table(), cache.dataset.listing().pictures
    assert (table.shape, table.dtype) == ((60, 8, 8, 3), np.uint8)
    assert isinstance(table, np.memmap)
    for number in (0, 30, 59):
        assert np.array_equal(table[number], decode(pictures.open(number), wanted(), 10**6))
    monkeypatch.setattr(pixels, "decode", lambda *_: pytest.fail("decoded twice"))
    again = make(csv, tmp_path / "cache", batch_size=7, crop=0.5)
    again.ensure()
    assert np.array_equal(again.table(), table)


def test_what_changes_the_pixels_changes_the_key(csv: Path, tmp_path: Path) -> None:
    plain = make(csv, tmp_path).key
    assert make(csv, tmp_path, size=9).key != plain
    assert make(csv, tmp_path, max_pixels=64).key != plain
    Image.new("RGB", (8, 8)).save(csv.parent / "images" / "3.png")
    assert make(csv, tmp_path).key != plain


def damage(csv: Path) -> None:
    (csv.parent / "images/4.png").write_bytes(b"no image")
    whole = (csv.parent / "images/7.png").read_bytes()
    (csv.parent / "images/7.png").write_bytes(whole[: len(whole) // 2])
    Image.new("L", (40, 30)).save(csv.parent / "images/9.png")


def test_bad_images_are_named_and_left_black(csv: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    damage(csv)
    cache = make(csv, tmp_path / "cache", max_bad_share=0.05, max_pixels=1000)
    with caplog.at_level(logging.WARNING):
        cache.ensure()
    assert sorted(cache.bad()) == [4, 7, 9]
    assert not cache.table()[[4, 7, 9]].any()
    assert "3 of 60 images cannot be read and are left out: captions.csv, line 6: images/4.png: " in caplog.text
    assert "line 9: images/7.png: " in caplog.text
    assert "line 11: images/9.png: 40x30 pixels are more than dataset.max_pixels=1,000" in caplog.text
    with pytest.raises(ModelPressError, match=r"at least 3 of 60 images cannot be read, allowed are 1\.0%"):
        make(csv, tmp_path / "cache", max_pixels=1000).bad()  # a smaller limit holds for a table made under a larger


def test_too_many_bad_images_are_an_error_that_leaves_nothing(csv: Path, tmp_path: Path) -> None:
    damage(csv)
    with pytest.raises(
        ModelPressError, match=r"at least 1 of 60 .*line 6: images/4\.png: .*raise dataset.max_bad_share"
    ):
        make(csv, tmp_path / "cache", max_bad_share=0.0).ensure()
    assert list((tmp_path / "cache").iterdir()) == []


def test_the_limit_of_pil_is_lifted_only_meanwhile(csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)  # 64 pixels would be a decompression bomb
    cache = make(csv, tmp_path / "cache")
    cache.ensure()
    assert cache.bad() == {}
    assert Image.MAX_IMAGE_PIXELS == 10


def test_a_damaged_table_is_decoded_again(csv: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache = make(csv, tmp_path / "cache")
    cache.ensure()
    before = np.array(cache.table())
    with (cache.folder / "pixels.npy").open("r+b") as file:
        file.seek(500)
        file.write(b"?")
    make(csv, tmp_path / "cache").ensure()
    assert "is damaged: decoding again" in caplog.text
    assert np.array_equal(cache.table(), before)


def test_a_full_disk_is_reported(csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ModelPressError, match="cannot write the cache in .*: No space left on device"):
        make(csv, tmp_path / "cache").ensure()
    assert list((tmp_path / "cache").iterdir()) == []
