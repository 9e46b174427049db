from __future__ import annotations

import pytest

from modelpress.data.prompts import filled, read_templates
from modelpress.errors import ModelPressError


def test_every_template_for_every_class() -> None:
    texts, owners = filled(["a {}", "one {} here"], ["cat", "dog {x}"])
    assert texts == ["a cat", "one cat here", "a dog {x}", "one dog {x} here"]
    assert owners.tolist() == [0, 0, 1, 1]


def test_a_single_template_may_stand_alone() -> None:
    assert read_templates("a {}") == ["a {}"]


@pytest.mark.parametrize("given", [[], ["a photo"], ["{} and {}"], [3], None])
def test_templates_that_are_none(given: object) -> None:
    with pytest.raises(ModelPressError, match=r"dataset.templates is .*each with one {}"):
        read_templates(given)
