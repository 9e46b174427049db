"""A dataset of the Hugging Face hub, or a local folder of the same kind, through ``datasets``. Torch-free."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from modelpress.data import columns
from modelpress.data.hashing import digest
from modelpress.data.reading import Rows
from modelpress.data.splits import SHARES, assign, carve
from modelpress.data.text import READING, TextDataset
from modelpress.errors import ModelPressError

if TYPE_CHECKING:
    import datasets
    import pandas as pd

VALIDATION_NAMES = ("validation", "valid", "val", "dev")
log = logging.getLogger(__name__)

UNLABELLED = -1  # how the hub marks the hidden labels of a test split


class HubDataset(TextDataset):
    """Any dataset with a text column and a label column.

    Args:
        path: hub id (``owner/name``), a folder written by ``save_to_disk``, a folder of data files, or the name of a
            file builder (csv, json, parquet) together with ``data_files``.
        config: configuration of the dataset, such as ``sst2`` of ``nyu-mll/glue``.
        revision: branch, tag or commit on the hub.
        data_files: file, list of files, or split name -> files.
        text, text_pair, label: column names; ``text_pair=None``: single texts.
        train_split, validation_split, test_split, calibration_split: the dataset's own names. ``None``: the usual
            name if the dataset has it; otherwise validation and calibration are 5 % of train each (never of test),
            and of a dataset that is all one train split, 10 % are the test.
        split_seed: decides who goes where when splits are drawn.
        labels: class names in order; ``None``: those of the dataset's features, else all that occur, sorted.
        options: see :class:`TextDataset`.
    """

    reads_with: ClassVar[tuple[str, ...]] = (*READING, "modelpress.data.hub", "modelpress.data.columns")

    def __init__(
        self,
        path: str,
        *,
        name: str = "hf",
        config: str | None = None,
        revision: str | None = None,
        data_files: str | Sequence[str] | Mapping[str, Any] | None = None,
        text: str = "text",
        text_pair: str | None = None,
        label: str = "label",
        train_split: str | None = None,
        validation_split: str | None = None,
        test_split: str | None = None,
        calibration_split: str | None = None,
        split_seed: int = 0,
        labels: Sequence[object] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(name, **options)
        self.path, self.config, self.revision, self.data_files = path, config, revision, data_files
        self.text, self.text_pair, self.label = text, text_pair, label
        self.splits = {"train": train_split, "calibration": calibration_split}
        self.splits |= {"validation": validation_split, "test": test_split}
        self.split_seed = split_seed
        self._labels = self._given_labels = columns.explicit_labels(labels)
        self._splitting: dict[str, str] = {}

    @property
    def labels(self) -> list[str]:
        """As given, else from the dataset (which loads it)."""
        if self._labels is None:
            self.table()
        assert self._labels is not None
        return self._labels

    def _content(self) -> list[object]:
        # a hash of the rows, not of "id + revision": offline, `datasets` serves whatever revision it has
        table = self.table()
        values = [table[column].tolist() for column in ("text", "text_pair", "label", "split")]
        return [digest(*values), self.labels]

    def _origin(self) -> dict[str, Any]:
        source = " ".join(filter(None, [self.path, self.config, self.revision]))
        return {"source": source, "licence": "see the dataset's card", "splitting": self._splitting}

    def _read(self) -> pd.DataFrame:
        import pandas as pd

        from modelpress.data.hub_source import load

        found = load(self.path, config=self.config, revision=self.revision, data_files=self.data_files)
        chosen = choose_splits(self.path, list(found), self.splits)
        parts = {ours: self._rows(found[theirs], theirs) for ours, theirs in chosen.items()}
        self._set_labels(parts, found[chosen["train"]])
        frames = [self._frame(ours, rows, chosen[ours]) for ours, rows in parts.items()]
        frame = pd.concat(frames, ignore_index=True)
        frame["split"] = self._drawn(frame)
        self._splitting = {s: chosen.get(s, f"drawn from train, seed {self.split_seed}") for s in ("train", *SHARES)}
        return frame

    def _rows(self, split: datasets.Dataset, name: str) -> Rows:
        rows = Rows({c: [] for c in split.column_names}, list(range(1, len(split) + 1)), "row")
        wanted = {"text": self.text, "text_pair": self.text_pair, "label": self.label}
        columns.require(self._where(name), rows, wanted)
        rows.columns = {column: list(split[column]) for column in wanted.values() if column is not None}
        feature = split.features[self.label]
        if hasattr(feature, "names"):
            rows.columns[self.label] = [_class_of(feature.names, value) for value in rows.columns[self.label]]
        return self._usable(rows, name)

    def _usable(self, rows: Rows, split: str) -> Rows:
        """Without the rows that lack a text or a label: a user cannot mend a dataset of the hub."""
        if all(label is None for label in rows.columns[self.label]):
            raise ModelPressError(
                f"{self._where(split)} is unlabelled, as hidden test splits are; choose another one, e.g. "
                "dataset.test_split=validation"
            )
        full = [
            row for row, values in enumerate(zip(*rows.columns.values(), strict=True)) if not any(map(_blank, values))
        ]
        if len(full) == len(rows.places):
            return rows
        log.warning(
            "%s: %d rows lack a text or a label and are left out", self._where(split), len(rows.places) - len(full)
        )
        kept = {name: [values[row] for row in full] for name, values in rows.columns.items()}
        return Rows(kept, [rows.places[row] for row in full], rows.unit)

    def _set_labels(self, parts: Mapping[str, Rows], train: datasets.Dataset) -> None:
        feature = train.features[self.label]
        if self._given_labels is None:
            names = [n for s, rows in parts.items() for n in columns.class_names(self._where(s), rows, self.label)]
            ordered = columns.class_order(self._where("train"), self.label, names)
            self._labels = list(feature.names) if hasattr(feature, "names") else ordered

    def _frame(self, ours: str, rows: Rows, theirs: str) -> pd.DataFrame:
        import pandas as pd

        where = self._where(theirs)
        text = columns.texts(where, rows, self.text)
        pair = columns.texts(where, rows, self.text_pair) if self.text_pair else [None] * len(text)
        names = columns.class_names(where, rows, self.label)
        label = columns.class_indices(where, rows, self.label, names, self.labels)
        frame = {"text": text, "text_pair": pd.Series(pair, dtype=object), "label": pd.Series(label, dtype="int64")}
        return pd.DataFrame(frame | {"split": [ours] * len(text)})

    def _drawn(self, frame: pd.DataFrame) -> Any:
        label, given = frame["label"].to_numpy(), frame["split"].to_numpy(dtype="<U11")
        if "test" not in given:
            given = assign(label, SHARES, self.split_seed)
        return carve(label, given, self.split_seed)

    def _where(self, split: str) -> Path:
        return Path(f"{Path(self.path).name}[{split}]")


def _class_of(names: list[str], value: int | None) -> str | None:
    return None if value is None or value == UNLABELLED else names[value]


def _blank(value: object) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def choose_splits(path: str, there: list[str], asked: Mapping[str, str | None]) -> dict[str, str]:
    """Our split name -> the dataset's. Splits left out are drawn from train.

    >>> choose_splits("x", ["train", "dev"], {"train": None, "validation": None, "test": "dev", "calibration": None})
    {'train': 'train', 'test': 'dev'}
    """
    taken = {name for name in asked.values() if name is not None}
    chosen = {ours: theirs for ours, theirs in asked.items() if theirs is not None}
    usual = {"train": ("train",), "validation": VALIDATION_NAMES, "test": ("test",), "calibration": ("calibration",)}
    for ours, names in usual.items():
        free = [name for name in names if name in there and name not in taken]
        if ours not in chosen and free:
            chosen[ours] = free[0]
    missing = [name for name in chosen.values() if name not in there]
    if missing or "train" not in chosen:
        lacking = missing[0] if missing else "train"
        raise ModelPressError(
            f"{path} has no split {lacking!r}; splits there: {', '.join(there)}; choose with dataset.train_split, "
            "dataset.validation_split, dataset.test_split"
        )
    twice = sorted({name for name in chosen.values() if list(chosen.values()).count(name) > 1})
    if twice:
        raise ModelPressError(f"{path}: split {twice[0]!r} is asked for twice; every split may serve one purpose only")
    return {ours: chosen[ours] for ours in usual if ours in chosen}
