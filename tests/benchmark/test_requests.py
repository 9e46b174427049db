from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest

from modelpress.benchmark import requests
from modelpress.errors import ModelPressError


def test_round_trip_cuts_each_item_to_its_length(ragged: Path) -> None:
    items = requests.read(ragged)
    assert len(items) == 22
    assert items.lengths is not None
    assert items.labels is not None
    for index in (0, 7, 21):
        one = items.item(index)
        assert set(one) == {"input_ids", "attention_mask"}
        assert one["input_ids"].shape == (1, items.lengths[index])
        assert one["attention_mask"].all()
        assert one["input_ids"].flags.c_contiguous


def test_the_file_is_not_compressed(ragged: Path) -> None:
    with zipfile.ZipFile(ragged) as archive:
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}


def test_without_lengths_the_whole_row_is_sent(fixed: Path) -> None:
    items = requests.read(fixed)
    assert items.item(3)["input_ids"].shape == (1, 16)
    np.testing.assert_array_equal(items.sorted_by_length(), np.arange(12))
    assert items.one_of_each_length().tolist() == [0]


def test_one_of_each_length() -> None:
    items = requests.Requests({"ids": np.zeros((5, 9))}, np.array([7, 3, 7, 9, 3]))
    assert items.one_of_each_length().tolist() == [1, 0, 3]


def test_batches_cover_all_items_once_with_little_padding(ragged: Path) -> None:
    items = requests.read(ragged)
    assert items.lengths is not None
    seen = []
    for indices, inputs in items.batches(5):
        assert inputs["input_ids"].shape == (len(indices), items.lengths[indices].max())
        seen += indices.tolist()
    assert sorted(seen) == list(range(22))
    assert items.lengths[seen].tolist() == sorted(items.lengths.tolist())


def test_every_stretch_of_the_even_order_has_the_same_mix() -> None:
    lengths = np.random.default_rng(0).lognormal(3.2, 0.5, 2600).astype(np.int64) + 1
    items = requests.Requests({"ids": np.zeros((2600, 1))}, lengths)
    order = items.even_order()
    assert sorted(order) == list(range(2600))
    even = [np.median(lengths[order[start : start + 32]]) for start in range(0, 2560, 32)]
    random = np.random.default_rng(1).permutation(lengths)
    plain = [np.median(random[start : start + 32]) for start in range(0, 2560, 32)]
    assert np.std(even) < 0.3 * np.std(plain)
    assert np.mean(even) == pytest.approx(np.median(lengths), rel=0.05)


def test_malformed_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "noise.npz").write_bytes(b"noise")
    with pytest.raises(ModelPressError, match=r"noise\.npz cannot be read"):
        requests.read(tmp_path / "noise.npz")
    with pytest.raises(ModelPressError, match="holds no model inputs"):
        requests.read(requests.write(tmp_path / "a.npz", {}, labels=[1]))
    with pytest.raises(ModelPressError, match=r"same number of items.*'ids': 2.*'labels': 3"):
        requests.read(requests.write(tmp_path / "b.npz", {"ids": np.zeros((2, 3))}, labels=[1, 2, 3]))
    with pytest.raises(ModelPressError, match="lengths must be at least 1"):
        requests.read(requests.write(tmp_path / "c.npz", {"ids": np.zeros((2, 3))}, lengths=[0, 3]))


def test_pickles_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "evil.npz", ids=np.array([{"a": 1}], dtype=object))
    with pytest.raises(ModelPressError, match="cannot be read"):
        requests.read(tmp_path / "evil.npz")


def test_lengths_cut_sequences_and_leave_images_whole(tmp_path: Path) -> None:
    images = np.arange(2 * 3 * 5 * 5, dtype=np.float32).reshape(2, 3, 5, 5)
    ids = np.arange(12).reshape(2, 6)
    arrays = {"pixel_values": images, "input_ids": ids}
    items = requests.read(requests.write(tmp_path / "r.npz", arrays, lengths=[2, 4]))
    found = items.item(0)
    np.testing.assert_array_equal(found["pixel_values"], images[:1])
    np.testing.assert_array_equal(found["input_ids"], ids[:1, :2])
