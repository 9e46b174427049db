"""Sizes of a saved encoder, as reports show them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from modelpress.anatomy import described, details, sizes, widths

BERT = {"hidden_size": 312, "num_attention_heads": 12, "intermediate_size": 1200, "num_hidden_layers": 4}
DISTILBERT = {"dim": 768, "n_heads": 12, "hidden_dim": 3072, "n_layers": 6}


def saved(folder: Path, config: dict[str, int], **record: Any) -> Path:
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "modelpress.json").write_text(json.dumps(record))
    return folder


@pytest.mark.parametrize(
    ("config", "expected", "words"),
    [
        (BERT, [312, 26, 1200], "4 x 312, 12 heads of 26, 1200 neurons"),
        (DISTILBERT, [768, 64, 3072], "6 x 768, 12 heads of 64, 3072 neurons"),
    ],
    ids=["bert", "distilbert"],
)
def test_a_plain_encoder_is_its_config(tmp_path: Path, config: dict[str, int], expected: list[int], words: str) -> None:
    folder = saved(tmp_path, config)
    assert widths(folder) == expected
    assert details(folder)["network"] == words
    assert len(details(folder)["shape"]["layers"]) == len(sizes(folder)["layers"])  # type: ignore[index]


@pytest.mark.parametrize(("config", "expected"), [({"hidden_size": 64}, [64]), ({}, [])])
def test_other_networks_say_what_they_can(tmp_path: Path, config: dict[str, int], expected: list[int]) -> None:
    assert details(saved(tmp_path, config)) == {"widths": expected}


def test_what_was_removed_stands_in_the_record(tmp_path: Path) -> None:
    layers = [{"heads": 3, "head_width": 26, "neurons": 640}, {"heads": 5, "head_width": 26, "neurons": 400}]
    folder = saved(tmp_path, BERT, shape={"width": 200, "layers": layers})
    assert widths(folder) == [200, 26, 78, 640, 130, 400]
    assert described({"width": 200, "layers": layers}) == "2 x 200, 3–5 heads of 26, 400–640 neurons"
