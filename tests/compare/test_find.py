from __future__ import annotations

from pathlib import Path

import pytest

from modelpress.compare.find import find
from modelpress.errors import ModelPressError
from tests.compare.worlds import put, report, status


def test_every_run_once_whatever_leads_to_it(tmp_path: Path) -> None:
    one = put(tmp_path / "outputs" / "job" / "t1", report())
    two = status(tmp_path / "multirun" / "s" / "0", "failed", "why")
    (tmp_path / "outputs" / "latest").symlink_to(one)
    (tmp_path / "outputs" / "aside").symlink_to(tmp_path / "multirun")
    (tmp_path / "outputs" / "loop").symlink_to(tmp_path / "outputs")
    places = [tmp_path / "outputs", tmp_path / "multirun", one / "report.json"]
    assert find(places)[0] == [two, one]
    assert find([tmp_path / "outputs" / "latest"])[0] == [tmp_path / "outputs" / "latest"]


def test_what_lies_inside_a_run_or_the_store_is_no_run(tmp_path: Path) -> None:
    run = put(tmp_path / "outputs" / "job" / "t1", report())
    for inside in (run / "deploy", tmp_path / "outputs" / ".store" / "x"):
        put(inside, report())
    assert find([tmp_path])[0] == [run]


def test_a_missing_place_is_remarked_upon_and_nothing_at_all_is_an_error(tmp_path: Path) -> None:
    put(tmp_path / "outputs" / "t1", report())
    found, remarks = find([tmp_path / "outputs", tmp_path / "multirun"])
    assert (len(found), remarks) == (1, [f"There is no {tmp_path / 'multirun'}."])
    with pytest.raises(ModelPressError, match="There is no .*nowhere"):
        find([tmp_path / "nowhere"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelPressError, match=r"No run under .*empty: no folder there has a report\.json"):
        find([tmp_path / "empty"])
