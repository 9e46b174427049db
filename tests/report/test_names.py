from __future__ import annotations

import pytest

from modelpress.report.names import model_title, row_title
from modelpress.report.sections import RANDOM, notes, sections
from tests.report.example import STUDENT, row_of


@pytest.mark.parametrize(
    ("tower", "several", "title"),
    [
        ("main", False, "tinybert"),
        ("pair", True, "tinybert · distill"),
        ("image", False, "tinybert (image tower)"),
        ("image", True, "tinybert · distill (image tower)"),
    ],
)
def test_one_of_several_stages_is_called_by_its_name(tower: str, several: bool, title: str) -> None:
    details = {"one_of_several": True} if several else {}
    row = row_of(STUDENT, "openvino", "int8", "1x128", details=details)
    row.tower = tower
    assert model_title(row) == title
    assert row_title(row) == f"{title} in OpenVINO INT8 at 1x128"
    assert sections([row])[0][0] == (f"candidate: {title}" if several else f"candidate: {title} (distill)")


def test_random_weights_are_said_once() -> None:
    rows = [row_of(STUDENT, "openvino", "int8", shape, details={"weights": "random"}) for shape in ("1x128", "data")]
    assert notes(rows) == [RANDOM]
    assert notes([row_of(STUDENT, "openvino", "int8", "1x128", details={})]) == []
