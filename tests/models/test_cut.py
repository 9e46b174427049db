from __future__ import annotations

import numpy as np
import torch

from modelpress.models.cut import Moments, channel_importance, cut_heads, cut_neurons, fold, top


def sample(tokens: int, width: int, rank: int) -> torch.Tensor:
    """Correlated inputs: ``rank`` sources seen through ``width`` units, with an offset."""
    return torch.randn(tokens, rank) @ torch.randn(rank, width) + torch.randn(width)


def moments(x: torch.Tensor) -> Moments:
    return Moments(x.mean(0), torch.cov(x.T, correction=0))


def test_fold_is_the_least_squares_solution() -> None:
    x = torch.cat([torch.randn(4000, 6), torch.randn(4000, 4)], 1) + 2
    x[:, 6:] += x[:, :4] * 0.7
    weights = {"f.weight": torch.randn(5, 10), "f.bias": torch.randn(5)}
    kept = torch.tensor([0, 1, 2, 3, 4, 5])
    cut = fold(weights, "f", moments(x), kept)
    target = (x @ weights["f.weight"].T + weights["f.bias"]).numpy()
    design = np.concatenate([x[:, kept].numpy(), np.ones((4000, 1))], 1)
    best = np.linalg.lstsq(design, target, rcond=None)[0]
    np.testing.assert_allclose(cut["f.weight"].numpy(), best[:-1].T, atol=0.05)
    np.testing.assert_allclose(cut["f.bias"].numpy(), best[-1], atol=0.1)
    plain = (x[:, kept] @ weights["f.weight"][:, kept].T + weights["f.bias"]).numpy()
    folded = (x[:, kept] @ cut["f.weight"].T + cut["f.bias"]).numpy()
    assert ((folded - target) ** 2).mean() < 0.5 * ((plain - target) ** 2).mean()


def test_fold_restores_what_depends_on_the_kept_units() -> None:
    x = sample(500, 12, 4)
    weights = {"f.weight": torch.randn(3, 12), "f.bias": torch.randn(3)}
    kept = torch.arange(10)
    cut = fold(weights, "f", moments(x), kept)
    target = x @ weights["f.weight"].T + weights["f.bias"]
    error = (x[:, kept] @ cut["f.weight"].T + cut["f.bias"] - target).square().mean()
    assert error < 1e-3 * target.var()


def test_constant_units_cost_nothing() -> None:
    """Means go into the bias exactly."""
    x = torch.randn(300, 6)
    x[:, 4:] = torch.tensor([3.0, -2.0])
    weights = {"f.weight": torch.randn(2, 6), "f.bias": torch.zeros(2)}
    cut = fold(weights, "f", moments(x), torch.arange(4))
    torch.testing.assert_close(
        x[:, :4] @ cut["f.weight"].T + cut["f.bias"], x @ weights["f.weight"].T, atol=1e-4, rtol=0
    )


def test_neurons_that_nobody_reads_go_first() -> None:
    weights = {
        "up.weight": torch.randn(8, 4),
        "up.bias": torch.randn(8),
        "down.weight": torch.randn(4, 8),
        "down.bias": torch.zeros(4),
    }
    weights["down.weight"][:, [1, 6]] = 0
    x = torch.randn(100, 8)
    cut = cut_neurons(weights, {"down": moments(x)}, "", 6)
    kept = [0, 2, 3, 4, 5, 7]
    assert torch.equal(cut["up.weight"], weights["up.weight"][kept])
    torch.testing.assert_close(cut["down.weight"], weights["down.weight"][:, kept], atol=1e-5, rtol=0)
    assert cut_neurons(weights, {}, "", 8) == {}


def attention(x: torch.Tensor, w: dict[str, torch.Tensor], heads: int) -> torch.Tensor:
    """Multi-head attention written out, for one sentence (S, D)."""
    q, k, v = (x @ w[f"layers.0.{n}.weight"].T + w[f"layers.0.{n}.bias"] for n in "qkv")
    out = []
    for a, b, c in zip(q.chunk(heads, 1), k.chunk(heads, 1), v.chunk(heads, 1), strict=True):
        out.append(torch.softmax(a @ b.T / a.shape[1] ** 0.5, 1) @ c)
    return torch.cat(out, 1) @ w["layers.0.o.weight"].T + w["layers.0.o.bias"]


def attention_weights(width: int) -> dict[str, torch.Tensor]:
    return {
        f"layers.0.{name}.{part}": torch.randn(width, width) if part == "weight" else torch.randn(width)
        for name in "qkvo"
        for part in ("weight", "bias")
    }


def test_empty_heads_and_dimensions_are_cut_without_loss() -> None:
    """A head that adds nothing, and dimensions without weights: attention gives the same output afterwards."""
    w = attention_weights(16)
    for name in "qkv":
        for part in ("weight", "bias"):
            w[f"layers.0.{name}.{part}"][4:8] = 0  # head 1 of 4
            w[f"layers.0.{name}.{part}"][[0, 9, 15]] = 0  # one dimension in each other head
    w["layers.0.o.weight"][:, [0, 4, 5, 6, 7, 9, 15]] = 0
    x = torch.randn(50, 16)
    statistics = {"layers.0.input": moments(x), "layers.0.o": moments(torch.randn(200, 16))}
    cut = w | cut_heads(w, statistics, 0, 4, 3, 3)
    assert cut["layers.0.q.weight"].shape == (9, 16)
    assert cut["layers.0.o.weight"].shape == (16, 9)
    torch.testing.assert_close(attention(x, cut, 3), attention(x, w, 4), atol=1e-4, rtol=0)


def test_nothing_to_cut_changes_nothing() -> None:
    assert cut_heads(attention_weights(16), {}, 0, 4, 4, 4) == {}


def test_channels_that_nobody_reads_have_no_importance() -> None:
    w = {f"layers.0.{name}.weight": torch.randn(8, 8) for name in ("q", "k", "v", "up")} | {
        "pool.weight": torch.randn(8, 8)
    }
    for weight in w.values():
        weight[:, 3] = 0
    x = torch.randn(100, 8)
    x[:, 5] *= 100  # an outlier channel, as BERT has them
    statistics = {name: moments(x) for name in ("layers.0.input", "layers.0.norm1", "layers.0.norm2")}
    importance = channel_importance(w, statistics, 1)
    assert importance.argmin() == 3
    assert importance.argmax() == 5
    torch.testing.assert_close(importance.sum(), torch.tensor(5.0))


def test_top_keeps_order_and_breaks_ties_downwards() -> None:
    assert top(torch.tensor([1.0, 3.0, 2.0, 3.0, 2.0]), 3).tolist() == [1, 2, 3]
