from __future__ import annotations

from pathlib import Path

import pytest

from modelpress.data.base import SPLITS
from modelpress.data.imagefolder import ImageFolder
from modelpress.errors import ModelPressError
from tests.data.pictures import write_picture


def fill(folder: Path, counts: dict[str, int]) -> str:
    for place, count in counts.items():
        for i in range(count):
            write_picture(folder / place / f"{i}.png", i)
    return str(folder)


def test_classes_and_drawn_splits(tmp_path: Path) -> None:
    path = fill(tmp_path, {"red_fox": 40, "cow/deeper": 20})
    (tmp_path / "cow" / "notes.txt").write_text("no image")
    (tmp_path / ".hidden").mkdir()
    data = ImageFolder(path, templates=["a {}", "the {}"])
    assert data.labels == ["cow", "red_fox"]
    assert data.describe()["splits"] == {"train": 48, "calibration": 3, "validation": 3, "test": 6}
    assert data.label_counts("test") == {"cow": 2, "red_fox": 4}
    assert data.prompt_texts("validation") == ["a cow", "the cow", "a red fox", "the red fox"]
    assert [path.parts[-2] for path in data.samples(3)] == ["deeper", "deeper", "red_fox"]
    pictures = data.listing().pictures
    for split in SPLITS:
        rows = data.pairs(split)
        assert all(pictures.name(i).startswith(data.labels[k]) for i, k in zip(rows.image, rows.labels, strict=True))
        assert (rows.text // 2).tolist() == rows.labels.tolist()


def test_split_folders(tmp_path: Path) -> None:
    path = fill(tmp_path, {"train/a": 20, "train/b": 20, "val/a": 4, "val/b": 4, "test/a": 2, "test/b": 2})
    assert ImageFolder(path).describe()["splits"] == {"train": 38, "calibration": 2, "validation": 8, "test": 4}


def test_validation_as_test(tmp_path: Path) -> None:
    path = fill(tmp_path, {"train/a": 30, "train/b": 30, "val/a": 4, "val/b": 4})
    assert ImageFolder(path, test_split="val").describe()["splits"]["test"] == 8
    with pytest.raises(
        ModelPressError, match=r"has no folder 'test' with images; choose a test with dataset.test_split"
    ):
        ImageFolder(path).listing()
    with pytest.raises(ModelPressError, match=r"dataset.test_split is 'dev'; split folders there: train, val"):
        ImageFolder(path, test_split="dev").listing()


def test_words_for_codes(tmp_path: Path) -> None:
    path = fill(tmp_path, {"n01": 20, "n02": 20})
    data = ImageFolder(path, names={"n01": "tench", "n02": "Egyptian cat"})
    assert data.labels == ["tench", "Egyptian cat"]
    assert data.prompt_texts("test") == ["a photo of a tench.", "a photo of a Egyptian cat."]
    with pytest.raises(ModelPressError, match="dataset.names speaks of 'n03'; class folders there: n01, n02"):
        ImageFolder(path, names={"n03": "shark"}).listing()


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ({"a": 3}, "images of fewer than two classes there; expected folder/<class>"),
        ({"train/a": 3, "train/b": 3, "cow": 3}, r"\['train'\] look like splits, \['cow'\] like classes"),
        ({"train/a": 3, "test/b": 3}, "class 'b' has no image in train"),
        ({"a": 2, "b": 1}, "too few"),
    ],
)
def test_folders_that_will_not_do(tmp_path: Path, counts: dict[str, int], message: str) -> None:
    with pytest.raises(ModelPressError, match=message):
        ImageFolder(fill(tmp_path, counts)).listing()


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ModelPressError, match="is no folder .*; expected folder/<class>"):
        ImageFolder(str(tmp_path / "none")).listing()
