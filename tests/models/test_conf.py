"""conf/model: every option composes, alone and as a teacher."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from modelpress.config import build, compose, conf_dir
from modelpress.models.text import TextModel

OPTIONS = sorted(path.stem for path in (conf_dir() / "model").glob("*.yaml"))
STUDENTS = {"tinybert": "minilm", "tinybert_aligned": "minilm", "tinybert6": "bert_base", "distilbert": "minilm"}


def composed(*overrides: str) -> Any:
    return compose(list(overrides))


def test_every_option_of_the_issue_is_there() -> None:
    assert ["bert_base", "distilbert", "hf", "minilm", "none", *sorted(set(STUDENTS) - {"distilbert"})] == OPTIONS


@pytest.mark.parametrize("option", [name for name in OPTIONS if name != "none"])
def test_every_model_builds_a_recipe(option: str) -> None:
    cfg = composed(f"model={option}", *(["model.path=some/model"] if option == "hf" else []))
    recipe = build(cfg.model)
    assert isinstance(recipe, TextModel)
    assert recipe.name == option
    assert cfg.teacher.get("name") == STUDENTS.get(option)


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
