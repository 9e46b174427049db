"""Layers that overflow are found where it begins, and pinned; the exported graph is then right, and wrong without."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from modelpress.errors import ModelPressError
from modelpress.export.onnx import graph_of
from modelpress.export.typed import convert
from modelpress.export.typed_run import run
from modelpress.quantization.overflow import Limits, Search
from tests import tinyclip
from tests.quantization import loud

LIMITS = Limits(difference=0.02, agreement=0.98)


def test_the_culprit_is_named_with_its_value() -> None:
    model, batches = loud.model(), loud.batches()
    network: Any = model.network
    largest = max(float(network.loud(network.first(batch["x"])).detach().abs().max()) for batch in batches)
    found = Search(model, "fp16", batches).overflows()
    assert found == {"network.loud": pytest.approx(largest)}
    assert largest > 65504
    assert Search(model, "bf16", batches).overflows() == {}
    assert Search(model, "fp16", loud.batches(scale=1.0)).overflows() == {}


def test_without_the_pin_answers_are_lost_and_with_it_they_are_right() -> None:
    search = Search(loud.model(), "fp16", loud.batches())
    assert search.compare()[0] == np.inf
    assert search.compare(["network.loud"]) == (pytest.approx(0, abs=0.01), pytest.approx(1, abs=0.05))


def test_settled() -> None:
    settled = Search(loud.model(), "fp16", loud.batches()).settle((), LIMITS)
    assert list(settled.pinned) == list(settled.overflowed) == ["network.loud"]
    assert settled.heads == ("network.head",)
    assert settled.largest[0] == "network.first"
    assert 1e3 < settled.largest[1] < 65504
    assert settled.parameters == {
        f"network.{layer}.{part}" for layer in ("first", "quiet") for part in ("weight", "bias")
    }
    assert settled.difference <= LIMITS.difference
    assert settled.agreement >= LIMITS.agreement


def test_the_exported_graph_is_right_because_of_the_pin() -> None:
    """ONNX's reference evaluator rounds as the types say; ONNX Runtime must agree that nothing else is wrong."""
    model, batches = loud.model(), loud.batches()
    settled = Search(model, "fp16", batches).settle((), LIMITS)
    exact = graph_of(model.towers()[0])
    inputs = {"x": torch.cat([batch["x"] for batch in batches]).numpy()}
    logits = model({"x": torch.from_numpy(inputs["x"])}).logits.detach().numpy()
    pinned = convert(exact, "fp16", pinned=[*settled.pinned, *settled.heads])
    assert np.abs(run(pinned, inputs)["logits"] - logits).max() == pytest.approx(settled.difference, rel=0.5)
    session = onnxruntime.InferenceSession(pinned.SerializeToString(), providers=["CPUExecutionProvider"])
    assert np.abs(session.run(["logits"], inputs)[0] - logits).max() <= LIMITS.difference
    lost = run(convert(exact, "fp16"), inputs)["logits"]
    assert not np.isfinite(lost).all()


class Residual(nn.Module):
    """Two products within range whose sum is not; the next product reads it."""

    def __init__(self) -> None:
        super().__init__()
        self.block, self.norm, self.head = Sum(), nn.LayerNorm(loud.WIDTH), nn.Linear(loud.WIDTH, 2)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.norm(self.block(x)))
        return logits


class Sum(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.after = (nn.Linear(loud.WIDTH, loud.WIDTH, bias=False) for _ in range(3))
        for layer in (self.left, self.right, self.after):
            nn.init.eye_(layer.weight)

    def forward(self, x: Tensor) -> Tensor:
        after: Tensor = self.after(self.left(x) + self.right(x))
        return after


def test_sums_between_layers_are_watched_too() -> None:
    """The reader is pinned first; the sum, which runs in no layer of its own, needs its whole block."""
    batches = [{"x": torch.full((4, loud.WIDTH), 40000.0) + torch.arange(loud.WIDTH)}]
    search = Search(loud.Wrapped(Residual()), "fp16", batches)
    assert search.overflows() == {"network.block.after": 80014.0, "network.block": 80014.0}
    assert search.compare(["network.block"])[0] < 0.01
    assert search.compare(["network.block.after"])[0] == np.inf


def test_what_the_user_pins_stays_pinned() -> None:
    settled = Search(loud.model(), "fp16", loud.batches()).settle(["network.first"], LIMITS)
    assert list(settled.pinned) == ["network.first", "network.loud"]
    assert list(settled.overflowed) == ["network.loud"]
    assert 1e3 < settled.pinned["network.first"] < 65504


def test_the_least_exact_layer_is_pinned_next() -> None:
    """Weights below fp16's smallest number vanish: no overflow, but the answer is wrong until they are float32."""
    model = loud.model(loudness=1e3)
    network: Any = model.network
    with torch.no_grad():
        network.first.weight.mul_(1e-9)
        network.first.bias.zero_()
        network.loud.bias.zero_()
        network.norm.eps = 1e-20
    search = Search(model, "fp16", loud.batches(scale=1e3))
    assert search.overflows() == {}
    assert search.compare()[0] > LIMITS.difference
    settled = search.settle((), LIMITS)
    assert next(iter(settled.pinned)) == "network.first"
    assert settled.overflowed == {}
    assert settled.difference <= LIMITS.difference


def test_what_cannot_be_helped_is_refused() -> None:
    search = Search(loud.model(), "fp16", loud.batches())
    with pytest.raises(ModelPressError, match=r"fp16 is of no use .*network\.loud values overflow.*limit 1e-12.*bf16"):
        search.settle((), Limits(1e-12, 1.0))
    alone = Search(loud.Wrapped(nn.Linear(loud.WIDTH, 2)), "bf16", loud.batches(scale=1.0))
    with pytest.raises(ModelPressError, match=r"bf16 is of no use .*nothing remains"):
        alone.settle((), LIMITS)


class Bare(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.mm(x, torch.eye(loud.WIDTH)[:, :2])


def test_an_overflow_outside_all_layers_is_told() -> None:
    model = loud.Wrapped(Bare())
    model.forward = lambda batch: type(
        "O", (), {"logits": torch.mm(batch["x"] * 1.0, torch.ones(loud.WIDTH, 2)), "embeddings": None}
    )()  # type: ignore[method-assign]
    with pytest.raises(ModelPressError, match=r"overflows outside all layers of Wrapped"):
        Search(model, "fp16", loud.batches(scale=1e5)).overflows()


def test_broken_before_is_not_our_fault() -> None:
    model = loud.model()
    with pytest.raises(ModelPressError, match="no calibration data"):
        Search(model, "fp16", [])
    network: Any = model.network
    network.head.bias.data.fill_(torch.nan)
    with pytest.raises(ModelPressError, match="already in float32"):
        Search(model, "bf16", loud.batches())


def test_the_scale_of_a_dual_encoder_does_not_count(tmp_path: Path) -> None:
    """Cosines are compared: with CLIP's scale of 100, logits would differ by a hundred times as much."""
    model = tinyclip.dual(tmp_path, tinyclip.CONFIG)
    found = []
    for scale in (0.0, math.log(100)):
        with torch.no_grad():
            model.logit_scale.fill_(scale)
        found.append(Search(model, "fp16", [tinyclip.batch(8, seed=10)]).compare())
    assert found[0] == found[1]
    assert 0 < found[0][0] < 0.005


def test_a_caption_that_stands_twice_is_one_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rounding decides between equal texts, which is no disagreement; between others it is one."""
    model = tinyclip.dual(tmp_path, tinyclip.CONFIG)
    search = Search(model, "fp16", [tinyclip.batch(4, seed=10)])
    search.reference = torch.tensor([[1.0, 1.0 - 1e-6, 0.0], [0.5, 0.2, 0.1]])
    for rounded, agreement in (([[0.9, 1.0, 0.0], [0.5, 0.2, 0.1]], 1.0), ([[0.0, 0.1, 1.0], [0.5, 0.2, 0.1]], 0.5)):
        monkeypatch.setattr(search, "_logits", lambda outputs, rounded=rounded: torch.tensor(rounded))
        assert search.compare()[1] == agreement
