from __future__ import annotations

import pytest

from modelpress.errors import ModelPressError
from modelpress.models.architecture import inherit, layer_map, read, write
from tests.models.conftest import tiny

FAMILIES = ["bert", "roberta", "electra", "distilbert"]


@pytest.mark.parametrize("labels", [2, 5])
@pytest.mark.parametrize("model_type", FAMILIES)
def test_parameters_equal_the_real_count(model_type: str, labels: int) -> None:
    network = tiny(model_type, labels=labels)
    numbers = read(network.config.to_dict())
    assert numbers is not None
    assert numbers.parameters(labels) == sum(p.numel() for p in network.parameters())


def test_narrow_embeddings_of_electra_are_counted() -> None:
    network = tiny("electra", embedding_size=16)
    numbers = read(network.config.to_dict())
    assert numbers is not None
    assert numbers.parameters(3) == sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize(
    ("model_type", "published"), [("bert", 109_483_778), ("distilbert", 66_955_010), ("electra", 13_549_314)]
)
def test_defaults_give_the_published_sizes(model_type: str, published: int) -> None:
    numbers = read({"model_type": model_type})
    assert numbers is not None
    assert numbers.parameters(2) == published


@pytest.mark.parametrize("model_type", ["bert", "roberta", "xlm-roberta", "camembert", "distilbert", "electra"])
def test_defaults_are_those_of_transformers(model_type: str) -> None:
    from transformers import AutoConfig

    assert read({"model_type": model_type}) == read(AutoConfig.for_model(model_type).to_dict())


def test_unknown_type_is_none_and_null_stays_unknown() -> None:
    assert read({"model_type": "mamba"}) is None
    numbers = read({"model_type": "bert", "hidden_size": None})
    assert numbers is not None
    assert numbers.hidden_size is None
    assert numbers.parameters() is None


def test_write_uses_the_spelling_of_the_type() -> None:
    numbers = read({"model_type": "distilbert", "dim": 30, "n_layers": 2})
    assert numbers is not None
    assert write(numbers)["dim"] == 30
    assert "type_vocab_size" not in write(numbers)


def test_inherit_takes_widths_and_half_the_layers() -> None:
    teacher = read({"model_type": "roberta", "hidden_size": 40, "num_hidden_layers": 6, "type_vocab_size": 1})
    student = read({"model_type": "distilbert", "dim": None, "n_layers": None, "max_position_embeddings": None})
    assert teacher is not None
    assert student is not None
    taken = inherit(student, teacher)
    assert (taken.hidden_size, taken.num_hidden_layers, taken.max_position_embeddings) == (40, 3, 510)


@pytest.mark.parametrize(
    ("student", "teacher", "expected"),
    [(4, 6, [0, 2, 3, 5]), (6, 12, [1, 3, 5, 7, 9, 11]), (6, 6, [0, 1, 2, 3, 4, 5]), (3, 6, [1, 3, 5]), (1, 6, [5])],
)
def test_uniform_layer_map(student: int, teacher: int, expected: list[int]) -> None:
    assert layer_map("uniform", student, teacher) == expected


@pytest.mark.parametrize("wrong", ["every", [0, 1], [0, 1, 6], [-1, 1, 2]])
def test_layer_maps_that_do_not_fit_are_refused(wrong: str | list[int]) -> None:
    with pytest.raises(ModelPressError, match="layer_map"):
        layer_map(wrong, 3, 6)
