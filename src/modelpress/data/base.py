"""The Dataset contract: a description readable without torch, and the Lightning data module it makes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from lightning import LightningDataModule

SPLITS = ("train", "calibration", "validation", "test")
NUMBERS = ("labels", "index", "item")  # of a batch's items; the rest of a batch are inputs
TEACHER = "teacher/"  # how a batch names the inputs of a teacher that wants them otherwise than its student


class Dataset(ABC):
    """What a dataset yaml describes. Importing and fingerprinting never imports torch."""

    name: str
    task: ClassVar[str]
    metric: ClassVar[str]  # higher is better, in [0, 1]

    @property
    @abstractmethod
    def labels(self) -> list[str]:
        """Class names in the order of their indices."""

    @abstractmethod
    def fingerprint(self) -> str:
        """sha256 over content, options and the code that reads and splits it. Computed before torch is imported."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """For the report: name, fingerprint, labels, size of each split, source and licence."""

    @property
    def positions(self) -> int:
        """About how many tokens or patches of an item a network sees: for estimates of time only."""
        return 50

    @abstractmethod
    def samples(self, limit: int) -> list[Any]:
        """The first test items as a user would hand them to ``predict.py``: texts, pairs of texts, images."""

    @abstractmethod
    def datamodule(
        self, preprocessor: Path, *, seed: int, cache: Path, teacher: Path | None = None
    ) -> LightningDataModule:
        """The data module for a network with this ``preprocessor`` (tokenizer, image size …), cached under ``cache``.

        ``teacher``: the preprocessor of the network that it learns from. Where that one wants other inputs, training
        batches carry them too, as ``teacher/<name>``, made from the same augmented view.
        """
