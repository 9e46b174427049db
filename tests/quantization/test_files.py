"""A quantized network on disk: the float network under its own names, and the ranges beside it."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from modelpress.models.base import load, save
from modelpress.models.numerics import Numerics
from modelpress.quantization.attach import quantizers_of, twins_of
from modelpress.quantization.files import TENSORS
from modelpress.transforms.base import Context
from modelpress.transforms.quantize import Quantize
from tests.models.conftest import classifier, tokenizer_folder

__all__ = ["classifier", "tokenizer_folder"]
OPTIONS: dict[str, dict[str, Any]] = {
    "static": {},
    "plain": {"balance": None, "bias_correction": False},
    "dynamic": {"activations": "dynamic"},
    "attention": {"attention": True},
    "some attention": {"attention": True, "exclude": ["*.layer.1.*"]},
    "partial": {"embeddings": False, "exclude": ["*.layer.1.*", "*.pooler.*"]},
    "learned": {"ranges": "learned"},
}


def texts(count: int = 4, length: int = 9) -> list[dict[str, Tensor]]:
    """Random ids without padding."""
    numbers = torch.Generator().manual_seed(0)
    found = []
    for _ in range(count):
        ids = torch.randint(5, 95, (4, length), generator=numbers)
        found.append({"input_ids": ids, "attention_mask": torch.ones_like(ids), "token_type_ids": ids % 2})
    return found


def quantized(model: Any, **options: Any) -> Any:
    transform = Quantize(samples=16, **options)
    context = Context(model.example(), lambda samples, draw: texts(), list)
    return transform.finalize(transform.prepare(model, context))


def tensors(path: Path) -> dict[str, Tensor]:
    with safe_open(path, "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (no mapping)


@pytest.mark.parametrize("name", OPTIONS)
def test_what_is_loaded_is_bit_equal(name: str, classifier: Callable[..., Any], tmp_path: Path) -> None:
    model = quantized(classifier(), **OPTIONS[name])
    save(model, tmp_path)
    again = load(tmp_path)
    assert again.numerics == model.numerics
    assert list(twins_of(again)) == list(twins_of(model))
    assert list(quantizers_of(again)) == list(quantizers_of(model))
    assert [q.readers for q in quantizers_of(again).values()] == [q.readers for q in quantizers_of(model).values()]
    for batch in (model.example(), *texts(1, 30)):
        with torch.no_grad():
            assert torch.equal(again(batch).logits, model(batch).logits)
    second = tmp_path / "second"
    save(again, second)
    for file in ("model.safetensors", TENSORS, "numerics.json"):
        assert (second / file).read_bytes() == (tmp_path / file).read_bytes()


def test_the_weights_keep_names_and_numbers_of_the_plain_network(
    classifier: Callable[..., Any], tmp_path: Path
) -> None:
    plain = classifier()
    save(plain, tmp_path / "plain")
    assert {path.name for path in (tmp_path / "plain").iterdir()}.isdisjoint({TENSORS, "numerics.json"})
    for name in ("static", "attention"):
        model = quantized(classifier(), **OPTIONS[name])
        inside = list(model.state_dict())
        save(model, tmp_path / name)
        assert list(model.state_dict()) == inside
        weights, expected = (tensors(tmp_path / folder / "model.safetensors") for folder in (name, "plain"))
        assert list(weights) == list(expected)
        assert all(torch.equal(weights[key], expected[key]) for key in expected)
        ours = json.loads((tmp_path / name / "config.json").read_text())
        assert ours == json.loads((tmp_path / "plain" / "config.json").read_text())


@pytest.mark.parametrize("name", ["static", "attention"])
def test_transformers_opens_the_folder(name: str, classifier: Callable[..., Any], tmp_path: Path) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    reference = classifier()
    save(quantized(classifier(), **OPTIONS[name]), tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        opened: Any = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    batch = reference.example()
    torch.testing.assert_close(opened(**batch).logits, reference(batch).logits, atol=1e-6, rtol=0)
    assert AutoTokenizer.from_pretrained(tmp_path).vocab_size == 95


def test_what_lies_beside_the_weights(classifier: Callable[..., Any], tmp_path: Path) -> None:
    model = quantized(classifier(), **OPTIONS["partial"])
    save(model, tmp_path)
    record = json.loads((tmp_path / "numerics.json").read_text())
    assert (record["kind"], record["activations"], record["samples"], record["draw"]) == ("int8", "static", 16, 0)
    assert len(record["float_layers"]) == 3 + 6 + 1 + 1
    assert 0 < record["coverage"] < 0.75
    found = tensors(tmp_path / TENSORS)
    quantizers = quantizers_of(model)
    assert {name for name in found if name.endswith(".scale")} == {f"{name}.scale" for name in quantizers}
    assert all(found[f"{name}.scale"].shape == () for name in quantizers)
    assert all(found[f"{name}.correction"].ndim == 1 for name in twins_of(model))
    balanced = {f"{name}.balance" for name, quantizer in quantizers.items() if quantizer.balance is not None}
    assert {name for name in found if name.endswith(".balance")} == balanced


def test_a_float_model_takes_an_earlier_saves_files_away(classifier: Callable[..., Any], tmp_path: Path) -> None:
    save(quantized(classifier()), tmp_path)
    save(classifier(), tmp_path)
    assert not (tmp_path / TENSORS).exists()
    assert not (tmp_path / "numerics.json").exists()
    assert load(tmp_path).numerics is None


def test_sixteen_bits_have_no_ranges(classifier: Callable[..., Any], tmp_path: Path) -> None:
    save(quantized(classifier()), tmp_path)
    model = classifier()
    model.numerics = Numerics("bf16", {"float_layers": ["network.classifier"]})
    save(model, tmp_path)
    assert not (tmp_path / TENSORS).exists()
    assert load(tmp_path).numerics == model.numerics
    assert not twins_of(load(tmp_path))
