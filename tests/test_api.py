"""``compress()`` is the command line: its words, and a data frame or a file through the whole pipeline."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Any

import pytest

import tests.tiny as tiny
from modelpress.api import compress, data_overrides, model_overrides, technique_override
from modelpress.config import compose
from modelpress.errors import ModelPressError
from modelpress.report.record import Report, load


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make(tmp_path_factory.mktemp("world"))


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs leave ``outputs`` where they are started, and data frames go to the temporary folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


def fast(world: Path, **extra: Any) -> dict[str, Any]:
    """Overrides that shorten a fine-tuning, as a mapping of plain Python values."""
    return {
        "store": world / "store",
        "dataset.max_length": 32,
        "trainer": "tiny",
        "benchmark": "quick",
        "benchmark.rounds": 2,
        "benchmark.shapes": ["data"],
        "benchmark.throughput_s": 0.05,
        "engine": "onnxruntime",
        "technique.finetune.trainer.max_epochs": 1,
        **extra,
    }


def finetune(world: Path, data: Any, **options: Any) -> Report:
    return compress(world / "checkpoint", data, "finetune", overrides=fast(world), **options)


def test_a_csv_file(world: Path, tmp_path: Path) -> None:
    report = finetune(world, world / "reviews.csv", folder=tmp_path / "run")
    assert load(tmp_path / "run" / "report.json").rows == report.rows
    assert [(row.role, row.model, row.stage, row.status in ("ok", "unstable")) for row in report.rows] == [
        ("baseline", "hf", "finetune", True)
    ]
    assert report.rows[0].metric_n == 60
    words = shlex.split(report.command)
    assert words[:2] == ["modelpress", "run"]
    assert f"dataset.path='{world / 'reviews.csv'}'" in words
    assert not (tmp_path / "outputs").exists()


def test_a_data_frame_is_known_again(world: Path, tmp_path: Path) -> None:
    import pandas as pd

    frame = pd.read_csv(world / "reviews.csv").sample(frac=1.0, random_state=1)  # an index that is no range
    first = finetune(world, frame)
    again = finetune(world, frame.copy())
    assert not any(entry["reused"] for entry in first.lineage)
    assert all(entry["reused"] for entry in again.lineage)
    runs = tmp_path / "outputs" / first.name
    assert len(list(runs.iterdir())) == 2
    assert os.path.realpath(tmp_path / "outputs" / "latest") == str(max(runs.iterdir()))
    assert {row.role for row in first.rows} == {"baseline"}
    assert first.dataset["splits"]["test"] == 60


def test_training_only_is_refused_before_it_trains(world: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelPressError, match="callbacks=none only trains"):
        compress(world / "checkpoint", world / "reviews.csv", "finetune", overrides=["callbacks=none"])
    assert list(tmp_path.iterdir()) == []


def test_faults_of_the_config_are_told_before_anything_is_made(world: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelPressError, match="lr"):
        compress(
            world / "checkpoint", world / "reviews.csv", "finetune", overrides={"technique.finetune.optimizer.lr": -1}
        )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("technique", "words"),
    [("distill", "technique=distill"), (["distill"], "technique=[distill]"), (("a", "b"), "technique=[a,b]")],
)
def test_techniques(technique: Any, words: str) -> None:
    assert technique_override(technique) == words


@pytest.mark.parametrize(
    ("model", "teacher", "words"),
    [
        ("tinybert", None, ["model=tinybert"]),
        ("tinybert", "bert_base", ["model=tinybert", "model@teacher=bert_base"]),
        ("some-org/model", None, ["model=hf", "model.path='some-org/model'"]),
        ("tinybert", "some-org/model", ["model=tinybert", "model@teacher=hf", "teacher.path='some-org/model'"]),
    ],
)
def test_models(model: str, teacher: str | None, words: list[str]) -> None:
    assert model_overrides(model, teacher) == words


def test_paths_become_absolute_and_survive_hydras_grammar(tmp_path: Path) -> None:
    place = tmp_path / "it's, [my] {film} = $data"
    place.mkdir()
    (place / "reviews.csv").write_text("text,label\na,b\n")
    given = os.path.relpath(place / "reviews.csv")
    cfg = compose(data_overrides(given))
    assert cfg.dataset["path"] == str(place / "reviews.csv")
    assert data_overrides("sst2") == ["dataset=sst2"]


def test_equal_frames_are_one_file_and_others_are_not() -> None:
    import pandas as pd

    frame = pd.DataFrame({"text": ["a", "b"], "label": ["x", "y"]})
    assert data_overrides(frame) == data_overrides(frame.copy())
    assert data_overrides(frame) != data_overrides(frame.assign(label=["y", "x"]))
    path = Path(data_overrides(frame)[1].partition("=")[2].strip("'"))
    assert pd.read_parquet(path).equals(frame)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("budget.latency_ms", None),
        ("control", False),
        ("budget.max_metric_drop", 0.02),
        ("benchmark.shapes", ("1x64", "data")),
        ("model.layer_map", [0, 2, 3, 5]),
        ("technique.distill.objective.layer_map", [1, None, 4, 6]),
        ("seed", 7),
        ("technique.distill.objective.weights", {"hard": 1.0, "soft": 0.0}),
        ("name", "plain"),
    ],
)
def test_values_of_a_mapping_arrive_as_they_are(monkeypatch: pytest.MonkeyPatch, key: str, value: Any) -> None:
    from omegaconf import OmegaConf

    seen: list[Any] = []

    def look(cfg: Any) -> None:
        seen.append(OmegaConf.to_container(cfg, resolve=True, throw_on_missing=False))
        raise ModelPressError("seen")

    monkeypatch.setattr("modelpress.check.check", look)
    with pytest.raises(ModelPressError, match="seen"):
        compress(overrides={key: value})
    node = seen[0]
    for part in key.split("."):
        node = node[part]
    wanted = list(value) if isinstance(value, tuple) else value
    assert node == ({**node, **wanted} if isinstance(wanted, dict) else wanted)
    assert type(node) is type(wanted)
