"""Numerics go to JSON and back, and equal numbers give equal text."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError

import pytest

from modelpress.models.numerics import Numerics


def test_there_and_back() -> None:
    numerics = Numerics("fp16", {"pinned": {"b": 70000.0, "a": 1.5}, "float_layers": ["b", "a"]})
    assert Numerics.from_json(numerics.to_json()) == numerics
    assert json.loads(numerics.to_json())["kind"] == "fp16"


def test_equal_numbers_give_equal_text() -> None:
    assert Numerics("bf16", {"a": 1, "b": 2}).to_json() == Numerics("bf16", {"b": 2, "a": 1}).to_json()
    assert Numerics("int8").to_json() == '{"kind": "int8"}'


def test_it_is_frozen_and_wants_json() -> None:
    numerics = Numerics("int8")
    with pytest.raises(FrozenInstanceError):
        numerics.kind = "fp16"  # type: ignore[misc]
    with pytest.raises(ValueError, match="not JSON compliant"):
        Numerics("fp16", {"value": float("inf")}).to_json()
