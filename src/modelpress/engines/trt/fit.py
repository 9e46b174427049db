"""Profiles fitted to a dataset: where to cut its lengths so that padding to the cuts wastes least."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from modelpress.engines.graph import GraphInput
from modelpress.engines.trt.profiles import Profile, axes_of, parse
from modelpress.errors import ModelPressError

SHORTEST = 2  # what the exported graphs take at least: two special tokens


@dataclass(frozen=True)
class Fit:
    """``edges``: the largest length of every profile. Shares are of the positions computed if all are padded to it."""

    edges: tuple[int, ...]
    padding_share: float
    padding_share_one_profile: float

    @property
    def gain(self) -> float:
        """How many times fewer positions are computed than with one profile as long as the longest item."""
        return (1 - self.padding_share) / (1 - self.padding_share_one_profile)


def fit(lengths: Mapping[int, int], profiles: int) -> Fit:
    """The at most ``profiles`` edges with the least padding, exactly, by dynamic programming.

    ``lengths``: length -> number of items. With sorted lengths l and counts c, a profile that takes the items i … j
    wastes ``sum c_k (l_j - l_k)``; ``waste(k, j) = min_i waste(k-1, i-1) + cost(i, j)``.
    """
    sizes = np.array(sorted(lengths), np.int64)
    counts = np.array([lengths[int(size)] for size in sizes], np.int64)
    number = np.concatenate([[0], np.cumsum(counts)])
    weight = np.concatenate([[0], np.cumsum(counts * sizes)])
    starts = np.arange(len(sizes))
    cost = sizes[None, :] * (number[1:] - number[:-1, None]) - (weight[1:] - weight[:-1, None])  # [i, j], i <= j
    cost = np.where(starts[:, None] <= starts[None, :], cost, np.iinfo(np.int64).max // 4)
    waste, origins = cost[0], []
    for _ in range(min(profiles, len(sizes)) - 1):
        before = np.concatenate([[np.iinfo(np.int64).max // 4], waste[:-1]])[:, None]
        total = before + cost
        origins.append(total.argmin(0))
        waste = total.min(0)
    edges, last = [], len(sizes) - 1
    for origin in reversed([*([np.zeros_like(starts)]), *origins]):
        edges.append(int(sizes[last]))
        last = int(origin[last]) - 1
    real, one = int(weight[-1]), int(sizes[-1] * number[-1])
    return Fit(tuple(edges[::-1]), float(waste[-1] / (waste[-1] + real)), 1 - real / one)


def automatic(
    inputs: Sequence[GraphInput], lengths: Mapping[int, int], batch: Sequence[int], longest: int, most: int
) -> tuple[list[Profile], Fit | None]:
    """Profiles for a graph with a batch axis and at most one further dynamic axis, its length.

    Without ``lengths``, and where ``most`` is 1, one profile takes every length up to ``longest``; with them it is
    fastest at the longest item. ``batch``: smallest, best and largest batch.

    Raises:
        ModelPressError: the graph has more dynamic axes; they are named.
    """
    axes = axes_of(inputs)
    if not axes:
        return [], None
    if len(axes) > 2:
        raise ModelPressError(f"profiles=auto fits a batch and one length; the graph has {', '.join(axes)}. List them.")
    low, best, high = batch
    if len(axes) == 1:
        return [parse({"min": low, "opt": best, "max": high}, inputs, "profiles=auto")], None
    found = fit(lengths, most) if lengths else None
    edges = list(found.edges) if found else []
    if len(edges) == most == 1:
        shapes = {"min": (low, SHORTEST), "opt": (best, edges[0]), "max": (high, max(longest, edges[0]))}
        return [parse(shapes, inputs, "profiles=auto")], found
    edges += [longest] if not edges or longest > edges[-1] else []
    return [
        parse({"min": (low, start), "opt": (best, edge), "max": (high, edge)}, inputs, "profiles=auto")
        for start, edge in zip([SHORTEST, *(edge + 1 for edge in edges)], edges, strict=False)
    ], found
