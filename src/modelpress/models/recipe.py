"""The Recipe contract: what a model yaml describes, readable without torch so that plans and cache keys stay fast."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from modelpress.models.base import Model

Trained = Literal["auto"] | bool


class Recipe(ABC):
    """Describes a network; :meth:`build` makes it. Importing and fingerprinting a recipe never imports torch."""

    name: str
    init: str  # teacher | random | checkpoint
    trained: Trained = "auto"

    def resolve(self, teacher: Recipe | None) -> Recipe:
        """This recipe once it is known who teaches: numbers taken from the teacher filled in. Call before all else."""
        return self

    @abstractmethod
    def fingerprint(self) -> str:
        """sha256 over the options and the bytes of every local file used (or hub id and revision)."""

    @abstractmethod
    def preprocessor(self) -> Path | None:
        """Folder with the tokenizer this model brings; ``None``: it takes its teacher's."""

    @abstractmethod
    def parameters(self) -> int | None:
        """Parameter count derived from the numbers of the architecture; ``None`` where it cannot be known offline."""

    @abstractmethod
    def is_trained(self, labels: list[str]) -> bool:
        """Whether its weights already answer this task. Raises if the checkpoint's labels and ``labels`` conflict."""

    @abstractmethod
    def build(self, *, labels: list[str], preprocessor: Path, teacher: Model | None, seed: int) -> Model:
        """Make the network, initialised as the yaml says (from ``teacher``, at random, from a checkpoint)."""
