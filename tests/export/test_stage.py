from __future__ import annotations

import json
from pathlib import Path

import pytest

from modelpress.errors import ModelPressError
from modelpress.export import check
from modelpress.export.stage import export_stage
from modelpress.models.classifier import TextClassifier
from tests.models.conftest import tiny


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory, tokenizer_folder: Path) -> Path:
    folder = tmp_path_factory.mktemp("stage")
    network = tiny(labels=2, num_hidden_layers=1, max_position_embeddings=160)
    TextClassifier(network, ["bad", "good"], tokenizer_folder).save(folder)
    return folder


def test_facts_lie_beside_the_graph(stage: Path, tmp_path: Path) -> None:
    every = export_stage(stage, tmp_path)
    assert every == json.loads((tmp_path / "facts.json").read_text())
    facts = every["main"]
    assert facts["labels"] == ["bad", "good"]
    assert facts["parity_max_abs"] < 1e-5
    assert (
        facts["params_m"]
        == sum(p.numel() for p in tiny(labels=2, num_hidden_layers=1, max_position_embeddings=160).parameters()) / 1e6
    )
    assert facts["macs_g"] == pytest.approx((128 * 2 * 24 * 24 + 3 * 24 * 24 + 2 * 24 * 48 + 2 * 128 * 24 + 48) / 1e9)


def test_a_graph_that_answers_otherwise_stops_the_run(
    stage: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check, "parity", lambda *_: 0.2)
    with pytest.raises(ModelPressError, match=r"differs from the network by 0\.2"):
        export_stage(stage, tmp_path)
    assert not (tmp_path / "facts.json").exists()
