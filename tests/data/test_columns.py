from __future__ import annotations

from pathlib import Path

import pytest

from modelpress.data.columns import class_names, class_order, split_names
from modelpress.data.reading import Rows
from modelpress.errors import ModelPressError

FILE = Path("a.parquet")


def test_class_names_of_every_kind() -> None:
    rows = Rows({"label": ["x ", 3, True, 2.0]}, [1, 2, 3, 4], "row")
    assert class_names(FILE, rows, "label") == ["x", "3", "True", "2"]


def test_missing_numbers_count_as_gaps() -> None:
    rows = Rows({"label": [1.0, float("nan"), None]}, [1, 2, 3], "row")
    with pytest.raises(ModelPressError, match=r"column 'label': empty at row 2 \(and 1 more\)"):
        class_names(FILE, rows, "label")


def test_class_order_by_value_or_alphabet() -> None:
    assert class_order(FILE, "label", ["10", "9", "-1"]) == ["-1", "9", "10"]
    assert class_order(FILE, "label", ["b", "a", "10"]) == ["10", "a", "b"]


def test_split_names_accept_the_usual_spellings() -> None:
    given = ["train", "TRAINING", "dev", "val", "valid", " validation ", "test", "calibration"]
    rows = Rows({"split": given}, list(range(8)), "row")
    assert split_names(FILE, rows, "split") == ["train", "train", *["validation"] * 4, "test", "calibration"]
