"""Values against annotations: a table written by hand."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from modelpress.check_source import Module
from modelpress.check_values import fits, spell

MODULE = Module(
    "here", Path("here.py"), ast.parse("Spec = str | list[int | None]\nfrom typing import Literal\nclass Made: ...")
)

CASES = [
    ("int", 3, True),
    ("int", True, False),
    ("int", 3.5, False),
    ("int", "3", False),
    ("float", 3, True),
    ("float", 2.5, True),
    ("float", "hot", False),
    ("float", None, False),
    ("bool", False, True),
    ("bool", 1, False),
    ("str", "x", True),
    ("str", 1, False),
    ("Path", "folder/file", True),
    ("None", None, True),
    ("int | None", None, True),
    ("int | None", "many", False),
    ("Optional[float]", None, True),
    ("Optional[float]", "x", False),
    ("Union[int, str]", "x", True),
    ("Union[int, str]", [1], False),
    ("Literal['auto'] | bool", "auto", True),
    ("Literal['auto'] | bool", "atuo", False),
    ("Literal[1, 2]", True, False),
    ("Literal[1, 2]", 2, True),
    ("list[int]", [1, 2], True),
    ("list[int]", [1, "x"], False),
    ("Sequence[str]", "word", False),
    ("tuple[str, ...]", ["a"], True),
    ("Mapping[str, float]", {"hard": 0.5, "soft": 1}, True),
    ("Mapping[str, float]", {"hard": "much"}, False),
    ("Mapping[str, float]", [1], False),
    ("dict", {"a": 1}, True),
    ("Spec", "uniform", True),
    ("Spec", [1, None], True),
    ("Spec", 3, False),
    ("'int'", 4, True),
    ("'int'", "x", False),
    ("typing.Optional[int]", None, True),
    ("Annotated[int, 'above 0']", 3, True),
    ("Annotated[int, 'above 0']", "x", False),
    ("Unknown", "anything", True),
    ("Made", {"_target_": "here.Made"}, True),
    ("int", {"_target_": "here.Made"}, True),
    ("Any", object(), True),
]


@pytest.mark.parametrize(("annotation", "value", "expected"), CASES)
def test_table(annotation: str, value: object, expected: bool) -> None:
    assert fits(value, ast.parse(annotation, mode="eval").body, MODULE) is expected


def test_nothing_declared_takes_anything() -> None:
    assert fits("x", None, MODULE)
    assert spell(None) == "anything"
    assert spell(ast.parse("'int' | None", mode="eval").body) == "int | None"
