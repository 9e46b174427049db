"""The user's own file as a dataset: csv, tsv, parquet or jsonl. Torch-free."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from modelpress.data import columns
from modelpress.data.hashing import file_sha256
from modelpress.data.reading import Rows, find_file, format_of, read_rows
from modelpress.data.splits import SHARES, assign, carve
from modelpress.data.text import READING, TextDataset
from modelpress.errors import ModelPressError

if TYPE_CHECKING:
    import pandas as pd


class Table(TextDataset):
    """One row per item. Any number of classes; single texts or pairs.

    Args:
        path: the file.
        format: csv, tsv, parquet or jsonl; ``None``: by the extension.
        text, text_pair, label: column names; ``text_pair=None``: single texts.
        split: column that says train, validation (valid, val, dev), test or calibration; ``"auto"``: the column named
            ``split`` if there is one; ``None``: no such column. Without it 80/5/5/10 % of the rows become train,
            calibration, validation and test. A split that the column does not name is taken from train, never from
            test.
        split_seed: decides who goes where when splits are drawn; independent of the run's seed.
        labels: class names in order; ``None``: all that occur, sorted.
        encoding, delimiter, quote: for csv, tsv and jsonl; ``quote=None``: quotes are plain characters.
        options: see :class:`TextDataset`.
    """

    reads_with: ClassVar[tuple[str, ...]] = (
        *READING,
        "modelpress.data.tables",
        "modelpress.data.reading",
        "modelpress.data.columns",
    )

    def __init__(
        self,
        path: str,
        *,
        name: str = "csv",
        format: str | None = None,
        text: str = "text",
        text_pair: str | None = None,
        label: str = "label",
        split: str | None = "auto",
        split_seed: int = 0,
        labels: Sequence[object] | None = None,
        encoding: str = "utf-8",
        delimiter: str | None = None,
        quote: str | None = '"',
        **options: Any,
    ) -> None:
        super().__init__(name, **options)
        self.path, self.format = path, format
        self.text, self.text_pair, self.label, self.split_column = text, text_pair, label, split
        self.split_seed = split_seed
        self.encoding, self.delimiter, self.quote = encoding, "\t" if delimiter == "tab" else delimiter, quote
        self._given_labels = columns.explicit_labels(labels)
        self._labels: list[str] | None = self._given_labels
        self._splitting = ""
        for option in ("delimiter", "quote"):
            value = getattr(self, option)
            if value is not None and len(value) != 1:
                raise ModelPressError(f"dataset.{option} is {value!r}; allowed: one character, `tab` or null")

    @property
    def labels(self) -> list[str]:
        """As given, or every class of the file in order (which reads the file)."""
        if self._labels is None:
            self.table()
        assert self._labels is not None
        return self._labels

    def _content(self) -> list[object]:
        file = find_file(self.path)
        names = [self.text, self.text_pair, self.label, self.split_column, self.split_seed]
        spelling = [format_of(file, self.format), self.encoding, self.delimiter, self.quote]
        return [file_sha256(file), names, spelling, self._given_labels]

    def _origin(self) -> dict[str, Any]:
        return {"source": Path(self.path).name, "licence": "the user's own", "splitting": self._splitting}

    def _rows(self) -> Rows:
        file = find_file(self.path)
        spelling = {"encoding": self.encoding, "delimiter": self.delimiter, "quote": self.quote}
        return read_rows(file, format_of(file, self.format), **spelling)  # type: ignore[arg-type]

    def _split_column_of(self, rows: Rows) -> str | None:
        if self.split_column == "auto":
            return "split" if "split" in rows.columns else None
        return self.split_column

    def _read(self) -> pd.DataFrame:
        import pandas as pd

        file, rows = find_file(self.path), self._rows()
        split = self._split_column_of(rows)
        wanted = {"text": self.text, "text_pair": self.text_pair, "label": self.label, "split": split}
        columns.require(file, rows, wanted)
        text = columns.texts(file, rows, self.text)
        pair = columns.texts(file, rows, self.text_pair) if self.text_pair else [None] * len(text)
        names = columns.class_names(file, rows, self.label)
        self._labels = self._given_labels or columns.class_order(file, self.label, names)
        label = columns.class_indices(file, rows, self.label, names, self._labels)
        given = columns.split_names(file, rows, split) if split else None
        drawn = f"stratified, seed {self.split_seed}"
        self._splitting = f"column {split!r}; missing splits from train, {drawn}" if split else f"80/5/5/10, {drawn}"
        frame = {"text": text, "text_pair": pd.Series(pair, dtype=object), "label": pd.Series(label, dtype="int64")}
        return pd.DataFrame(frame | {"split": self._splits(file, label, given)})

    def _splits(self, file: Path, label: list[int], given: list[str] | None) -> Any:
        import numpy as np

        indices = np.asarray(label, dtype=np.int64)
        if given is None:
            return assign(indices, SHARES, self.split_seed)
        for needed in ("train", "test"):
            if needed not in given:
                raise ModelPressError(
                    f"{file.name}: no row is marked {needed!r} in the split column; mark some, or let all splits be "
                    "drawn with dataset.split=null"
                )
        return carve(indices, np.asarray(given, dtype="<U11"), self.split_seed)
