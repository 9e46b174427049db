from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from modelpress.errors import ModelPressError
from modelpress.models.attention import (
    PLAIN,
    PRODUCTS,
    SCORES,
    collecting,
    plain_attention,
    quantized,
    scores_attention,
    using,
)
from tests.models.conftest import tiny

BOTH = frozenset({"attentions", "hidden_states"})


@pytest.mark.parametrize("model_type", ["bert", "roberta", "electra", "distilbert", "albert"])
def test_scores_are_those_of_eager_attention_and_logits_stay(model_type: str, classifier: Callable[..., Any]) -> None:
    model = classifier(model_type)
    batch = model.example()
    plain = model(batch).logits
    model.capture(BOTH)
    output = model(batch)
    torch.testing.assert_close(output.logits, plain, atol=1e-5, rtol=0)

    model.capture(frozenset())
    model.network.set_attn_implementation("eager")
    maps = model.network(**batch, output_attentions=True).attentions
    assert len(output.attentions) == len(maps) == 4
    bias = (1 - batch["attention_mask"][:, None, None, :].float()) * torch.finfo(torch.float32).min
    for scores, expected in zip(output.attentions, maps, strict=True):
        assert scores[1, :, :, 11:].abs().max() < 1e4  # the mask is not added
        torch.testing.assert_close(torch.softmax(scores + bias, -1), expected, atol=1e-6, rtol=1e-4)


def test_hidden_states_begin_with_the_embeddings(classifier: Callable[..., Any]) -> None:
    model = classifier()
    model.capture(frozenset({"hidden_states"}))
    batch = model.example()
    hidden = model(batch).hidden_states
    assert len(hidden) == model.num_layers + 1
    embedded = model.network.bert.embeddings(batch["input_ids"], batch["token_type_ids"])
    torch.testing.assert_close(hidden[0], embedded)
    torch.testing.assert_close(hidden[-1], model.network.bert(**batch).last_hidden_state)


def test_teacher_and_student_are_switched_apart(classifier: Callable[..., Any]) -> None:
    one, other = classifier(), classifier()
    one.capture(frozenset({"attentions"}))
    assert one(one.example()).attentions is not None
    assert other(other.example()).attentions is None
    assert one.network.config._attn_implementation == SCORES
    assert other.network.config._attn_implementation == "sdpa"
    one.capture(frozenset())
    assert one.network.config._attn_implementation == "sdpa"
    assert one(one.example()).attentions is None


def test_gradients_reach_the_scores_under_dropout_and_bf16(classifier: Callable[..., Any]) -> None:
    model = classifier().train()
    model.capture(frozenset({"attentions"}))
    with torch.autocast("cpu", torch.bfloat16):
        output = model(model.example())
    assert output.attentions[0].shape == (2, 4, 16, 16)
    sum(scores.float().square().mean() for scores in output.attentions).backward()
    query = model.network.bert.encoder.layer[3].attention.self.query.weight
    assert torch.isfinite(query.grad).all()
    assert query.grad.abs().max() > 0


def test_attention_dropout_drops_only_in_training() -> None:
    network = tiny(attention_probs_dropout_prob=0.5, hidden_dropout_prob=0.0, classifier_dropout=0.0)
    ids = torch.arange(5, 15)[None]
    still = network(ids).logits
    with using(network, SCORES), collecting() as quiet:
        torch.testing.assert_close(network(ids).logits, still, atol=1e-5, rtol=0)
    network.train()
    with using(network, SCORES), collecting() as dropped:
        assert not torch.allclose(network(ids).logits, still, atol=1e-4)
    torch.testing.assert_close(dropped[0], quiet[0])  # the first layer's scores lie before any dropout


def test_networks_with_attention_of_their_own_say_so(classifier: Callable[..., Any]) -> None:
    model = classifier("mpnet", pad_token_id=1, max_position_embeddings=42)
    with pytest.raises(ModelPressError, match="mpnet network does not hand out"):
        model.capture(frozenset({"attentions"}))
    model.capture(frozenset({"hidden_states"}))
    assert len(model(model.example()).hidden_states) == 5


def test_unknown_captures_are_refused(classifier: Callable[..., Any]) -> None:
    with pytest.raises(ModelPressError, match="logitz"):
        classifier().capture(frozenset({"logitz"}))


def test_plain_attention_is_sdpa() -> None:
    q, k, v = torch.randn(3, 2, 4, 7, 5)
    mask = torch.zeros(2, 1, 1, 7)
    mask[1, ..., 4:] = torch.finfo(torch.float32).min
    ours, _ = plain_attention(torch.nn.Identity(), q, k, v, mask)
    expected = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    torch.testing.assert_close(ours, expected.transpose(1, 2))
    network = tiny()
    with using(network, PLAIN):
        assert network.config._attn_implementation == PLAIN
    assert network.config._attn_implementation == "sdpa"


class Recorder(torch.nn.Module):
    """Stands where a quantizer would: remembers its operand and hands on twice of it."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen = x
        return 2 * x


@pytest.mark.parametrize("function", [scores_attention, plain_attention])
def test_operands_of_both_products_pass_their_quantizers(function: Callable[..., Any]) -> None:
    q, k, v = torch.randn(3, 2, 4, 7, 5)
    layer = torch.nn.Identity()
    bare, _ = function(layer, q, k, v, None)
    torch.testing.assert_close(quantized(layer, "q", q), q)
    layer.add_module(PRODUCTS, torch.nn.ModuleDict({name: Recorder() for name in ("q", "k", "p", "v")}))
    found, _ = function(layer, q, k, v, None)
    seen = {name: module.seen for name, module in layer.get_submodule(PRODUCTS).items()}  # type: ignore[operator]
    torch.testing.assert_close(seen["q"], q * 5**-0.5)
    torch.testing.assert_close(seen["k"], k.transpose(2, 3))  # as the product takes it
    torch.testing.assert_close(seen["v"], v)
    weights = torch.softmax(4 * (q * 5**-0.5) @ k.transpose(2, 3), -1)
    torch.testing.assert_close(seen["p"], weights)
    torch.testing.assert_close(found, (2 * weights @ (2 * v)).transpose(1, 2))
    assert not torch.allclose(found, bare)


def test_captured_scores_are_those_of_the_quantized_operands(classifier: Callable[..., Any]) -> None:
    model = classifier()
    batch = model.example()
    plain = model(batch).logits
    layers = model.attention_layers()
    assert len(layers) == 4
    torch.testing.assert_close(model(batch).logits, plain, atol=1e-5, rtol=0)
    model.capture(frozenset({"attentions"}))
    before = model(batch).attentions
    for layer in layers:
        layer.add_module(PRODUCTS, torch.nn.ModuleDict({name: torch.nn.Identity() for name in ("k", "p", "v")}))
        layer.get_submodule(PRODUCTS).add_module("q", Recorder())
    after = model(batch).attentions
    torch.testing.assert_close(after[0], 2 * before[0], atol=1e-5, rtol=1e-5)
    model.capture(frozenset())
    assert model.network.config._attn_implementation == SCORES  # the quantizers stay in force


def test_only_plainly_written_attention_can_be_quantized(classifier: Callable[..., Any]) -> None:
    for model_type in ("mpnet", "albert"):
        numbers = {"pad_token_id": 1, "max_position_embeddings": 42} if model_type == "mpnet" else {}
        model = classifier(model_type, **numbers)
        before = model.network.config._attn_implementation
        with pytest.raises(ModelPressError, match=f"a {model_type} network cannot be quantized .*transform.attention"):
            model.attention_layers()
        assert model.network.config._attn_implementation == before


@pytest.mark.parametrize(("training", "tokens", "fused"), [(True, 8, False), (True, 300, True), (False, 8, True)])
def test_short_texts_train_without_the_fused_kernel(
    training: bool, tokens: int, fused: bool, classifier: Callable[..., Any]
) -> None:
    model = classifier(max_position_embeddings=512).train(training)
    seen = []
    model.network.classifier.register_forward_hook(lambda *_: seen.append(torch.backends.cuda.flash_sdp_enabled()))
    ids = torch.full((1, tokens), 7)
    model({"input_ids": ids, "attention_mask": torch.ones_like(ids), "token_type_ids": torch.zeros_like(ids)})
    assert seen == [fused]
    assert torch.backends.cuda.flash_sdp_enabled()
