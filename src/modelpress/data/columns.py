"""From raw columns to texts, class indices and splits, with errors that name file, column and row. Torch-free."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from modelpress.data.reading import Rows
from modelpress.errors import ModelPressError

SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "calibration": "calibration",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
}
FEW_LABELS = 20  # up to here any number of distinct labels is believed


def require(file: Path, rows: Rows, wanted: dict[str, str | None]) -> None:
    """Raise unless every wanted column (option -> column name) exists; all missing ones are named at once."""
    there = list(rows.columns)
    missing = {option: name for option, name in wanted.items() if name is not None and name not in there}
    if not missing:
        return
    hints = [difflib.get_close_matches(name.lower(), there, n=1, cutoff=0.5) for name in missing.values()]
    near = [f"did you mean dataset.{o}={h[0]}?" for o, h in zip(missing, hints, strict=True) if h]
    option = next(iter(missing))
    raise ModelPressError(
        f"{file.name} has no column {', '.join(map(repr, missing.values()))}; columns there: "
        f"{', '.join(map(repr, there))}; {' '.join(near) or f'choose with dataset.{option}=<column>'}"
    )


def texts(file: Path, rows: Rows, column: str) -> list[str]:
    """The column as it is, after checking that every value is a text with something in it."""
    values = rows.columns[column]
    for row, value in enumerate(values):
        if value is not None and not isinstance(value, str):
            kind = type(value).__name__
            raise ModelPressError(f"{file.name}, column {column!r}, {rows.place(row)}: {value!r} is {kind}, not a text")
    _complain_of_gaps(
        file, rows, column, [row for row, value in enumerate(values) if value is None or not value.strip()]
    )
    return values


def _complain_of_gaps(file: Path, rows: Rows, column: str, gaps: Sequence[int]) -> None:
    if gaps:
        more = f" (and {len(gaps) - 1} more)" if len(gaps) > 1 else ""
        raise ModelPressError(
            f"{file.name}, column {column!r}: empty at {rows.place(gaps[0])}{more}; fill these rows in or remove them"
        )


def class_names(file: Path, rows: Rows, column: str) -> list[str]:
    """The column as class names: whole numbers and booleans become text, ``1.0`` becomes ``1``."""
    values = rows.columns[column]
    _complain_of_gaps(file, rows, column, [row for row, value in enumerate(values) if _is_gap(value)])
    names = []
    for row, value in enumerate(values):
        name = _class_name(value)
        if name is None:
            raise ModelPressError(
                f"{file.name}, column {column!r}, {rows.place(row)}: {value!r} is no class; allowed: texts, whole "
                "numbers and booleans"
            )
        names.append(name)
    return names


def _is_gap(value: Any) -> bool:
    return value is None or value != value or (isinstance(value, str) and not value.strip())


def _class_name(value: Any) -> str | None:
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, bool | int):
        return str(value)
    return str(int(value)) if isinstance(value, float) and value.is_integer() else None


def class_order(file: Path, column: str, names: Sequence[str]) -> list[str]:
    """Distinct class names, numbers by value, texts by alphabet; raises if this cannot be a classification."""
    distinct = sorted(set(names))
    if len(distinct) == 1:
        raise ModelPressError(
            f"{file.name}, column {column!r}: every row is {distinct[0]!r}; a classifier needs two classes"
        )
    if len(distinct) > max(FEW_LABELS, len(names) // 2):
        raise ModelPressError(
            f"{file.name}, column {column!r}: {len(distinct)} different values in {len(names)} rows are no classes; "
            "choose another column with dataset.label"
        )
    if all(_is_integer(name) for name in distinct):
        distinct.sort(key=int)
    return distinct


def _is_integer(name: str) -> bool:
    return name.removeprefix("-").isdecimal()


def class_indices(file: Path, rows: Rows, column: str, names: Sequence[str], labels: list[str]) -> list[int]:
    """The position of every class name in ``labels``."""
    order = {label: i for i, label in enumerate(labels)}
    for row, name in enumerate(names):
        if name not in order:
            near = difflib.get_close_matches(name, labels, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise ModelPressError(
                f"{file.name}, column {column!r}, {rows.place(row)}: label {name!r} is not in dataset.labels; allowed: "
                f"{', '.join(map(repr, labels))}.{hint}"
            )
    return [order[name] for name in names]


def split_names(file: Path, rows: Rows, column: str) -> list[str]:
    """The split of every row in our words; ``dev``, ``val`` and ``valid`` are ``validation``."""
    names = []
    for row, value in enumerate(rows.columns[column]):
        name = SPLIT_NAMES.get(str(value).strip().lower())
        if name is None:
            raise ModelPressError(
                f"{file.name}, column {column!r}, {rows.place(row)}: split {value!r}; allowed: "
                f"{', '.join(SPLIT_NAMES)}; or ignore the column with dataset.split=null"
            )
        names.append(name)
    return names


def explicit_labels(given: Sequence[object] | None) -> list[str] | None:
    """``dataset.labels`` as class names; raises on duplicates and on fewer than two."""
    if given is None:
        return None
    labels = [str(label) for label in given]
    if len(set(labels)) != len(labels) or len(labels) < 2:
        raise ModelPressError(f"dataset.labels is {labels}; allowed: two or more different class names, in order")
    return labels
