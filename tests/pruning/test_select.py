from __future__ import annotations

import itertools

import pytest

from modelpress.errors import ModelPressError
from modelpress.models.architecture import Architecture
from modelpress.pruning.select import allocate, between, candidates, covered, macs, scaled, weights
from modelpress.pruning.shapes import LayerShape, Shape

MINILM = Shape(384, (LayerShape(12, 32, 1536),) * 6)


def shape(layers: int, width: int, heads: int, neurons: int) -> Shape:
    return Shape(width, (LayerShape(heads, 32, neurons),) * layers)


def test_weights_agree_with_the_count_of_the_architecture() -> None:
    """What is left once tables, the norm after them and a head of 2 labels are taken away."""
    whole = Architecture("bert", 1000, 384, 6, 12, 1536, 512, 2).parameters(labels=2)
    assert whole is not None
    assert weights(MINILM) == whole - (1000 + 512 + 2 + 2) * 384 - (2 * 384 + 2)


def test_half_of_minilm() -> None:
    half = candidates(MINILM, remove=["heads", "neurons", "width"], round_to=16, share=0.5)
    assert half == shape(6, 256, 8, 1216)
    assert half.plain
    assert 0.49 < weights(half) / weights(MINILM) <= 0.5


@pytest.mark.parametrize("share", [0.95, 0.7, 0.5, 0.3, 0.1])
@pytest.mark.parametrize(
    "remove", [["neurons"], ["heads"], ["width"], ["layers"], ["heads", "neurons"], ["heads", "neurons", "width"]]
)
def test_never_more_than_the_share_and_nothing_else_changes(share: float, remove: list[str]) -> None:
    try:
        found = candidates(MINILM, remove=remove, round_to=16, share=share)
    except ModelPressError:
        assert weights(scaled(MINILM, 0.0, remove, 16)) > share * weights(MINILM)
        return
    assert weights(found) <= share * weights(MINILM)
    layer = found.layers[0]
    assert found.uniform
    assert len(found.layers) == 6 or "layers" in remove
    assert layer.heads == 12 or "heads" in remove
    assert layer.neurons == 1536 or "neurons" in remove
    assert found.width == 384 or "width" in remove
    assert all(size % 16 == 0 for size in (found.width, layer.inner, layer.neurons))


@pytest.mark.parametrize(("unit", "place"), [("neurons", 2), ("heads", 1), ("width", 0)])
def test_of_one_unit_as_much_stays_as_fits(unit: str, place: int) -> None:
    """All sizes tried one by one."""
    sizes = [384, 12, 1536]
    step = [16, 1, 16][place]
    tried = [[*sizes[:place], size, *sizes[place + 1 :]] for size in range(step, sizes[place] + 1, step)]
    all_shapes = [shape(6, *size) for size in tried]
    best = max((s for s in all_shapes if weights(s) <= 0.8 * weights(MINILM)), key=weights)
    assert candidates(MINILM, remove=[unit], round_to=16, share=0.8) == best


def test_layers_first_become_whole_and_the_rest_makes_up_for_it() -> None:
    found = candidates(MINILM, remove=["heads", "neurons", "width", "layers"], round_to=16, share=0.5)
    assert len(found.layers) == 4
    assert 0.47 < weights(found) / weights(MINILM) <= 0.5


def test_another_cost_decides() -> None:
    found = candidates(MINILM, remove=["neurons"], round_to=16, share=0.6, cost=lambda s: macs(s, 128))
    assert 0.59 < macs(found, 128) / macs(MINILM, 128) <= 0.6
    assert found != candidates(MINILM, remove=["neurons"], round_to=16, share=0.6)


def test_nothing_goes_where_all_may_stay() -> None:
    assert candidates(MINILM, remove=["heads", "layers"], round_to=16, share=1.0) == MINILM


def test_the_smallest_share_is_named_and_can_be_reached() -> None:
    with pytest.raises(ModelPressError, match=r"smallest that can be reached is 35\.1 %.*sparsity up to 0\.6") as found:
        candidates(MINILM, remove=["neurons"], round_to=16, share=0.2)
    sparsity = float(str(found.value).partition("sparsity up to ")[2].partition(")")[0])
    assert candidates(MINILM, remove=["neurons"], round_to=16, share=1 - sparsity).layers[0].neurons == 16


@pytest.mark.parametrize(
    ("remove", "round_to", "message"),
    [([], 16, "names nothing"), (["head"], 16, "'head'"), (["heads"], 0, "round_to is 0")],
)
def test_bad_arguments(remove: list[str], round_to: int, message: str) -> None:
    with pytest.raises(ModelPressError, match=message):
        candidates(MINILM, remove=remove, round_to=round_to, share=0.5)


def test_shapes_on_the_way_shrink_step_by_step() -> None:
    end = shape(6, 256, 8, 1216)
    way = [between(MINILM, end, k / 4, 16) for k in range(5)]
    assert (way[0], way[-1]) == (MINILM, end)
    assert all(found.plain for found in way)
    costs = [weights(found) for found in way]
    assert costs == sorted(costs, reverse=True)
    assert len(set(costs)) == 5


def test_allocation_takes_the_best_of_all_layers() -> None:
    """Against the best of all ways to spread three heads and four blocks of neurons over two layers."""
    full = Shape(32, (LayerShape(3, 8, 12),) * 2)
    goal = Shape(32, (LayerShape(2, 8, 8),) * 2)
    heads = [[5.0, 4.0, 3.0], [1.0, 0.5, 2.0]]
    neurons = [[9, 1, 8, 2, 7, 3, 6, 4, 5, 0, 0, 0], [1] * 12]
    found = allocate(goal, full, heads, neurons, 4)
    assert [layer.heads for layer in found.layers] == [3, 1]
    assert sum(layer.neurons for layer in found.layers) == 16
    assert all(layer.neurons % 4 == 0 and layer.neurons for layer in found.layers)

    def kept(counts: tuple[int, ...]) -> float:
        return sum(sum(sorted(row, reverse=True)[:n]) for row, n in zip(neurons, counts, strict=True))

    ways = [w for w in itertools.product((4, 8, 12), repeat=2) if sum(w) == 16]
    assert kept(tuple(layer.neurons for layer in found.layers)) == max(map(kept, ways))
    assert weights(found) == weights(goal)


def test_what_the_units_of_a_layer_cover() -> None:
    """By removing all but one of them."""
    assert covered(MINILM, ["width"]) == covered(MINILM, ["heads", "layers"]) == 1.0
    for unit in ("heads", "neurons"):
        few, more = (
            shape(6, 384, *((n, 1536) if unit == "heads" else (12, n)))
            for n in ((1, 2) if unit == "heads" else (16, 32))
        )
        each = (weights(more) - weights(few)) * (12 if unit == "heads" else 96)
        assert covered(MINILM, [unit]) == pytest.approx(each / weights(MINILM))
    assert covered(MINILM, ["heads", "neurons"]) == pytest.approx(
        covered(MINILM, ["heads"]) + covered(MINILM, ["neurons"])
    )
