"""What every text-classification dataset shares: its table, its fingerprints and its data module. Torch-free.

``import pandas`` costs half a second, so it happens inside functions: a plan that only needs the fingerprint of the
default dataset does not pay for it.
"""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from modelpress.data.base import SPLITS, Dataset
from modelpress.data.hashing import digest, source_sha256
from modelpress.errors import ModelPressError

if TYPE_CHECKING:
    import pandas as pd

    from modelpress.data.module import TextData

READING = ("modelpress.data.text", "modelpress.data.checks", "modelpress.data.splits")
FEEDING = ("modelpress.data.tokenizer", "modelpress.data.tokens", "modelpress.data.batching", "modelpress.data.loader")


class TextDataset(Dataset):
    """Texts (or pairs of texts) with one label each, in four splits.

    Args:
        name: short name for folders and reports.
        max_length: tokens kept of each item, special tokens included.
        batch_size: items per training batch and process.
        eval_batch_size: items per batch where nothing is trained.
        num_workers: loader processes; 0 is fastest here, since batches are cut from a table of tokens.
        pad_to_multiple: batches are padded to a multiple of this many tokens, which suits matrix kernels.
        limit: at most this many items per split, for quick tries; ``None``: all.
    """

    task: ClassVar[str] = "text-classification"
    metric: ClassVar[str] = "accuracy"
    reads_with: ClassVar[tuple[str, ...]] = READING  # modules whose source decides what the table holds

    def __init__(
        self,
        name: str,
        *,
        max_length: int = 128,
        batch_size: int = 32,
        eval_batch_size: int = 64,
        num_workers: int = 0,
        pad_to_multiple: int = 8,
        limit: int | None = None,
    ) -> None:
        self.name = name
        self.max_length = at_least("max_length", max_length, 4)
        self.batch_size = at_least("batch_size", batch_size, 1)
        self.eval_batch_size = at_least("eval_batch_size", eval_batch_size, 1)
        self.num_workers = at_least("num_workers", num_workers, 0)
        self.pad_to_multiple = at_least("pad_to_multiple", pad_to_multiple, 1)
        self.limit = None if limit is None else at_least("limit", limit, 2)
        self._table: pd.DataFrame | None = None

    @abstractmethod
    def _read(self) -> pd.DataFrame:
        """All rows: columns text (str), text_pair (str, or ``None`` in every row), label (int), split."""

    @abstractmethod
    def _content(self) -> list[object]:
        """JSON-encodable values that decide what :meth:`_read` returns: hashes of files, options."""

    @abstractmethod
    def _origin(self) -> dict[str, Any]:
        """``source`` and ``licence`` for the report, and what is unusual about the splits."""

    def table(self) -> pd.DataFrame:
        """Columns text, text_pair (``None``: there are no pairs), label (int), split; read and checked once."""
        if self._table is None:
            from modelpress.data.checks import check_table, thin_table

            frame = self._read()
            if self.limit is not None:
                frame = thin_table(frame, self.limit)
            check_table(frame, self.labels, self.name, lenient=self.limit is not None)
            self._table = frame.reset_index(drop=True)
        return self._table

    def split(self, name: str) -> pd.DataFrame:
        """The rows of one split, numbered from 0: the numbers that batches carry as ``index``."""
        table = self.table()
        return table[table["split"] == name].reset_index(drop=True)

    def label_counts(self, split: str) -> dict[str, int]:
        """Rows of each class in one split."""
        rows = self.split(split)["label"]
        return {label: int((rows == i).sum()) for i, label in enumerate(self.labels)}

    def content(self) -> str:
        """sha256 over what the table holds; the key of the token cache (with tokenizer and ``max_length``)."""
        return digest(type(self).__qualname__, *self._content(), self.limit, source_sha256(*self.reads_with))

    def fingerprint(self) -> str:
        """sha256 over content, code and every option that can change a trained weight (batch size, padding)."""
        options = [self.max_length, self.batch_size, self.pad_to_multiple]
        return digest(self.content(), options, source_sha256(*FEEDING))

    def describe(self) -> dict[str, Any]:
        """For the report: name, fingerprint, labels, size and label counts of each split, source and licence."""
        counts = {split: self.label_counts(split) for split in SPLITS}
        sizes = {split: sum(by_label.values()) for split, by_label in counts.items()}
        facts = {"name": self.name, "fingerprint": self.fingerprint(), "task": self.task, "metric": self.metric}
        return facts | {"labels": self.labels, "splits": sizes, "label_counts": counts} | self._origin()

    def samples(self, limit: int) -> list[Any]:
        """See :meth:`Dataset.samples`: texts, or pairs of them."""
        test = self.split("test").head(limit)
        columns = zip(test["text"], test["text_pair"], test["text_pair"].isna(), strict=True)
        return [text if single else (text, pair) for text, pair, single in columns]

    @property
    def positions(self) -> int:
        """See :attr:`Dataset.positions`."""
        return min(32, self.max_length)

    def datamodule(self, preprocessor: Path, *, seed: int, cache: Path, teacher: Path | None = None) -> TextData:
        """The Lightning data module; ``seed`` orders the training batches and nothing else. A ``teacher`` of texts has
        the same vocabulary (modelpress.check_objects).
        """
        from modelpress.data.module import TextData

        return TextData(self, Path(preprocessor), seed=seed, cache=Path(cache))

    def tokens_per_item(self, preprocessor: Path, cache: Path) -> float | None:
        """Mean tokens of a training item, torch-free; ``None`` until these texts have been tokenized once."""
        from modelpress.data.tokenizer import TextTokenizer
        from modelpress.data.tokens import TokenCache

        return TokenCache(self, TextTokenizer(Path(preprocessor)), Path(cache)).tokens_per_item("train")


def at_least(option: str, given: object, low: int) -> int:
    """A whole number not below ``low``; otherwise a :class:`ModelPressError` that names ``dataset.<option>``."""
    if isinstance(given, bool) or not isinstance(given, int) or given < low:
        raise ModelPressError(f"dataset.{option} is {given!r}; allowed: a whole number, {low} or more")
    return given
