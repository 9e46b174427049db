"""The numbers of an encoder, read from a Hugging Face config without importing torch or transformers.

Seven model types share one layout (embeddings, post-LayerNorm layers, a classification head), so their parameters can
be counted by hand and their layers exchanged. Other types load and train, but are not counted here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from modelpress.errors import ModelPressError
from modelpress.objectives.layer_map import uniform

# Hugging Face's own defaults, for config.json files that leave them out.
_BERT = {
    "vocab_size": 30522,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
}
_ROBERTA = {**_BERT, "vocab_size": 50265}
_DISTILBERT = {"num_hidden_layers": 6, "type_vocab_size": 0}
_ELECTRA = {"hidden_size": 256, "num_attention_heads": 4, "intermediate_size": 1024, "embedding_size": 128}
DEFAULTS: dict[str, dict[str, int]] = {
    "bert": _BERT,
    "roberta": _ROBERTA,
    "xlm-roberta": {**_ROBERTA, "vocab_size": 30522},
    "camembert": {**_ROBERTA, "vocab_size": 30522},
    "distilbert": {**_BERT, **_DISTILBERT},
    "electra": {**_BERT, **_ELECTRA},
}
# DistilBERT spells four numbers differently.
SPELLING: dict[str, dict[str, str]] = {
    "distilbert": {
        "hidden_size": "dim",
        "num_hidden_layers": "n_layers",
        "num_attention_heads": "n_heads",
        "intermediate_size": "hidden_dim",
    }
}
OFFSET_POSITIONS = ("roberta", "xlm-roberta", "camembert")  # positions start at pad_token_id + 1


@dataclass(frozen=True)
class Architecture:
    """Numbers of an encoder under one spelling. ``None``: not known yet, to be taken from the teacher."""

    model_type: str
    vocab_size: int | None
    hidden_size: int | None
    num_hidden_layers: int | None
    num_attention_heads: int | None
    intermediate_size: int | None
    max_position_embeddings: int | None
    type_vocab_size: int | None
    embedding_size: int | None = None  # electra: width of the embedding tables, projected to hidden_size

    @property
    def positions(self) -> int | None:
        """Longest sequence; RoBERTa's table has two rows that no token uses."""
        rows = self.max_position_embeddings
        return rows - 2 if rows is not None and self.model_type in OFFSET_POSITIONS else rows

    def parameters(self, labels: int = 2) -> int | None:
        """Scalars in the encoder with its classification head (pooler or dense layer included)."""
        numbers = [getattr(self, field.name) for field in fields(self) if field.name not in _OPTIONAL]
        if None in numbers:
            return None
        vocab, h, layers, _, f, positions, types = numbers
        e = self.embedding_size or h
        embeddings = (vocab + positions + types + 2) * e + (e * h + h if e != h else 0)
        layer = 4 * (h * h + h) + 2 * h * f + f + h + 4 * h
        return int(embeddings + layers * layer + h * h + h + h * labels + labels)


_OPTIONAL = ("model_type", "embedding_size")
NUMBERS = tuple(field.name for field in fields(Architecture) if field.name != "model_type")


def read(config: Mapping[str, Any]) -> Architecture | None:
    """Numbers of a config, its absent keys filled with Hugging Face's defaults; ``None`` for an unknown model type.

    A key given as null stays unknown: a student takes it from its teacher.
    """
    model_type = str(config.get("model_type"))
    defaults = DEFAULTS.get(model_type)
    if defaults is None:
        return None
    spelling = SPELLING.get(model_type, {})
    values: dict[str, int | None] = {}
    for name in NUMBERS:
        key = spelling.get(name, name)
        values[name] = config[key] if key in config else config.get(name, defaults.get(name))
    return Architecture(model_type, **values)


def write(architecture: Architecture) -> dict[str, Any]:
    """The numbers as config keys of their model type."""
    spelling = SPELLING.get(architecture.model_type, {})
    skip = {"type_vocab_size"} if architecture.model_type == "distilbert" else set()
    if architecture.embedding_size is None:
        skip.add("embedding_size")
    return {spelling.get(name, name): getattr(architecture, name) for name in NUMBERS if name not in skip}


def inherit(student: Architecture, teacher: Architecture) -> Architecture:
    """Fill what the student's yaml leaves null from its teacher: the same numbers, but half the layers."""
    taken: dict[str, Any] = {}
    for name in NUMBERS:
        if getattr(student, name) is None and name != "embedding_size":
            taken[name] = getattr(teacher, name)
    if "num_hidden_layers" in taken and teacher.num_hidden_layers is not None:
        taken["num_hidden_layers"] = max(1, teacher.num_hidden_layers // 2)
    if "max_position_embeddings" in taken and teacher.positions is not None:
        taken["max_position_embeddings"] = teacher.positions + (2 if student.model_type in OFFSET_POSITIONS else 0)
    if "type_vocab_size" in taken:
        taken["type_vocab_size"] = (teacher.type_vocab_size or 2) if student.model_type != "distilbert" else 0
    return replace(student, **taken)


def layer_map(choice: str | Sequence[int], student_layers: int, teacher_layers: int) -> list[int]:
    """Teacher layer for each student layer, both counted from 0.

    ``uniform`` is the map that distillation uses too, so that a layer starts as what it will learn from.

    >>> layer_map("uniform", 4, 6), layer_map("uniform", 4, 12)
    ([0, 2, 3, 5], [2, 5, 8, 11])
    """
    if isinstance(choice, str):
        if choice != "uniform":
            raise ModelPressError(
                f"layer_map is {choice!r}; allowed: 'uniform' or a list of teacher layers, as [0, 2, 4]."
            )
        chosen = [layer - 1 for layer in uniform(student_layers, teacher_layers)]
    else:
        chosen = list(choice)
    if len(chosen) != student_layers or any(not 0 <= i < teacher_layers for i in chosen):
        raise ModelPressError(
            f"layer_map {chosen} does not fit: it needs {student_layers} entries (one per student layer), "
            f"each from 0 to {teacher_layers - 1} (the teacher has {teacher_layers} layers)."
        )
    return chosen
