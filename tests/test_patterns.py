from __future__ import annotations

import pytest

from modelpress.errors import ModelPressError
from modelpress.patterns import check_patterns

LAYERS = ["network.encoder.query", "network.encoder.key", "network.pooler.dense"]


def test_names_and_patterns_that_match_pass() -> None:
    assert check_patterns(["*.query", "network.pooler.dense"], LAYERS) is None  # type: ignore[func-returns-value]


@pytest.mark.parametrize(("given", "near"), [("*.querry", "'*.query*'"), ("network.pooller", "'*.pooler*'")])
def test_a_typing_mistake_is_named_with_what_was_probably_meant(given: str, near: str) -> None:
    with pytest.raises(ModelPressError) as error:
        check_patterns([given], LAYERS)
    assert f"{given!r} matches no layer. Did you mean {near}? Layers: network.encoder.query" in str(error.value)


def test_nothing_near() -> None:
    with pytest.raises(ModelPressError, match="matches no layer. Layers: "):
        check_patterns(["zzz"], LAYERS)
