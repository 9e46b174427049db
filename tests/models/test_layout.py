from __future__ import annotations

import pytest
import torch

from modelpress.models import layout
from tests.models.conftest import tiny

FAMILIES = ["bert", "roberta", "electra", "distilbert"]


@pytest.mark.parametrize("model_type", FAMILIES)
def test_reading_and_writing_moves_every_weight(model_type: str) -> None:
    source, target = tiny(model_type, seed=1), tiny(model_type, seed=2)
    layout.write(target, layout.read(source))
    ids = torch.arange(5, 25)[None]
    assert torch.equal(target(ids).logits, source(ids).logits)


def test_distilbert_takes_bert_for_single_sentences() -> None:
    """Token type 0 goes into the positions; the heads differ (tanh, relu), so the last hidden states are compared."""
    bert, distilbert = tiny("bert"), tiny("distilbert", seed=3)
    layout.write(distilbert, layout.read(bert))
    ids = torch.arange(5, 25)[None]
    ours, theirs = distilbert.distilbert(ids).last_hidden_state, bert.bert(ids).last_hidden_state
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("source", "target"), [("roberta", "bert"), ("bert", "roberta"), ("distilbert", "bert")])
def test_positions_are_shifted_between_families(source: str, target: str) -> None:
    eps = {"layer_norm_eps": 1e-12} if target != "distilbert" else {}
    teacher = tiny(source, **({"layer_norm_eps": 1e-12} if source != "distilbert" else {}))
    student = tiny(target, seed=3, **eps)
    layout.write(student, layout.read(teacher))
    ids = torch.arange(5, 25)[None]
    ours, theirs = student.base_model(ids).last_hidden_state, teacher.base_model(ids).last_hidden_state
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


def test_token_types_are_repeated_where_the_teacher_has_one() -> None:
    student = tiny("bert")
    layout.write(student, layout.read(tiny("roberta", seed=1)))
    table = student.bert.embeddings.token_type_embeddings.weight
    assert table.shape == (2, 24)
    assert torch.equal(table[0], table[1])


def test_supported_layouts() -> None:
    assert layout.supported(tiny("electra"))
    assert not layout.supported(tiny("electra", embedding_size=16))
    assert not layout.supported(tiny("albert"))
