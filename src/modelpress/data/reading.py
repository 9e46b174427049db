"""Reads a user's table (csv, tsv, parquet, jsonl) so that complaints can name the file and the line. Torch-free."""

from __future__ import annotations

import csv
import difflib
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from modelpress.errors import ModelPressError, one_of

FORMATS = {".csv": "csv", ".tsv": "tsv", ".parquet": "parquet", ".jsonl": "jsonl"}
LONGEST_FIELD = 2**31 - 1  # characters; Python's csv module stops at 131,072 by default


@dataclass
class Rows:
    """A table as it stands in the file: ``columns`` maps a name to its values, ``places`` says where each row is."""

    columns: dict[str, list[Any]]
    places: list[int]  # 1-based line of a text file (header included), or row of a parquet file
    unit: Literal["line", "row"]

    def place(self, row: int) -> str:
        """``line 7`` for the row with this number."""
        return f"{self.unit} {self.places[row]}"


def find_file(path: str) -> Path:
    """The file, or an error that lists files of a like name beside it."""
    file = Path(path).expanduser()
    if file.is_file():
        return file
    if file.is_dir():
        raise ModelPressError(f"dataset.path {path} is a folder; give a file, or use dataset=hf for a folder")
    beside = [p.name for p in sorted(file.parent.iterdir())] if file.parent.is_dir() else []
    near = difflib.get_close_matches(file.name, beside, n=3, cutoff=0.6)
    hint = f"; there is {', '.join(near)}" if near else ""
    raise ModelPressError(f"dataset.path {path} does not exist (looked in {file.absolute().parent}){hint}")


def format_of(file: Path, given: str | None) -> str:
    """``given`` if set, else by the extension."""
    if given is not None:
        return one_of("dataset.format", given, FORMATS.values())
    if file.suffix.lower() not in FORMATS:
        raise ModelPressError(
            f"{file.name}: cannot tell the format from the extension {file.suffix!r}; allowed: {', '.join(FORMATS)}; "
            "or set dataset.format to one of csv, tsv, parquet, jsonl"
        )
    return FORMATS[file.suffix.lower()]


def read_rows(
    file: Path,
    format: str,
    *,
    encoding: str = "utf-8",
    delimiter: str | None = None,
    quote: str | None = '"',
) -> Rows:
    """Every row. ``delimiter`` defaults to the format's own; ``quote=None``: quotes are plain characters."""
    if file.stat().st_size == 0:
        raise ModelPressError(f"{file.name} is empty (0 bytes)")
    if format == "parquet":
        rows = _read_parquet(file)
    elif format == "jsonl":
        rows = _read_jsonl(file, _decode(file, encoding))
    else:
        rows = _read_delimited(file, _decode(file, encoding), delimiter or {"csv": ",", "tsv": "\t"}[format], quote)
    if not rows.places:
        raise ModelPressError(f"{file.name} has no rows")
    return rows


def _decode(file: Path, encoding: str) -> str:
    data = file.read_bytes()
    try:
        return data.decode("utf-8-sig" if encoding.lower().replace("_", "-") in ("utf-8", "utf8") else encoding)
    except LookupError as error:
        raise ModelPressError(f"dataset.encoding is {encoding!r}, which Python does not know; e.g. utf-8") from error
    except UnicodeError as error:
        at = error.start if isinstance(error, UnicodeDecodeError) else 0
        line = data.count(b"\n", 0, at) + 1
        guess = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "cp1252"
        raise ModelPressError(
            f"{file.name} is not {encoding}: byte 0x{data[at]:02x} at position {at}, line {line}; save it as UTF-8, "
            f"or set dataset.encoding (perhaps {guess})"
        ) from error


def _read_delimited(file: Path, text: str, delimiter: str, quote: str | None) -> Rows:
    before = csv.field_size_limit(LONGEST_FIELD)
    try:
        return _delimited(file, text, delimiter, quote)
    except csv.Error as error:
        raise ModelPressError(f"{file.name}: {error}") from error
    finally:
        csv.field_size_limit(before)


def _delimited(file: Path, text: str, delimiter: str, quote: str | None) -> Rows:
    lines = io.StringIO(text, newline="")
    if quote is None:
        reader = csv.reader(lines, delimiter=delimiter, quoting=csv.QUOTE_NONE)
    else:
        reader = csv.reader(lines, delimiter=delimiter, quotechar=quote, strict=True)
    header, places, records = [name.strip() for name in _next(reader, file, 0) or []], [], []
    _check_header(file, header, delimiter)
    end = reader.line_num
    while (record := _next(reader, file, end)) is not None:
        start, end = end + 1, reader.line_num
        if not record:
            continue
        if len(record) != len(header):
            raise ModelPressError(
                f"{file.name}, line {start}: {len(record)} fields, but the header has {len(header)} "
                f"({', '.join(header)}); quote fields that contain {delimiter!r}, or set dataset.delimiter"
            )
        places.append(start)
        records.append(record)
    columns = {name: [record[i] for record in records] for i, name in enumerate(header)}
    return Rows(columns, places, "line")


def _next(reader: Any, file: Path, end: int) -> list[str] | None:
    try:
        return cast("list[str] | None", next(reader, None))
    except csv.Error as error:
        raise ModelPressError(
            f"{file.name}, in the record that begins at line {end + 1}: {error}; close the quote there, or set "
            "dataset.quote=null if quotes are plain characters in this file"
        ) from error


def _check_header(file: Path, header: list[str], delimiter: str) -> None:
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise ModelPressError(f"{file.name}, line 1: column {twice[0]!r} stands twice in the header")
    other = next((d for d in ",;\t|" if d != delimiter and d in header[0]), None) if len(header) == 1 else None
    if other is not None:
        raise ModelPressError(
            f"{file.name}, line 1: one column, {header[0]!r}; its fields seem to be separated by {other!r}: set "
            + ("dataset.delimiter=tab" if other == "\t" else f"\"dataset.delimiter='{other}'\"")
        )


def _read_jsonl(file: Path, text: str) -> Rows:
    records, places = [], []
    for line, content in enumerate(text.split("\n"), start=1):
        if not content.strip():
            continue
        records.append(_json_object(file, line, content))
        places.append(line)
    names = dict.fromkeys(name for record in records for name in record)
    return Rows({name: [record.get(name) for record in records] for name in names}, places, "line")


def _json_object(file: Path, line: int, content: str) -> dict[str, Any]:
    try:
        record = json.loads(content)
    except json.JSONDecodeError as error:
        raise ModelPressError(f"{file.name}, line {line}, column {error.colno}: not JSON: {error.msg}") from error
    if not isinstance(record, dict):
        raise ModelPressError(f'{file.name}, line {line}: expected an object like {{"text": "…", "label": "…"}}')
    return record


def _read_parquet(file: Path) -> Rows:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(file)
    except (pa.ArrowInvalid, OSError) as error:
        raise ModelPressError(f"{file.name} cannot be read as parquet: {error}") from error
    return Rows(table.to_pydict(), list(range(1, table.num_rows + 1)), "row")
