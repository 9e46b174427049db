"""Profiles as users write them, what is wrong with them, and which one a request runs in."""

from __future__ import annotations

from typing import Any

import pytest

from modelpress.engines.graph import GraphInput
from modelpress.engines.trt.profiles import Profile, axes_of, choose, parse
from modelpress.errors import ModelPressError

TEXT = [GraphInput(name, "int64", ("batch", "sequence")) for name in ("ids", "mask")]
IMAGE = [GraphInput("pixels", "float32", ("batch", 3, 640, 640))]


def profile(low: Any, best: Any, high: Any, inputs: list[GraphInput] = TEXT) -> Profile:
    return parse({"min": low, "opt": best, "max": high}, inputs)


def test_one_shape_for_all_inputs_or_one_for_each() -> None:
    once = profile("1x16", "8x64", "32x128")
    assert once.opt == {"ids": (8, 64), "mask": (8, 64)}
    assert once == profile(*({"ids": text, "mask": text} for text in ("1x16", "8x64", "32x128")))
    assert profile(1, 8, 32, IMAGE).max == {"pixels": (32, 3, 640, 640)}
    assert profile(1, 8, 32, IMAGE) == profile("1x3x640x640", [8, 3, 640, 640], "32x3x640x640", IMAGE)


def test_fixed_inputs_need_no_shape_and_nameless_axes_are_told_apart() -> None:
    fixed = GraphInput("scale", "float32", (1,))
    assert profile("1x16", "8x64", "32x128", [*TEXT, fixed]).min.keys() == {"ids", "mask"}
    assert axes_of([GraphInput("x", "float32", ("?", "?"))]) == ["x[0]", "x[1]"]


@pytest.mark.parametrize(
    ("given", "inputs", "message"),
    [
        (("8x16", "4x64", "32x128"), TEXT, r"axis 0 \(batch\) of input 'ids' has min 8, opt 4, max 32; it must be"),
        (("1x16", "4x64", "32x32"), TEXT, r"axis 1 \(sequence\) .* has min 16, opt 64, max 32"),
        (("1x16x3", "8x64", "32x128"), TEXT, "profile.min is 1x16x3: 3 sizes for input 'ids', which has 2 axes"),
        (({"ids": "1x16"}, "8x64", "32x128"), TEXT, r"profile.min lacks input 'mask', whose shape is \[batch, seq"),
        (({"idz": "1x16"}, "8x64", "32x128"), TEXT, "profile.min names 'idz'; the graph's inputs are ids, mask"),
        (({"ids": "1x16", "mask": "1"}, "8x64", "9x99"), TEXT, "1 sizes for input 'mask', which has 2 axes"),
        (("1x3x641x641", "8", "32"), IMAGE, "axis 2 of input 'pixels' is fixed at 640, not 641"),
        (("1x0", "8x64", "32x128"), TEXT, "profile.min is '1x0'; write sizes joined by x"),
        (("1", "8", "9"), [GraphInput("x", "float32", (1, 4))], "the graph has no dynamic axis"),
    ],
)
def test_faults_say_which_where_and_what_is_allowed(given: Any, inputs: list[GraphInput], message: str) -> None:
    with pytest.raises(ModelPressError, match=message):
        profile(*given, inputs)


def test_all_three_shapes_are_needed() -> None:
    with pytest.raises(ModelPressError, match="profile has min, max; it needs min, opt and max"):
        parse({"min": "1x16", "max": "1x32"}, TEXT)


SHORT, LONG = profile("1x4", "1x16", "8x16"), profile("1x4", "1x64", "8x64")


def of(batch: int, length: int) -> dict[str, tuple[int, ...]]:
    return {"ids": (batch, length), "mask": (batch, length)}


def test_a_request_runs_in_the_smallest_profile_that_takes_it() -> None:
    assert choose([LONG, SHORT], of(2, 10), "refuse") == (1, of(2, 10))
    assert choose([LONG, SHORT], of(2, 17), "refuse") == (0, of(2, 17))


@pytest.mark.parametrize("shapes", [of(1, 65), of(9, 16), of(1, 3)])
def test_a_request_outside_is_refused_with_what_is_allowed(shapes: dict[str, tuple[int, ...]]) -> None:
    size = "x".join(map(str, shapes["ids"]))
    message = f"has ids {size}, mask {size}; the engine takes ids 1x4 to 8x16, mask 1x4 to 8x16; ids 1x4 to 8x64"
    with pytest.raises(ModelPressError, match=message):
        choose([SHORT, LONG], shapes, "refuse")


def test_an_image_one_pixel_too_large_does_not_kill_the_engine() -> None:
    fixed = profile(1, 8, 32, IMAGE)
    with pytest.raises(
        ModelPressError, match="has pixels 1x3x641x641; the engine takes pixels 1x3x640x640 to 32x3x640"
    ):
        choose([fixed], {"pixels": (1, 3, 641, 641)}, "outside")
    assert choose([fixed], {"pixels": (1, 3, 639, 639)}, "outside") == (0, {"pixels": (1, 3, 640, 640)})


def test_padding_grows_what_is_too_small_and_to_edges_every_length() -> None:
    assert choose([SHORT, LONG], of(1, 2), "outside") == (0, of(1, 4))
    assert choose([SHORT, LONG], of(2, 10), "outside") == (0, of(2, 10))
    assert choose([LONG, SHORT], of(2, 10), "edges") == (1, of(2, 16))
    assert choose([SHORT, LONG], of(2, 17), "edges") == (1, of(2, 64))
    with pytest.raises(ModelPressError, match="ids 2x65"):
        choose([SHORT, LONG], of(2, 65), "edges")
