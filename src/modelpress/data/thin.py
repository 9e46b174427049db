"""Captions without some of their words: augmentation of texts, a function of the augmentation seed and the view."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def thinned(texts: Sequence[str], share: float, *, seed: int, view: int) -> list[str]:
    """Each word is left out with probability ``share``; a text keeps at least one, and their order.

    Random deletion of "EDA: Easy Data Augmentation Techniques for Boosting Performance on Text Classification
    Tasks", arXiv:1901.11196. One caption per concept is soon known by heart; other words in every view are not.
    """
    random = np.random.default_rng([seed, view, 1])  # images draw from [seed, view]
    return [_kept(text.split(), share, random) for text in texts]


def _kept(words: Sequence[str], share: float, random: np.random.Generator) -> str:
    draws = random.random(len(words))
    kept = [word for word, draw in zip(words, draws, strict=True) if draw >= share]
    return " ".join(kept or [words[int(draws.argmax())]] if words else [])
