from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from modelpress.data.reading import find_file, format_of, read_rows
from modelpress.errors import ModelPressError

Write = Callable[..., str]


def read(path: str, **options: str | None) -> list[tuple[object, ...]]:
    rows = read_rows(Path(path), format_of(Path(path), None), **options)  # type: ignore[arg-type]
    return list(zip(*rows.columns.values(), rows.places, strict=True))


def test_csv_with_quotes_commas_and_line_breaks_keeps_line_numbers(write: Write) -> None:
    path = write("a.csv", 'text,label\r\n"one, ""two""",x\r\n"a\r\nb",y\r\n\r\nlast,z\r\n')
    assert read(path) == [('one, "two"', "x", 2), ("a\r\nb", "y", 3), ("last", "z", 6)]


def test_tsv_and_byte_order_mark(write: Write) -> None:
    assert read(write("a.tsv", "\ufefftext\tlabel\na,b\tx\n")) == [("a,b", "x", 2)]


def test_words_for_nothing_stay_words(write: Write) -> None:
    assert read(write("a.csv", "text,label\nNA,null\nnan,None\n")) == [("NA", "null", 2), ("nan", "None", 3)]


def test_csv_agrees_with_pandas(write: Write) -> None:
    path = write("a.csv", 'text,label\n"x, y",1\nü,2\n"say ""hi""",3\n')
    wanted = pd.read_csv(path, dtype=str, keep_default_na=False)
    assert [row[:2] for row in read(path)] == list(wanted.itertuples(index=False, name=None))


def test_jsonl_and_parquet(write: Write, tmp_path: Path) -> None:
    path = write("a.jsonl", '{"text": "a", "label": 1}\n\n{"label": 0, "text": "b\\n"}\n')
    assert read(path) == [("a", 1, 1), ("b\n", 0, 3)]
    pd.DataFrame({"text": ["a", "b"], "label": [1, 0]}).to_parquet(tmp_path / "a.parquet")
    assert read(str(tmp_path / "a.parquet")) == [("a", 1, 1), ("b", 0, 2)]


def test_a_very_long_field_is_read(write: Write) -> None:
    assert len(str(read(write("a.csv", f"text,label\n{'x' * 200_000},1\n"))[0][0])) == 200_000


def test_other_encodings_and_plain_quotes(write: Write) -> None:
    assert read(write("a.csv", "text,label\né,1\n".encode("cp1252")), encoding="cp1252") == [("é", "1", 2)]
    assert read(write("b.tsv", 'text\tlabel\n"open\t1\n'), quote=None) == [('"open', "1", 2)]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"", r"a.csv is empty \(0 bytes\)"),
        ("a.csv", b"text,label\n", "a.csv has no rows"),
        ("a.csv", b"text,label\nok,1\n\xe9t\xe9,1\n", "a.csv is not utf-8: byte 0xe9 at position 16, line 3.*cp1252"),
        ("a.csv", "text,label\na,1\n".encode("utf-16"), "byte 0xff at position 0, line 1.*utf-16"),
        ("a.csv", b"text,label\na,1\nb, c,2\n", r"a.csv, line 3: 3 fields, but the header has 2 \(text, label\)"),
        ("a.csv", b"text,label\na\n", "a.csv, line 2: 1 fields"),
        ("a.csv", b'text,label\na,1\n"b,2\nc,3\n', "a.csv, in the record that begins at line 3.*dataset.quote=null"),
        ("a.csv", b"text,text\na,1\n", "column 'text' stands twice"),
        ("a.csv", b"text;label\na;1\n", "set \"dataset.delimiter=';'\""),
        ("a.csv", b"text\tlabel\na\t1\n", "set dataset.delimiter=tab"),
        ("a.jsonl", b'{"text": "a"}\n{"text": }\n', "a.jsonl, line 2, column 10: not JSON"),
        ("a.jsonl", b'["a", 1]\n', "a.jsonl, line 1: expected an object"),
        ("a.parquet", b"PAR1 but not really", "a.parquet cannot be read as parquet"),
        ("a.xlsx", b"PK", "cannot tell the format from the extension '.xlsx'; allowed: .csv, .tsv"),
    ],
)
def test_faults_name_the_file_and_the_line(write: Write, name: str, content: bytes, message: str) -> None:
    with pytest.raises(ModelPressError, match=message):
        read(write(name, content))


def test_unknown_encoding_and_format() -> None:
    with pytest.raises(ModelPressError, match=r"dataset.encoding is 'utf9'"):
        read_rows(Path(__file__), "csv", encoding="utf9")
    with pytest.raises(ModelPressError, match=r"dataset.format is 'exel'; allowed: 'csv'"):
        format_of(Path("a.csv"), "exel")


def test_a_missing_file_names_its_neighbours(write: Write, tmp_path: Path) -> None:
    write("reviews.csv", "x")
    with pytest.raises(ModelPressError, match=r"does not exist .*; there is reviews.csv"):
        find_file(str(tmp_path / "review.csv"))
    with pytest.raises(ModelPressError, match="is a folder"):
        find_file(str(tmp_path))
    with pytest.raises(ModelPressError, match="does not exist"):
        find_file("/nowhere/at/all.csv")
