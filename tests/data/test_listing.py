from __future__ import annotations

import numpy as np
import pytest

from modelpress.data.images import Files
from modelpress.data.listing import Listing, by_hash, check, components
from modelpress.data.splits import SHARES
from modelpress.errors import ModelPressError


def test_components_agree_with_a_search_row_by_row() -> None:
    rng = np.random.default_rng(0)
    left, right = rng.integers(0, 40, 60), rng.integers(0, 40, 60)
    found = components(left, right)
    for start in range(60):  # breadth first
        reached = {start}
        while True:
            more = {j for j in range(60) if any(left[i] == left[j] or right[i] == right[j] for i in reached)}
            if more == reached:
                break
            reached = more
        assert reached == set(np.flatnonzero(found == found[start]).tolist())
    assert sorted(set(found.tolist())) == list(range(found.max() + 1))


def test_the_hash_decides_whatever_the_order() -> None:
    texts = [f"caption {i}" for i in range(100)]
    drawn = dict(zip(texts, by_hash(texts, list(SHARES), 0), strict=True))
    backwards = dict(zip(texts[::-1], by_hash(texts[::-1], list(SHARES), 0), strict=True))
    assert drawn == backwards
    assert drawn != dict(zip(texts, by_hash(texts, list(SHARES), 1), strict=True))
    assert set(by_hash(texts, ["calibration"], 0)) == {"train", "calibration"}


def test_too_few_captions_to_draw_from() -> None:
    with pytest.raises(ModelPressError, match="7 different captions are too few to draw calibration, validation, test"):
        by_hash(list("abcdefg"), list(SHARES), 0)


def listing(candidates: list[int], splits: list[str]) -> Listing:
    rows = np.arange(len(candidates))
    names = [f"c{i}" for i in range(max(candidates) + 1)]
    pictures = Files([], [])
    return Listing(pictures, names, rows, rows, np.array(candidates), np.array(splits), names, np.arange(len(names)))


def test_extra_splits_are_thinned_to_the_test() -> None:
    found = listing(list(range(10)) * 2, ["test"] * 10 + ["other_style"] * 10)
    found.thin(4)
    assert found.extras() == ["other_style"]
    assert [int((found.split == s).sum()) for s in ("test", "other_style")] == [4, 4]
    assert set(found.candidate[found.split == "test"]) == set(found.candidate[found.split == "other_style"])


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        (["train"] * 3 + ["calibration", "validation", "validation"], "split 'test' has no images"),
        (["train", "train", "calibration", "validation", "validation", "test"], "of split 'test' belong to 'c5'"),
    ],
)
def test_a_split_without_a_choice(splits: list[str], message: str) -> None:
    with pytest.raises(ModelPressError, match=message):
        check(listing(list(range(6)), splits), "tiny")
