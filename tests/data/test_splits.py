from __future__ import annotations

import numpy as np
import pytest

from modelpress.data.splits import SHARES, assign, carve, thin
from modelpress.errors import ModelPressError


@pytest.mark.parametrize(("rows", "classes", "seed"), [(40, 2, 0), (500, 3, 1), (1000, 7, 2), (33, 10, 3)])
def test_assign_gives_exact_stratified_shares(rows: int, classes: int, seed: int) -> None:
    labels = np.random.default_rng(seed).integers(0, classes, rows)
    splits = assign(labels, SHARES, seed)
    for name, share in SHARES.items():
        assert (splits == name).sum() == max(1, round(share * rows))
    assert set(labels[splits == "train"]) == set(labels)  # every class can be learned
    big = [c for c in range(classes) if (labels == c).sum() >= 100]
    for label in big:
        wanted = 0.1 * (labels == label).sum()
        assert abs((labels[splits == "test"] == label).sum() - wanted) <= 3


def test_assign_depends_on_the_seed_alone() -> None:
    labels = np.arange(200) % 4
    assert (assign(labels, SHARES, 5) == assign(labels, SHARES, 5)).all()
    assert (assign(labels, SHARES, 5) != assign(labels, SHARES, 6)).any()


def test_a_class_with_one_row_stays_in_train() -> None:
    labels = np.array([0] * 50 + [1] * 50 + [2])
    assert all(assign(labels, SHARES, seed)[-1] == "train" for seed in range(50))


def test_too_few_rows_are_refused() -> None:
    with pytest.raises(ModelPressError, match="4 rows in 2 classes are too few to draw calibration, validation, test"):
        assign(np.array([0, 1, 1, 0]), SHARES, 0)
    assert sorted(assign(np.array([0, 1, 1, 0, 1]), SHARES, 0)) == [
        "calibration",
        "test",
        "train",
        "train",
        "validation",
    ]


def test_carve_takes_from_train_only() -> None:
    labels = np.arange(100) % 2
    given = np.array(["train"] * 80 + ["test"] * 20)
    carved = carve(labels, given, 0)
    assert (carved[80:] == "test").all()
    assert {s: int((carved == s).sum()) for s in SHARES} == {"calibration": 4, "validation": 4, "test": 20}


def test_carve_keeps_what_is_given() -> None:
    given = np.array(["train"] * 40 + ["validation"] * 10 + ["calibration"] * 10 + ["test"] * 10)
    assert (carve(np.arange(70) % 2, given, 0) == given).all()


def test_thin_keeps_order_proportion_and_every_class() -> None:
    labels = np.array([0] * 90 + [1] * 9 + [2])
    rows = thin(labels, 20)
    assert (np.diff(rows) > 0).all()
    assert np.bincount(labels[rows]).tolist() == [17, 2, 1]
    assert thin(labels, 1000).tolist() == list(range(100))
