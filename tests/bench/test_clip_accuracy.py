"""Intervals of the bench of CLIP's accuracy against arithmetic, and its probe on features whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bench import clip_probe
from bench.clip_accuracy import by_concept, gain, spread
from bench.clip_probe import Features, Standard, trained


def test_images_of_one_concept_count_as_one() -> None:
    """Ten copies of each image carry no more information, so the interval is that of the concepts alone."""
    random = np.random.default_rng(1)
    values = random.normal(size=200)
    alone = by_concept(values, np.arange(200))
    copied = by_concept(np.repeat(values, 10), np.repeat(np.arange(200), 10))
    assert copied == pytest.approx(alone)
    half = (alone[1] - alone[0]) / 2
    assert half == pytest.approx(1.96 * values.std() / 200**0.5, rel=0.05)


def test_the_gain_of_three_seeds() -> None:
    """t(0.975, 2) = 4.303, gains of 1, 2 and 3 points: 2 ± 4.303 / sqrt(3)."""
    ours, theirs = ([{"r": value} for value in values] for values in ((0.11, 0.22, 0.33), (0.10, 0.20, 0.30)))
    assert gain(ours, theirs, "r") == "2.00 [-0.48, 4.48]"
    assert spread([0.1, 0.2, 0.3]) == "20.0 ± 10.0"


def test_a_probe_finds_what_is_linear(monkeypatch: pytest.MonkeyPatch) -> None:
    """Images and texts that are two random linear views of one hidden vector are matched, also unseen ones."""
    monkeypatch.setattr(clip_probe, "EPOCHS", 30)
    torch.manual_seed(0)
    views = torch.randn(8, 24), torch.randn(8, 12)

    def features(count: int) -> Features:
        hidden, labels = torch.randn(count, 8), torch.arange(count)
        return Features(hidden @ views[0], labels, hidden @ views[1], labels)

    train, test = features(1024), features(50)
    probe = trained(train, 0.01)
    assert float(probe.hits(test).float().mean()) > 0.9
    mixed = Features(test.images.flip(0), test.labels, test.texts, test.owners)
    assert float(probe.hits(mixed).float().mean()) < 0.1


def test_standardised_features() -> None:
    values = torch.randn(500, 3) * 5 + 2
    found = Standard(values)(values)
    assert torch.allclose(found.mean(0), torch.zeros(3), atol=1e-4)
    assert torch.allclose(found.std(0), torch.ones(3), atol=1e-4)
