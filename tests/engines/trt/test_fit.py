"""Profiles fitted to lengths, against every possible choice of edges."""

from __future__ import annotations

import itertools
import random

import pytest

from modelpress.engines.graph import GraphInput
from modelpress.engines.trt.fit import automatic, fit
from modelpress.errors import ModelPressError

TEXT = [GraphInput(name, "int64", ("batch", "sequence")) for name in ("ids", "mask")]


def waste(lengths: dict[int, int], edges: tuple[int, ...]) -> int:
    return sum(count * (min(edge for edge in edges if edge >= size) - size) for size, count in lengths.items())


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("profiles", [1, 2, 3, 4])
def test_no_choice_of_edges_wastes_less(seed: int, profiles: int) -> None:
    rng = random.Random(seed)
    lengths = {rng.randint(2, 40): rng.randint(1, 50) for _ in range(rng.randint(1, 9))}
    *shorter, longest = sorted(lengths)
    choices = [(*some, longest) for count in range(profiles) for some in itertools.combinations(shorter, count)]
    found = fit(lengths, profiles)
    assert len(found.edges) <= profiles
    assert waste(lengths, found.edges) == min(waste(lengths, edges) for edges in choices)


def test_the_shares_and_the_gain_by_hand() -> None:
    found = fit({2: 3, 10: 1}, 2)
    assert found.edges == (2, 10)
    assert found.padding_share == 0
    assert found.padding_share_one_profile == pytest.approx(24 / 40)  # three items of 2 padded to 10
    assert found.gain == pytest.approx(40 / 16)
    assert fit({2: 3, 10: 1}, 1).gain == pytest.approx(1)


def test_profiles_follow_each_other_and_end_at_the_longest_request() -> None:
    profiles, found = automatic(TEXT, {5: 10, 9: 3, 12: 1}, (1, 4, 32), 64, 2)
    assert found is not None
    assert found.edges == (5, 12)
    assert [(p.min["ids"], p.opt["mask"], p.max["ids"]) for p in profiles] == [
        ((1, 2), (4, 5), (32, 5)),
        ((1, 6), (4, 12), (32, 12)),
        ((1, 13), (4, 64), (32, 64)),  # longer than any training item
    ]


@pytest.mark.parametrize(("longest", "end"), [(64, 64), (10, 12)])
def test_a_single_profile_takes_all_and_is_fastest_at_the_longest_item(longest: int, end: int) -> None:
    [profile], found = automatic(TEXT, {5: 10, 9: 3, 12: 1}, (1, 4, 32), longest, 1)
    assert (profile.min["ids"], profile.opt["mask"], profile.max["ids"]) == ((1, 2), (4, 12), (32, end))
    assert found is not None
    assert found.edges == (12,)


def test_without_lengths_one_profile_takes_all() -> None:
    profiles, found = automatic(TEXT, {}, (1, 1, 8), 40, 4)
    assert found is None
    assert [(p.min["ids"], p.max["ids"]) for p in profiles] == [((1, 2), (8, 40))]


def test_images_have_a_batch_only_and_fixed_graphs_nothing() -> None:
    image = GraphInput("pixels", "float32", ("batch", 3, 32, 32))
    profiles, _ = automatic([image], {}, (1, 2, 8), 128, 4)
    assert profiles[0].opt == {"pixels": (2, 3, 32, 32)}
    assert automatic([GraphInput("x", "float32", (1, 4))], {}, (1, 1, 8), 128, 4) == ([], None)


def test_more_axes_are_named() -> None:
    image = GraphInput("pixels", "float32", ("batch", 3, "height", "width"))
    with pytest.raises(ModelPressError, match="the graph has batch, height, width. List them"):
        automatic([image], {}, (1, 1, 8), 128, 4)
