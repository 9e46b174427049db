from __future__ import annotations

import pytest

from modelpress.errors import ModelPressError
from modelpress.models.labels import checkpoint_labels, match


def test_order_may_differ_and_case_is_ignored() -> None:
    assert match(["NEGATIVE", "Neutral", "POSITIVE"], ["positive", "negative", "neutral"], None, "x") == [2, 0, 1]


def test_label_map_renames() -> None:
    assert match(["LABEL_0", "LABEL_1"], ["fresh", "rotten"], {"label_0": "rotten", "LABEL_1": "fresh"}, "x") == [1, 0]


@pytest.mark.parametrize("theirs", [["LABEL_0", "LABEL_1"], ["a", "b", "c"], ["fresh", "fresh"], ["fresh", "stale"]])
def test_other_names_are_refused_and_both_sides_listed(theirs: list[str]) -> None:
    with pytest.raises(ModelPressError, match="'fresh', 'rotten'") as caught:
        match(theirs, ["fresh", "rotten"], None, "org/name")
    assert all(repr(label) in str(caught.value) for label in theirs)
    assert "model.trained=false" in str(caught.value)
    assert ("model.label_map" in str(caught.value)) == (len(theirs) == 2)


def test_a_map_with_unknown_names_is_refused() -> None:
    with pytest.raises(ModelPressError, match="'POS', 'ripe'"):
        match(["NEG", "P0S"], ["fresh", "rotten"], {"NEG": "rotten", "POS": "ripe"}, "x")


def test_a_map_onto_one_label_is_refused() -> None:
    with pytest.raises(ModelPressError, match="do not match"):
        match(["a", "b"], ["fresh", "rotten"], {"a": "fresh", "b": "fresh"}, "x")


def test_checkpoint_labels_follow_the_numbers_not_the_file() -> None:
    config = {"architectures": ["BertForSequenceClassification"], "id2label": {"10": "k", "2": "c", "1": "b"}}
    assert checkpoint_labels(config) == ["b", "c", "k"]
    assert checkpoint_labels({"architectures": ["BertForSequenceClassification"]}) == ["LABEL_0", "LABEL_1"]
    assert checkpoint_labels({"architectures": ["BertModel"], "id2label": {"0": "a"}}) is None
