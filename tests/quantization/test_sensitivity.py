"""One group of layers in INT8 at a time, against the same by hand in NumPy."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
import torch

from modelpress.quantization import sensitivity
from modelpress.quantization.attach import quantizers_of, twins_of
from modelpress.quantization.sensitivity import Answers, Sensitivity
from tests.quantization.uneven import CLASSES, Uneven, batches, calibrated, with_outlier


@pytest.fixture(scope="module")
def network() -> tuple[Uneven, list[dict[str, torch.Tensor]]]:
    model = Uneven({"calm": 0.0, "loud": 300.0})
    labelled = batches(model)
    calibrated(model, labelled)
    return model, labelled


@pytest.fixture(scope="module")
def rows(network: tuple[Uneven, list[dict[str, torch.Tensor]]]) -> list[Sensitivity]:
    return sensitivity.measure(*network)


def test_the_layer_with_an_outlier_comes_first(rows: list[Sensitivity]) -> None:
    assert rows[0].layers == ("loud.loud",)
    assert rows[0].output_error > 20 * rows[1].output_error
    assert rows[0].metric_drop > 0.05
    assert rows[0].disagreement >= rows[0].metric_drop
    assert [row.output_error for row in rows] == sorted((row.output_error for row in rows), reverse=True)


def test_groups_are_layers_with_one_input_and_tables(rows: list[Sensitivity]) -> None:
    found = {row.layers: row.parameters for row in rows}
    assert found == {
        ("table",): 32 * 16,
        ("left", "right"): 2 * 16 * 16,
        ("loud.calm",): 16 * 16,
        ("loud.loud",): 16 * 16,
        ("harmless",): 16,
        ("head",): CLASSES * 16,
    }


def test_error_drop_and_disagreement_against_numpy(
    network: tuple[Uneven, list[dict[str, torch.Tensor]]], rows: list[Sensitivity]
) -> None:
    """The last linear layer but one in INT8, every other step in float, written out."""
    model, labelled = network
    plain = Uneven({"calm": 0.0, "loud": 300.0})  # same seed: the same weights
    assert torch.equal(plain.head.weight, model.head.weight)
    with torch.no_grad():
        x = torch.cat([hidden(plain, batch["ids"]) for batch in labelled])
        inputs, weight = with_outlier(x, 300.0).double().numpy(), plain.loud["loud"].weight.double().numpy()
        inputs = rounded(inputs, np.abs(inputs).max() / 127)
        outputs = inputs @ rounded(weight, np.abs(weight).max(1, keepdims=True) / 127).T
        outputs += plain.loud["loud"].bias.double().numpy()
        head = plain.head.weight.double().numpy(), plain.head.bias.double().numpy()
        rest = np.tanh(outputs) * 2
        shift = with_outlier(torch.from_numpy(rest), 0.0).numpy() @ plain.harmless.weight.double().numpy().T
        logits = rest @ head[0].T + head[1] + shift
        wanted = torch.cat([plain(batch).logits for batch in labelled]).double().numpy()
    labels = torch.cat([batch["labels"] for batch in labelled]).numpy()
    row = next(row for row in rows if row.layers == ("loud.loud",))
    assert row.output_error == pytest.approx(((logits - wanted) ** 2).mean(), rel=1e-3)
    assert row.disagreement == pytest.approx((logits.argmax(1) != wanted.argmax(1)).mean(), abs=2 / len(labels))
    drop = (wanted.argmax(1) == labels).mean() - (logits.argmax(1) == labels).mean()
    assert row.metric_drop == pytest.approx(drop, abs=2 / len(labels))


def hidden(plain: Uneven, ids: torch.Tensor) -> torch.Tensor:
    x = plain.table(ids).mean(1)
    x = torch.tanh(plain.left(x) + plain.right(x)) * 2
    return torch.tanh(plain.loud["calm"](with_outlier(x, 0.0))) * 2


def rounded(values: np.ndarray, scale: Any) -> np.ndarray:
    return np.clip(np.rint(values / scale), -128, 127) * scale


def test_answers_of_the_float_network_are_not_all_right() -> None:
    model = Uneven({"calm": 0.0})
    found = sensitivity.answers(model, batches(model))
    assert 0.8 < found.accuracy < 0.95
    assert found.logits.shape == (512, CLASSES)
    assert found.against(found) == (0.0, 0.0, 0.0)


def test_against_by_hand() -> None:
    labels = torch.tensor([0, 1, 0, 1])
    right = Answers(torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0]]), labels)
    other = Answers(torch.tensor([[0.0, 3.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0]]), labels)
    assert other.against(right) == (0.25, (1.0 + 9.0) / 8, 0.25)
    assert right.against(other) == (-0.25, (1.0 + 9.0) / 8, 0.25)


def test_the_model_is_left_in_int8_as_it_came(network: tuple[Uneven, list[dict[str, torch.Tensor]]]) -> None:
    model, labelled = network
    before = sensitivity.answers(model, labelled).logits
    sensitivity.measure(model, labelled[:1])
    assert torch.equal(sensitivity.answers(model, labelled).logits, before)
    assert {quantizer.mode for quantizer in quantizers_of(model).values()} == {"int8"}
    assert twins_of(model)["table"].active


def test_it_is_int8_again_after_a_failure(network: tuple[Uneven, list[dict[str, torch.Tensor]]]) -> None:
    def broken(items: Iterable[Any], title: str) -> Iterable[Any]:
        yield next(iter(items))
        raise KeyboardInterrupt

    model, labelled = network
    with pytest.raises(KeyboardInterrupt):
        sensitivity.measure(model, labelled[:1], broken)
    assert {quantizer.mode for quantizer in quantizers_of(model).values()} == {"int8"}


def test_progress_sees_every_group(network: tuple[Uneven, list[dict[str, torch.Tensor]]]) -> None:
    seen: list[tuple[int, str]] = []

    def track(items: Iterable[Any], title: str) -> Iterable[Any]:
        listed = list(items)
        seen.append((len(listed), title))
        return listed

    rows = sensitivity.measure(network[0], network[1][:1], track)
    assert seen == [(6, "sensitivity of each layer")]
    assert [set(row) for row in sensitivity.as_table(rows)] == 6 * [
        {"layers", "parameters", "metric_drop", "output_error", "disagreement"}
    ]


def test_dynamic_activations_have_groups_too() -> None:
    model = Uneven({"loud": 300.0})
    labelled = batches(model)
    calibrated(model, labelled, activations="dynamic")
    rows = sensitivity.measure(model, labelled)
    assert rows[0].layers == ("loud.loud",)
    assert rows[0].output_error > 10 * rows[1].output_error > 0
