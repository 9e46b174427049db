"""Which layers get twins, who shares an input, and that everything can be put back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from modelpress.errors import ModelPressError
from modelpress.models.attention import PRODUCTS, SCORES
from modelpress.quantization import attach
from modelpress.quantization.attach import Scope, quantizers_of, set_mode, twins_of
from modelpress.quantization.calibrate import Recipe, calibrate
from modelpress.quantization.layers import QuantizedEmbedding, QuantizedLayer
from modelpress.quantization.quantizers import DynamicQuantizer, FloatInput, InputQuantizer
from tests.models.conftest import classifier, tokenizer_folder
from tests.quantization import small

__all__ = ["classifier", "tokenizer_folder"]


def ready(kind: type[nn.Module] = small.Shared, **scope: Any) -> small.Small:
    """Attached and calibrated."""
    model = small.model(kind)
    attach.attach(model, Scope(**scope))
    calibrate(model, small.batches(kind), Recipe())
    return model


def test_bert_shares_one_quantizer_for_q_k_and_v(classifier: Callable[..., Any]) -> None:
    model = classifier()
    twins = attach.attach(model, Scope())
    assert len(twins) == 3 + 4 * 6 + 1  # tables, layers, pooler
    assert attach.float_layers(model) == ["network.classifier"]
    own = model.network.bert.encoder.layer[2].attention.self
    assert own.query.inputs is own.key.inputs is own.value.inputs
    assert own.query.inputs.readers == 3
    quantizers = quantizers_of(model)
    assert len(quantizers) == 4 * 4 + 1
    assert "network.bert.encoder.layer.2.attention.self.query" in quantizers
    assert {q.readers for name, q in quantizers.items() if "self" not in name} == {1}
    assert all(type(q) is InputQuantizer for q in quantizers.values())
    total = sum(p.numel() for p in model.parameters() if p.ndim >= 2)
    assert attach.coverage(model) == pytest.approx(1 - model.network.classifier.weight.numel() / total)


@pytest.mark.parametrize("model_type", ["roberta", "electra", "distilbert", "albert"])
def test_other_encoders_share_too(model_type: str, classifier: Callable[..., Any]) -> None:
    model = classifier(model_type)
    before = model(model.example()).logits
    attach.attach(model, Scope())
    assert 3 in {quantizer.readers for quantizer in quantizers_of(model).values()}
    assert attach.coverage(model) > 0.95
    set_mode(model, "float")
    assert torch.equal(model(model.example()).logits, before)
    calibrate(model, [model.example()], Recipe(balance=None))
    assert not torch.equal(model(model.example()).logits, before)
    torch.testing.assert_close(model(model.example()).logits, before, atol=0.3, rtol=0)


def test_a_forward_pass_quantizes_a_shared_input_once(
    classifier: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = classifier()
    attach.attach(model, Scope())
    calibrate(model, [model.example()], Recipe())
    runs: list[int] = []
    original = InputQuantizer.quantized

    def counted(self: InputQuantizer, x: Tensor) -> Tensor:
        runs.append(id(self))
        return original(self, x)

    monkeypatch.setattr(InputQuantizer, "quantized", counted)
    for mode in (model.eval, model.train):
        mode()
        runs.clear()
        model(model.example())
        assert len(runs) == len(set(runs)) == len(quantizers_of(model)) == 17


def test_the_same_batch_twice_is_never_stale() -> None:
    """q, k and v read the batch's own tensor here, which outlives the forward pass."""
    model = ready()
    batch = small.batches(count=1)[0]
    first = small.logits(model, batch)
    assert torch.equal(small.logits(model, batch), first)
    quantizers_of(model)["network.q"].scale.mul_(20)
    assert (small.logits(model, batch) - first).abs().max() > 0.01
    for quantizer in quantizers_of(model).values():
        quantizer.learn()
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    losses = []
    for _ in range(3):  # a memory of the step before would stop: "backward through the graph a second time"
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(small.logits(model, batch), batch["labels"])
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[2] < losses[1] < losses[0]


class Two(nn.Module):
    """A Linear and a Conv2d read the same tensor (B, 4, 4, 4); one Linear has two names."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.linear = nn.Conv2d(4, 4, 1), nn.Linear(4, 4)
        self.again = self.linear
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head((self.again(self.conv(x) + self.linear(x))).mean((1, 2)))
        return logits


def test_a_linear_and_a_convolution_do_not_share() -> None:
    model = small.Small(Two(), torch.randn(2, 4, 4, 4))
    attach.attach(model, Scope())
    conv, linear = small.layer(model, "conv"), small.layer(model, "linear")
    assert conv.inputs is not linear.inputs
    assert (conv.inputs.axis, linear.inputs.axis) == (1, -1)
    calibrate(model, [model.example()], Recipe(balance=1.0))
    assert linear.inputs.balance is not None
    assert conv.inputs.balance is None
    assert torch.isfinite(small.logits(model, model.example())).all()


def test_a_layer_of_two_names_is_replaced_under_both() -> None:
    model = small.Small(Two(), torch.randn(2, 4, 4, 4))
    plain = small.layer(model, "linear")
    attach.attach(model, Scope())
    assert small.layer(model, "linear") is small.layer(model, "again") is not plain
    with attach.plain(model):
        assert small.layer(model, "linear") is small.layer(model, "again") is plain
    assert small.layer(model, "linear") is small.layer(model, "again") is not plain
    attach.release(model, ["network.linear"])
    assert small.layer(model, "linear") is small.layer(model, "again") is plain


def test_scope_says_what_is_quantized() -> None:
    assert set(attach.attach(small.model(small.Tables), Scope(embeddings=False))) == {"network.body"}
    assert set(attach.attach(small.model(small.Tables), Scope())) == {"network.table", "network.body"}
    model = small.model()
    assert set(attach.attach(model, Scope(exclude=("network.[qk]", "*.out")))) == {"network.v"}
    assert quantizers_of(model)["network.v"].readers == 1
    assert attach.float_layers(model) == ["network.q", "network.k", "network.out", "network.head"]


def test_dynamic_scope() -> None:
    model = small.model()
    attach.attach(model, Scope(activations="dynamic"))
    assert {type(q) for q in quantizers_of(model).values()} == {DynamicQuantizer}
    images = small.model(small.Convolutions)
    attach.attach(images, Scope(activations="dynamic"))
    assert {type(q) for q in quantizers_of(images).values()} == {FloatInput}


def test_attention_products_are_an_option(classifier: Callable[..., Any]) -> None:
    model = classifier()
    attach.attach(model, Scope(attention=True))
    names = [name for name in quantizers_of(model) if PRODUCTS in name]
    assert len(names) == 4 * 4
    assert names[0] == "network.bert.encoder.layer.0.attention.self.product_inputs.q"
    assert model.network.config._attn_implementation == SCORES


def test_attention_of_unknown_spelling_stops_before_anything_changes(classifier: Callable[..., Any]) -> None:
    for model in (classifier("mpnet", pad_token_id=1, max_position_embeddings=42), small.model()):
        with pytest.raises(ModelPressError, match="attention.* cannot be quantized"):
            attach.attach(model, Scope(attention=True))
        assert not twins_of(model)


def test_nothing_to_quantize_is_said() -> None:
    class Bare(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.head = nn.LayerNorm(small.WIDTH), nn.Linear(small.WIDTH, 3)

        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = self.head(self.norm(x))
            return logits

    model = small.Small(Bare(), torch.randn(2, small.WIDTH))
    message = r"Small has no layer to quantize \(Conv2d, Embedding, Linear are known, 1 found, 1 excluded\)"
    with pytest.raises(ModelPressError, match=message):
        attach.attach(model, Scope())
    tables = small.model(small.Tables)
    with pytest.raises(ModelPressError, match="no layer to quantize"):  # a table alone saves no time
        attach.attach(tables, Scope(exclude=("*.body",)))
    assert not twins_of(tables)


def test_an_exclusion_that_matches_nothing_is_a_typo() -> None:
    with pytest.raises(ModelPressError, match=r"transform.exclude: '\*.kwery' matches no layer. Layers: network.q,"):
        attach.attach(small.model(), Scope(exclude=("*.out", "*.kwery")))


class Recurrent(nn.Module):
    """A kind of layer that nobody knows how to quantize."""

    def __init__(self) -> None:
        super().__init__()
        self.memory, self.body, self.head = nn.GRU(8, 8, batch_first=True), nn.Linear(8, 8), nn.Linear(8, 3)
        self.start = nn.Parameter(torch.zeros(1, 1, 8))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(torch.relu(self.body(self.memory(x + self.start)[0].mean(1))))
        return logits


def test_what_escapes_is_measured_and_named() -> None:
    model = small.Small(Recurrent(), torch.randn(2, 5, 8))
    attach.attach(model, Scope())
    total = 2 * 24 * 8 + 64 + 24 + 8
    assert attach.coverage(model) == pytest.approx(64 / total)
    assert attach.escaped(model, ()) == (
        pytest.approx((2 * 24 * 8 + 8) / total),
        ["network (Recurrent)", "network.memory (GRU)"],
    )
    assert attach.escaped(model, ("*.memory",)) == (pytest.approx(8 / total), ["network (Recurrent)"])
    assert attach.escaped(ready(small.Tables), ()) == (0.0, [])
    excluded = small.Small(Recurrent(), torch.randn(2, 5, 8))
    assert set(attach.attach(excluded, Scope(exclude=("network.memory",)))) == {"network.body"}


@contextmanager
def unchanged(model: small.Small) -> Iterator[None]:
    """Same modules, names and numbers afterwards."""
    batch = small.batches(count=1)[0]
    modules, names, before = dict(model.named_modules()), list(model.state_dict()), small.logits(model, batch)
    yield
    assert dict(model.named_modules()) == modules
    assert list(model.state_dict()) == names
    assert torch.equal(small.logits(model, batch), before)
    assert not any(quantizer.exporting for quantizer in quantizers_of(model).values())
    assert all(twin.integers is None for twin in twins_of(model).values())


def test_plain_gives_the_float_network_back_for_a_while() -> None:
    reference = small.model()
    batch = small.batches(count=1)[0]
    model = ready()
    with unchanged(model), attach.plain(model):
        assert list(model.state_dict()) == list(reference.state_dict())
        assert torch.equal(small.logits(model, batch), small.logits(reference, batch))
        assert [type(module) for module in model.modules()] == [type(module) for module in reference.modules()]
    with unchanged(model), pytest.raises(KeyError), attach.plain(model):
        raise KeyError


def test_plain_takes_the_products_quantizers_out_too(classifier: Callable[..., Any]) -> None:
    model = classifier()
    names = list(model.state_dict())
    attach.attach(model, Scope(attention=True))
    quantized = list(model.state_dict())
    with attach.plain(model):
        assert list(model.state_dict()) == names
    assert list(model.state_dict()) == quantized


def test_exporting_ends_whatever_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    model = ready()
    with unchanged(model), attach.exporting(model):
        assert all(quantizer.exporting for quantizer in quantizers_of(model).values())
    with unchanged(model), pytest.raises(KeyError), attach.exporting(model):
        raise KeyError

    original, started = QuantizedLayer.start_export, []

    def start(self: QuantizedLayer) -> None:
        original(self)
        started.append(self)
        if len(started) == 2:
            raise MemoryError

    monkeypatch.setattr(QuantizedLayer, "start_export", start)
    with unchanged(model), pytest.raises(MemoryError), attach.exporting(model):
        pass
    assert len(started) == 2


def test_release_is_for_good() -> None:
    model = ready()
    attach.release(model, ["network.out"])
    assert set(twins_of(model)) == {"network.q", "network.k", "network.v"}
    assert type(small.layer(model, "out")) is nn.Linear
    assert attach.float_layers(model) == ["network.out", "network.head"]
    assert "network.out" not in quantizers_of(model)
    with pytest.raises(KeyError):
        attach.release(model, ["network.out"])


def test_modes_reach_every_layer() -> None:
    model = ready(small.Tables)
    set_mode(model, "float")
    reference = small.model(small.Tables)
    batch = small.batches(small.Tables, 1)[0]
    assert torch.equal(small.logits(model, batch), small.logits(reference, batch))
    table = small.layer(model, "table")
    assert isinstance(table, QuantizedEmbedding)
    assert not table.active
    set_mode(model, "int8")
    assert table.active
    assert not torch.equal(small.logits(model, batch), small.logits(reference, batch))


def test_layers_that_the_example_does_not_reach_stand_alone() -> None:
    class Idle(small.Shared):
        def __init__(self) -> None:
            super().__init__()
            self.idle = nn.Linear(small.WIDTH, small.WIDTH)

    model = small.Small(Idle(), torch.randn(2, small.WIDTH))
    attach.attach(model, Scope())
    assert quantizers_of(model)["network.idle"].readers == 1
    with pytest.raises(ModelPressError, match="'network.idle' saw no value"):
        calibrate(model, small.batches(), Recipe())
