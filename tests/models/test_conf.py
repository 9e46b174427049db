"""conf/model: every option composes, alone and as a teacher."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from modelpress.config import build, compose, conf_dir
from modelpress.models.clip import ClipModel
from modelpress.models.image import ImageModel
from modelpress.models.text import TextModel

OPTIONS = sorted(path.stem for path in (conf_dir() / "model").glob("*.yaml"))
STUDENTS = {"tinybert": "minilm", "tinybert_aligned": "minilm", "tinybert6": "bert_base", "distilbert": "minilm"}
DUAL = {"clip": None, "clip_small": None, "clip_tiny": "clip_small"} | {
    f"clip_vit_{k}": None for k in ("b16", "b32", "l14")
}
TAUGHT = {**STUDENTS, **DUAL}
NEEDED = {"hf": ["model.path=some/model"], "clip": ["model.architecture=RN50"]}


def composed(*overrides: str) -> Any:
    return compose(list(overrides))


def test_every_option_of_the_issue_is_there() -> None:
    assert sorted(["bert_base", "hf", "minilm", "none", "timm", *STUDENTS, *DUAL]) == OPTIONS


@pytest.mark.parametrize("option", [name for name in OPTIONS if name != "none"])
def test_every_model_builds_a_recipe(option: str) -> None:
    cfg = composed(f"model={option}", *NEEDED.get(option, []))
    recipe = build(cfg.model)
    assert isinstance(recipe, ClipModel if option in DUAL else ImageModel if option == "timm" else TextModel)
    assert recipe.name == option
    assert cfg.teacher.get("name") == TAUGHT.get(option)


def test_the_small_dual_encoder_has_one_million_parameters_for_images(tmp_path: Path) -> None:
    cfg = composed("model=clip_tiny", f"store={tmp_path}")
    assert cfg.dataset.name == "emoji"
    student = build(cfg.model).resolve(build(cfg.teacher))
    config = student.config()
    assert (config["text_cfg"]["vocab_size"], config["text_cfg"]["eos_id"], config["text_cfg"]["pad_id"]) == (
        30522,
        102,
        0,
    )
    texts = 30522 * 128 + 32 * 128 + 4 * 198_272 + 256 + 128 * 256
    assert 0.9e6 < student.parameters() - texts < 1.2e6
    assert student.settings()["mean"] == [0.5, 0.5, 0.5]
    assert (student.preprocessor() / "preprocess.json").is_file()


def test_the_command_line_chooses_another_teacher() -> None:
    cfg = composed("model=tinybert", "model@teacher=hf", "teacher.path=x")
    assert (cfg.model.name, cfg.teacher.name, cfg.teacher.path) == ("tinybert", "hf", "x")
    assert composed("model=tinybert", "model@teacher=none").teacher == {}
    assert composed("model@teacher=tinybert").teacher.name == "tinybert"
    assert composed("model=tinybert", "dataset=csv", "dataset.path=x").dataset.name == "csv"


@pytest.mark.parametrize(
    ("option", "millions"), [("tinybert", 14.35), ("tinybert_aligned", 14.97), ("distilbert", 17.39)]
)
def test_students_are_smaller_than_their_teacher(option: str, millions: float) -> None:
    cfg = composed(f"model={option}")
    teacher = build(cfg.teacher)
    student = build(cfg.model).resolve(teacher)
    assert round(student.parameters() / 1e6, 2) == millions
    assert student.parameters() < teacher.parameters()


def test_headers_show_a_command() -> None:
    for option in OPTIONS:
        text = Path(conf_dir() / "model" / f"{option}.yaml").read_text()
        assert text.startswith("# ")
        assert "#   python run.py " in text
