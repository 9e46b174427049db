"""The recipe of a text classifier. Torch-free: only :meth:`TextModel.build` imports torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelpress.errors import ModelPressError, one_of
from modelpress.models import architecture as arch
from modelpress.models import source
from modelpress.models.labels import checkpoint_labels, match
from modelpress.models.recipe import Recipe, Trained

if TYPE_CHECKING:
    from modelpress.models.base import Model

INITS = ("teacher", "random", "checkpoint")


@dataclass
class TextModel(Recipe):
    """A sequence classifier of any Hugging Face encoder.

    ``init=checkpoint`` loads ``path`` (see :mod:`modelpress.models.source`). ``init=teacher`` cuts ``architecture`` out
    of the teacher's trained weights (see :mod:`modelpress.models.init`); with a ``path`` beside it, that checkpoint
    serves when there is no teacher. ``init=random`` starts from noise.

    Args:
        architecture: Hugging Face config fields with ``model_type``; a number left null is the teacher's
            (for the number of layers: half of it).
        layer_map: ``uniform``, or the teacher layer of each student layer.
        trained: whether the weights already answer the dataset's question; ``auto`` compares label names.
        label_map: checkpoint label -> dataset label, where names differ.
        tokenizer: source of the tokenizer; by default that of ``path``, or the teacher's.
        weights_sha256, weights_bytes: refuse a ``model.safetensors`` that differs.
    """

    name: str
    init: str
    path: str | None = None
    architecture: Mapping[str, Any] | None = None
    layer_map: str | Sequence[int] = "uniform"
    trained: Trained = "auto"
    label_map: Mapping[str, str] | None = None
    tokenizer: str | None = None
    trust_remote_code: bool = False
    revision: str = "main"
    weights_sha256: str | None = None
    weights_bytes: int | None = None

    def __post_init__(self) -> None:
        one_of("model.init", self.init, INITS)
        if self.trained not in ("auto", True, False):
            raise ModelPressError(f"model.trained is {self.trained!r}; allowed: auto, true, false.")
        if self.init == "checkpoint" and not self.path:
            raise ModelPressError(f"model {self.name!r} loads a checkpoint: set path=<folder, hub id or package:…>.")
        if self.init != "checkpoint" and "model_type" not in (self.architecture or {}):
            raise ModelPressError(f"model {self.name!r} has init={self.init}: its architecture must name a model_type.")
        if self.init != "checkpoint" and self.trained is True:
            raise ModelPressError(f"model.trained=true needs init=checkpoint; {self.name!r} has init={self.init}.")

    def resolve(self, teacher: Recipe | None) -> TextModel:
        """This recipe once it is known who teaches: inherited numbers filled in, or the fallback checkpoint chosen."""
        if self.init != "teacher":
            return self
        if teacher is None:
            if self.path is None:
                raise ModelPressError(
                    f"model {self.name!r} is cut out of a teacher (init=teacher) and there is none: choose one with "
                    "model@teacher=minilm, or set model.init=random."
                )
            return replace(self, init="checkpoint", architecture=None)
        own, theirs = arch.read(self.architecture or {}), teacher.numbers() if isinstance(teacher, TextModel) else None
        if own is None or theirs is None:
            return self
        return replace(self, architecture={**(self.architecture or {}), **arch.write(arch.inherit(own, theirs))})

    def numbers(self) -> arch.Architecture | None:
        """Numbers of the architecture; ``None`` for unknown model types and checkpoints not on this machine."""
        if self.init != "checkpoint":
            return arch.read(self.architecture or {})
        config = source.cached_config(self.path or "", self.revision)
        return arch.read(config) if config is not None else None

    def parameters(self, labels: int = 2) -> int | None:
        """See :meth:`Recipe.parameters`. Vocabulary and positions left null count with the type's defaults."""
        numbers = self.numbers()
        if numbers is None:
            return None
        defaults = arch.DEFAULTS[numbers.model_type]
        assumed = ("vocab_size", "max_position_embeddings", "type_vocab_size")
        filled: dict[str, Any] = {key: defaults[key] for key in assumed if getattr(numbers, key) is None}
        return replace(numbers, **filled).parameters(labels)

    def fingerprint(self) -> str:
        """See :meth:`Recipe.fingerprint`. ``name`` and ``trained`` decide no weight and are left out."""
        options = {key: value for key, value in asdict(self).items() if key not in ("name", "trained")}
        options["path"] = source.fingerprint(self.path, self.revision) if self.path and self._loads() else None
        options["tokenizer"] = source.fingerprint(self.tokenizer, self.revision) if self.tokenizer else None
        return hashlib.sha256(json.dumps(options, sort_keys=True, default=list).encode()).hexdigest()

    def preprocessor(self) -> Path | None:
        """See :meth:`Recipe.preprocessor`. Raises if the folder has no tokenizer."""
        chosen = self.tokenizer or (self.path if self._loads() else None)
        if chosen is None:
            return None
        folder = source.locate(chosen, self.revision)
        if not any((folder / name).is_file() for name in source.TOKENIZER_FILES):
            raise ModelPressError(
                f"{chosen} has no tokenizer ({source.TOKENIZER_FILES[0]}, …): set model.tokenizer=<source>."
            )
        return folder

    def is_trained(self, labels: list[str]) -> bool:
        """See :meth:`Recipe.is_trained`. ``auto``: a classification head whose labels match ``labels`` by name."""
        if not self._loads() or self.trained is False:
            return False
        theirs = self._checkpoint_labels()
        if theirs is None:
            if self.trained is True:
                raise ModelPressError(
                    f"model.trained=true, but {self.path} has no classification head. Set it to auto."
                )
            return False
        match(theirs, labels, self.label_map, str(self.path))
        return True

    def head_order(self, labels: list[str]) -> list[int] | None:
        """Rows of the checkpoint's head in the dataset's order; ``None``: a new head is made."""
        theirs = self._checkpoint_labels() if self._loads() else None
        if theirs is None:
            return None
        try:
            return match(theirs, labels, self.label_map, str(self.path))
        except ModelPressError:
            if self.trained is False:
                return None
            raise

    def build(self, *, labels: list[str], preprocessor: Path, teacher: Model | None, seed: int) -> Model:
        """See :meth:`Recipe.build`. Deterministic in ``seed``; PyTorch's global random state is left as it was.

        Raises:
            ModelPressError: the student is wider, deeper or not smaller than its teacher, or weights are missing.
        """
        from modelpress.models.building import build

        recipe = self.resolve(None) if teacher is None else self
        return build(recipe, labels=labels, preprocessor=preprocessor, teacher=teacher, seed=seed)

    def folder(self) -> Path:
        """The checkpoint's folder, verified against the digests of the yaml."""
        folder = source.locate(str(self.path), self.revision)
        source.verify(folder, weights_sha256=self.weights_sha256, weights_bytes=self.weights_bytes)
        return folder

    def _loads(self) -> bool:
        return self.init == "checkpoint"

    def _checkpoint_labels(self) -> list[str] | None:
        return checkpoint_labels(source.config(str(self.path), self.revision))


OPTIONS = tuple(field.name for field in fields(TextModel))
