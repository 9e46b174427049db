"""The Recipe contract: every question must be answered, and a recipe is its own answer to who teaches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from modelpress.models.recipe import Recipe


class Fixed(Recipe):
    name, init = "fixed", "random"

    def fingerprint(self) -> str:
        return "f" * 64

    def preprocessor(self) -> Path | None:
        return None

    def parameters(self) -> int | None:
        return None

    def is_trained(self, labels: list[str]) -> bool:
        return False

    def build(self, **given: Any) -> Any:
        return given


def test_a_recipe_without_gaps_needs_no_teacher() -> None:
    recipe = Fixed()
    assert recipe.resolve(None) is recipe
    assert recipe.resolve(Fixed()) is recipe
    assert recipe.trained == "auto"


@pytest.mark.parametrize("missing", ["fingerprint", "preprocessor", "parameters", "is_trained", "build"])
def test_no_question_may_stay_open(missing: str) -> None:
    methods = {name: value for name, value in vars(Fixed).items() if name != missing and callable(value)}
    with pytest.raises(TypeError, match=missing):
        type("Partial", (Recipe,), methods)()
