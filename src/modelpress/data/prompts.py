"""Prompt templates: sentences with ``{}`` for the name of a class. Torch-free."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from modelpress.errors import ModelPressError

SLOT = "{}"


def read_templates(given: object) -> list[str]:
    """The templates, each with exactly one ``{}``."""
    templates = [given] if isinstance(given, str) else list(given) if isinstance(given, Sequence) else []
    wrong = [t for t in templates if not isinstance(t, str) or t.count(SLOT) != 1]
    if wrong or not templates:
        raise ModelPressError(
            f"dataset.templates is {given!r}; allowed: one or more texts, each with one {{}} for the name of the "
            "class, such as ['a photo of a {}']"
        )
    return templates


def filled(templates: Sequence[str], names: Sequence[str]) -> tuple[list[str], NDArray[np.int64]]:
    """Every template for every name, class after class, and the class of each.

    >>> filled(["a {}", "the {}"], ["dog"])[0]
    ['a dog', 'the dog']
    """
    texts = [template.replace(SLOT, name) for name in names for template in templates]
    return texts, np.repeat(np.arange(len(names)), len(templates))
