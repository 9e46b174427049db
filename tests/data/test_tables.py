from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from modelpress.data.tables import Table
from modelpress.errors import ModelPressError

Write = Callable[..., str]


def rows(count: int, classes: int = 2) -> list[dict[str, object]]:
    return [{"text": f"text {i}", "label": f"c{i % classes}"} for i in range(count)]


def csv_of(records: list[dict[str, object]]) -> str:
    lines = [",".join(records[0]), *(",".join(map(str, record.values())) for record in records)]
    return "\n".join(lines) + "\n"


def test_without_a_split_column_the_shares_are_80_5_5_10(write: Write) -> None:
    data = Table(write("a.csv", csv_of(rows(200, 3))))
    assert data.labels == ["c0", "c1", "c2"]
    assert data.describe()["splits"] == {"train": 160, "calibration": 10, "validation": 10, "test": 20}


def test_the_split_seed_moves_rows_and_the_fingerprint(write: Write) -> None:
    path = write("a.csv", csv_of(rows(200)))
    first, again, other = Table(path), Table(path), Table(path, split_seed=1)
    assert first.table().equals(again.table())
    assert not first.table().equals(other.table())
    assert first.fingerprint() == again.fingerprint() != other.fingerprint()


def test_all_formats_hold_the_same_table(write: Write, tmp_path: Path) -> None:
    records = rows(60)
    pd.DataFrame(records).to_parquet(tmp_path / "a.parquet")
    paths = [
        write("a.csv", csv_of(records)),
        write("a.tsv", csv_of(records).replace(",", "\t")),
        write("a.jsonl", "\n".join(json.dumps(record) for record in records)),
        str(tmp_path / "a.parquet"),
    ]
    tables = [Table(path).table() for path in paths]
    assert all(table.equals(tables[0]) for table in tables[1:])
    assert Table(write("a.data", csv_of(records)), format="csv").table().equals(tables[0])


def test_other_columns_pairs_and_label_order(write: Write) -> None:
    records = [{"premise": f"p{i}", "hypothesis": f"h{i}", "verdict": i % 2} for i in range(40)]
    names = {"text": "premise", "text_pair": "hypothesis", "label": "verdict"}
    data = Table(write("a.jsonl", "\n".join(map(json.dumps, records))), labels=[1, 0], **names)
    table = data.table()
    assert data.labels == ["1", "0"]
    assert table["text_pair"].tolist() == [f"h{i}" for i in range(40)]
    assert table["label"].tolist() == [1 - i % 2 for i in range(40)]


def test_numeric_labels_are_ordered_by_value(write: Write) -> None:
    records = [{"text": f"t{i}", "label": i % 12} for i in range(120)]
    assert Table(write("a.csv", csv_of(records))).labels == [str(i) for i in range(12)]


def test_float_and_boolean_labels_of_parquet(tmp_path: Path) -> None:
    frame = pd.DataFrame({"text": [f"t{i}" for i in range(30)], "label": [float(i % 3) for i in range(30)]})
    frame.to_parquet(tmp_path / "f.parquet")
    assert Table(str(tmp_path / "f.parquet")).labels == ["0", "1", "2"]
    frame.assign(label=frame["label"] > 0).to_parquet(tmp_path / "b.parquet")
    assert Table(str(tmp_path / "b.parquet")).labels == ["False", "True"]


def test_a_split_column_is_obeyed_and_what_it_lacks_comes_from_train(write: Write) -> None:
    records = [{**r, "split": "Train" if i < 60 else "dev" if i < 80 else "test"} for i, r in enumerate(rows(100))]
    table = Table(write("a.csv", csv_of(records))).table()
    assert (table["split"][60:80] == "validation").all()
    assert (table["split"][80:] == "test").all()
    assert table["split"][:60].value_counts().to_dict() == {"train": 57, "calibration": 3}


def test_a_split_column_may_be_ignored_or_have_another_name(write: Write) -> None:
    records = [{**r, "split": "x", "part": "train" if i < 60 else "test"} for i, r in enumerate(rows(100))]
    path = write("a.csv", csv_of(records))
    assert (Table(path, split=None).table()["split"] == "test").sum() == 10
    assert (Table(path, split="part").table()["split"] == "test").sum() == 40
    with pytest.raises(
        ModelPressError, match=r"a.csv, column 'split', line 2: split 'x'; allowed: train.*dataset.split=null"
    ):
        Table(path).table()


def broken(line: int, **change: object) -> str:
    records = rows(40)
    records[line - 2] |= change
    return csv_of(records)


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        (broken(7, text=""), {}, "a.csv, column 'text': empty at line 7"),
        (broken(7, text="  "), {}, "a.csv, column 'text': empty at line 7"),
        (broken(9, label=""), {}, "a.csv, column 'label': empty at line 9"),
        (
            broken(9, label="c3"),
            {"labels": ["c0", "c1"]},
            "column 'label', line 9: label 'c3' is not in dataset.labels",
        ),
        (csv_of(rows(40, 1)), {}, "column 'label': every row is 'c0'; a classifier needs two classes"),
        (csv_of(rows(40, 40)), {}, "40 different values in 40 rows are no classes"),
        ("Text,label\na,b\n", {}, r"no column 'text'; columns there: 'Text', 'label'; did you mean dataset.text=Text"),
        ("text,labels\na,b\n", {}, r"no column 'label'; columns there: .*did you mean dataset.label=labels\?"),
        (
            "text,label\na,b\n",
            {"text_pair": "other", "label": "y"},
            "no column 'other', 'y'.*choose with dataset.text_pair=<",
        ),
        (csv_of(rows(4)), {}, "4 rows in 2 classes are too few"),
        (csv_of([{**r, "split": "train"} for r in rows(40)]), {}, "no row is marked 'test'"),
    ],
)
def test_bad_input_names_file_column_and_line(
    write: Write, content: str, options: dict[str, object], message: str
) -> None:
    with pytest.raises(ModelPressError, match=message):
        Table(write("a.csv", content), **options).table()  # type: ignore[arg-type]


def test_values_that_are_no_text_or_no_class(write: Write) -> None:
    lines = [json.dumps(record) for record in rows(30)]
    with pytest.raises(ModelPressError, match=r"a.jsonl, column 'text', line 31: 5 is int, not a text"):
        Table(write("a.jsonl", "\n".join([*lines, '{"text": 5, "label": "c1"}']))).table()
    with pytest.raises(ModelPressError, match=r"column 'label', line 31: 0.5 is no class"):
        Table(write("a.jsonl", "\n".join([*lines, '{"text": "a", "label": 0.5}']))).table()
    with pytest.raises(ModelPressError, match=r"column 'label': empty at line 31"):
        Table(write("a.jsonl", "\n".join([*lines, '{"text": "a"}']))).table()


@pytest.mark.parametrize("labels", [["a"], ["a", "a"], [1, "1"]])
def test_labels_must_be_two_different_names(labels: list[object]) -> None:
    with pytest.raises(ModelPressError, match="two or more different class names"):
        Table("a.csv", labels=labels)


def test_the_delimiter_may_be_spelt_tab(write: Write) -> None:
    path = write("a.csv", csv_of(rows(60)).replace(",", "\t"))
    assert len(Table(path, delimiter="tab").table()) == 60


def test_delimiter_must_be_one_character() -> None:
    with pytest.raises(ModelPressError, match=r"dataset.delimiter is '--'"):
        Table("a.csv", delimiter="--")


def test_content_not_place_decides_the_fingerprint(write: Write) -> None:
    one, two = write("a.csv", csv_of(rows(60))), write("b.csv", csv_of(rows(60)))
    assert Table(one).fingerprint() == Table(two).fingerprint()
    assert Table(one).fingerprint() != Table(write("c.csv", csv_of(rows(61)))).fingerprint()
    assert Table(one).fingerprint() != Table(one, labels=["c1", "c0"]).fingerprint()
