"""conf/dataset: every file builds the class it names, with options that the class knows."""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from modelpress.config import build
from modelpress.data.base import Dataset

CONF = Path(__file__).parents[2] / "conf"


@pytest.mark.parametrize(
    ("name", "overrides", "task", "metric"),
    [
        ("reviews", [], "text-classification", "accuracy"),
        ("csv", ["path=a.csv"], "text-classification", "accuracy"),
        ("hf", ["path=owner/name"], "text-classification", "accuracy"),
        ("sst2", [], "text-classification", "accuracy"),
        ("emoji", [], "image-text", "recall_at_1"),
        ("emoji_groups", [], "image-classification", "accuracy"),
        ("image_text", ["path=captions.csv"], "image-text", "recall_at_1"),
        ("imagefolder", ["path=pictures"], "image-classification", "accuracy"),
    ],
)
def test_each_yaml_builds_its_dataset(name: str, overrides: list[str], task: str, metric: str) -> None:
    with initialize_config_dir(str(CONF / "dataset"), version_base="1.3"):
        dataset = build(compose(name, overrides), "dataset")
    assert isinstance(dataset, Dataset)
    assert (dataset.name, dataset.task, dataset.metric) == (name, task, metric)


def test_every_yaml_is_tried_here() -> None:
    assert {path.stem for path in (CONF / "dataset").glob("*.yaml")} >= {
        *("reviews", "csv", "hf", "sst2", "emoji", "emoji_groups", "image_text", "imagefolder")
    }
