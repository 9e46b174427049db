from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets
import pandas as pd
import pytest

from modelpress.data.hub import HubDataset, choose_splits
from modelpress.errors import ModelPressError

ASKED: dict[str, str | None] = {"train": None, "validation": None, "test": None, "calibration": None}


def part(name: str, count: int, **columns: list[Any]) -> datasets.Dataset:
    """Rows ``<name> i`` with classes neg and pos in turn."""
    features = datasets.Features(
        {"sentence": datasets.Value("string"), "label": datasets.ClassLabel(names=["neg", "pos"])}
    )
    rows = {"sentence": [f"{name} {i}" for i in range(count)], "label": [i % 2 for i in range(count)]} | columns
    return datasets.Dataset.from_dict(rows, features=features)


@pytest.fixture
def glue_like(tmp_path: Path) -> str:
    """Like SST-2: the labels of test are hidden."""
    parts = {"train": part("train", 100), "validation": part("validation", 20)}
    parts["test"] = part("test", 10, label=[-1] * 10)
    datasets.DatasetDict(parts).save_to_disk(str(tmp_path / "glue"))
    return str(tmp_path / "glue")


def test_sst2_like_splits(glue_like: str) -> None:
    data = HubDataset(glue_like, text="sentence", test_split="validation")
    table = data.table()
    assert data.labels == ["neg", "pos"]
    assert data.describe()["splits"] == {"train": 90, "calibration": 5, "validation": 5, "test": 20}
    assert all(text.startswith("validation") for text in table["text"][table["split"] == "test"])
    assert all(text.startswith("train") for text in table["text"][table["split"] != "test"])
    assert [int(text.split()[1]) % 2 for text in table["text"]] == table["label"].tolist()
    assert data.describe()["splitting"]["validation"] == "drawn from train, seed 0"


def test_hidden_labels_are_refused(glue_like: str) -> None:
    with pytest.raises(ModelPressError, match=r"glue\[test\] is unlabelled.*dataset.test_split=validation"):
        HubDataset(glue_like, text="sentence").table()


def test_rows_without_text_or_label_are_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    train = part("train", 60, label=[-1, 0, 1] + [i % 2 for i in range(57)])
    test = part("test", 4, sentence=["fine", " ", None, "dull"])
    datasets.DatasetDict(train=train, test=test).save_to_disk(str(tmp_path / "gaps"))
    table = HubDataset(str(tmp_path / "gaps"), text="sentence").table()
    assert "train 0" not in table["text"].tolist()
    assert table["text"][table["split"] == "test"].tolist() == ["fine", "dull"]
    assert "gaps[train]: 1 rows lack a text or a label" in caplog.text
    assert "gaps[test]: 2 rows lack a text or a label" in caplog.text


def test_a_folder_of_data_files_and_a_file_builder(tmp_path: Path) -> None:
    frame = pd.DataFrame({"text": [f"t{i}" for i in range(60)], "label": [("no", "yes")[i % 2] for i in range(60)]})
    (tmp_path / "data").mkdir()
    frame[:40].to_parquet(tmp_path / "data" / "train.parquet")
    frame[40:].to_parquet(tmp_path / "data" / "test.parquet")
    frame[:40].to_csv(tmp_path / "a.csv", index=False)
    frame[40:].to_csv(tmp_path / "b.csv", index=False)
    folder = HubDataset(str(tmp_path / "data"))
    files = HubDataset("csv", data_files={"train": str(tmp_path / "a.csv"), "test": str(tmp_path / "b.csv")})
    assert folder.labels == files.labels == ["no", "yes"]
    assert folder.table().equals(files.table())
    assert folder.fingerprint() == files.fingerprint()
    assert folder.describe()["splits"] == {"train": 36, "calibration": 2, "validation": 2, "test": 20}


def test_one_train_split_is_drawn_from(tmp_path: Path) -> None:
    part("train", 100).save_to_disk(str(tmp_path / "one"))
    data = HubDataset(str(tmp_path / "one"), text="sentence")
    assert data.describe()["splits"] == {"train": 80, "calibration": 5, "validation": 5, "test": 10}


def test_pairs_and_labels_in_another_order(tmp_path: Path) -> None:
    columns = {"a": [f"a{i}" for i in range(60)], "b": [f"b{i}" for i in range(60)], "y": [i % 3 for i in range(60)]}
    datasets.Dataset.from_dict(columns).save_to_disk(str(tmp_path / "pairs"))
    data = HubDataset(str(tmp_path / "pairs"), text="a", text_pair="b", label="y", labels=[2, 1, 0])
    assert data.table()["text_pair"].tolist() == columns["b"]
    assert data.table()["label"].tolist() == [2 - y for y in columns["y"]]


def test_the_fingerprint_follows_rows_and_choices(glue_like: str, tmp_path: Path) -> None:
    options = {"text": "sentence", "test_split": "validation"}
    first = HubDataset(glue_like, **options).fingerprint()  # type: ignore[arg-type]
    assert HubDataset(glue_like, **options).fingerprint() == first  # type: ignore[arg-type]
    assert HubDataset(glue_like, **options, split_seed=1).fingerprint() != first  # type: ignore[arg-type]


def test_missing_columns_and_splits_name_those_there(glue_like: str) -> None:
    with pytest.raises(
        ModelPressError, match=r"glue\[train\] has no column 'text'; columns there: 'sentence', 'label'"
    ):
        HubDataset(glue_like, test_split="validation").table()
    with pytest.raises(ModelPressError, match="has no split 'dev'; splits there: train, validation, test"):
        HubDataset(glue_like, text="sentence", test_split="dev").table()


@pytest.mark.parametrize(
    ("there", "asked", "chosen"),
    [
        (["train", "test"], {}, {"train": "train", "test": "test"}),
        (["train", "valid", "test"], {}, {"train": "train", "validation": "valid", "test": "test"}),
        (["train", "validation"], {"test": "validation"}, {"train": "train", "test": "validation"}),
        (["a", "b"], {"train": "a", "test": "b"}, {"train": "a", "test": "b"}),
    ],
)
def test_choose_splits(there: list[str], asked: dict[str, str], chosen: dict[str, str]) -> None:
    assert choose_splits("x", there, ASKED | asked) == chosen


def test_one_split_for_two_purposes_is_refused() -> None:
    with pytest.raises(ModelPressError, match="split 'test' is asked for twice"):
        choose_splits("x", ["train", "test"], ASKED | {"validation": "test", "test": "test"})
    with pytest.raises(ModelPressError, match="has no split 'train'; splits there: all"):
        choose_splits("x", ["all"], ASKED)
