"""Labels of a checkpoint and of a dataset, matched by name: a swapped order would invert accuracy silently."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from modelpress.errors import ModelPressError


def checkpoint_labels(config: Mapping[str, Any]) -> list[str] | None:
    """Label names of a classifier's ``config.json`` in the order of its logits; ``None`` without such a head."""
    architectures = config.get("architectures") or []
    if not any(str(name).endswith("ForSequenceClassification") for name in architectures):
        return None
    names = config.get("id2label") or {str(i): f"LABEL_{i}" for i in range(int(config.get("num_labels", 2)))}
    return [str(names[key]) for key in sorted(names, key=int)]


def match(
    theirs: Sequence[str], ours: Sequence[str], label_map: Mapping[str, str] | None, checkpoint: str
) -> list[int]:
    """Row of the checkpoint's head for each of the dataset's labels, so that ``head[match]`` speaks our order.

    Names are compared without case. Raises :class:`ModelPressError` unless they pair up one to one.
    """
    if label_map:
        _check_map(theirs, ours, label_map, checkpoint)
    renamed = {_fold(key): _fold(value) for key, value in (label_map or {}).items()}
    named = [renamed.get(_fold(label), _fold(label)) for label in theirs]
    if len(set(named)) == len(named) and sorted(named) == sorted(map(_fold, ours)):
        return [named.index(_fold(label)) for label in ours]
    raise ModelPressError(_conflict(theirs, ours, checkpoint))


def _fold(label: str) -> str:
    return str(label).strip().casefold()


def _check_map(theirs: Sequence[str], ours: Sequence[str], label_map: Mapping[str, str], checkpoint: str) -> None:
    unknown = [repr(key) for key in label_map if _fold(key) not in map(_fold, theirs)]
    unknown += [repr(value) for value in label_map.values() if _fold(value) not in map(_fold, ours)]
    if unknown:
        raise ModelPressError(
            f"label_map names {', '.join(unknown)}, which neither side has. Write checkpoint label: dataset label. "
            f"{checkpoint} has {', '.join(map(repr, theirs))}; the dataset has {', '.join(map(repr, ours))}."
        )


def _conflict(theirs: Sequence[str], ours: Sequence[str], checkpoint: str) -> str:
    message = (
        f"The labels of {checkpoint} ({', '.join(map(repr, theirs))}) and of the dataset "
        f"({', '.join(map(repr, ours))}) do not match by name. "
    )
    if len(theirs) == len(ours):
        pairs = ", ".join(f"{a}: {b}" for a, b in zip(theirs, ours, strict=True))
        message += (
            f"Say which is which, as model.label_map='{{{pairs}}}' (check the order: this is only an example), or "
        )
    return message + "set model.trained=false to fine-tune it with a new head."
