"""What a layer's input becomes: watched, shared, followed, learned, or found at run time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper
from torch import Tensor, nn

from modelpress.errors import ModelPressError
from modelpress.quantization import fake
from modelpress.quantization.observers import MinMax
from modelpress.quantization.quantizers import (
    MEMORY,
    DynamicQuantizer,
    FloatInput,
    InputQuantizer,
    dynamic_fake_quantize,
)

X = torch.randn(6, 5, 8, generator=torch.Generator().manual_seed(0))


def quantizer(readers: int = 1, scale: float = 0.02) -> InputQuantizer:
    made = InputQuantizer(readers)
    made.scale, made.mode = torch.tensor(scale), "int8"
    return made.eval()


def count(quantizer: InputQuantizer, monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """How often it has quantized since the last question."""
    calls, original = [0], quantizer.quantized

    def quantized(x: Tensor) -> Tensor:
        calls[0] += 1
        return original(x)

    def since() -> int:
        calls[0], found = 0, calls[0]
        return found

    monkeypatch.setattr(quantizer, "quantized", quantized)
    return since


def test_float_and_observe_pass_the_tensor_itself() -> None:
    made, seen = quantizer(), []
    made.balance, made.watch, made.mode = torch.full((8,), 2.0), seen.append, "float"
    assert made(X) is X
    assert torch.equal(seen[0], X)  # as it comes
    made.mode, made.observer = "observe", MinMax()
    assert made(X) is X
    assert float(made.observer.amax()) == pytest.approx(float(X.abs().max()) / 2)  # as it is quantized
    assert len(seen) == 2


def test_a_shared_input_is_observed_once_per_pass() -> None:
    made, seen = quantizer(readers=3), []
    made.watch, made.observer, made.mode = seen.append, MinMax(), "observe"
    for _ in range(2):
        assert all(made(X, reader) is X for reader in (1, 2, 3))
    assert made.observer.count == 2 * X.numel()
    assert len(seen) == 2


def test_modes_do_not_mix_in_one_pass() -> None:
    """Bias correction asks for both, reader by reader."""
    made, x = quantizer(readers=2), X.clone()
    made.watch = lambda _: None
    expected = fake.fake_quantize(x, made.scale)
    for reader in (1, 2):
        made.mode = "float"
        assert made(x, reader) is x
        made.mode = "int8"
        assert torch.equal(made(x, reader), expected)


def test_balance_divides_the_channels_first() -> None:
    made = quantizer()
    made.balance = torch.rand(8) + 0.5
    expected = np.clip(np.rint(X.numpy() / made.balance.numpy() / 0.02), -128, 127) * 0.02
    found = made(X).numpy()
    assert np.isclose(found, expected, atol=1e-6).mean() > 0.99
    np.testing.assert_allclose(found, expected, atol=0.0201)
    convolution = InputQuantizer(axis=1)
    convolution.balance = torch.arange(1.0, 6)
    torch.testing.assert_close(convolution.balanced(X), X / torch.arange(1.0, 6)[:, None])


def test_settle_takes_what_the_observer_found() -> None:
    made = quantizer()
    made.observer = MinMax()
    made.observer.observe(X)
    made.settle()
    torch.testing.assert_close(made.scale, X.abs().max() / 127)
    assert made.observer is None
    with pytest.raises(ModelPressError, match="never observed: calibrate first"):
        made.settle()


def test_readers_of_one_tensor_share_one_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    made = quantizer(readers=3)
    runs = count(made, monkeypatch)
    values = [made(X, reader) for reader in (1, 2, 3)]
    assert runs() == 1
    assert values[0] is values[1] is values[2]
    assert not hasattr(X, MEMORY)  # the batch's tensor keeps nothing
    made(X, 1)
    made(X + 0, 2)
    assert runs() == 2


def test_the_next_pass_on_the_same_tensor_is_fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    made = quantizer(readers=3)
    x = X.clone()
    first = made(x, 1)
    made(x, 2)  # the third does not ask in this pass, as in a tower that reads the first token only
    runs = count(made, monkeypatch)
    made.scale = torch.tensor(0.5)
    again = made(x, 1)
    assert runs() == 1
    torch.testing.assert_close(again, fake.fake_quantize(x, made.scale))
    assert not torch.equal(first, again)
    x.mul_(0.1)
    torch.testing.assert_close(made(x, 2), fake.fake_quantize(x, made.scale))  # written into between two readers
    assert runs() == 1


def test_two_quantizers_on_one_tensor_do_not_mix() -> None:
    one, other = quantizer(2, scale=0.02), quantizer(2, scale=0.3)
    found = [made(X, reader) for reader in (1, 2) for made in (one, other)]
    for value, made in zip(found, (one, other, one, other), strict=True):
        torch.testing.assert_close(value, fake.fake_quantize(X, made.scale))
    if hasattr(X, MEMORY):
        delattr(X, MEMORY)


def test_inference_tensors_are_quantized_too() -> None:
    made = quantizer(readers=2)
    with torch.inference_mode():
        x = X * 1
        assert x.is_inference()
        assert torch.equal(made(x, 1), fake.fake_quantize(X, made.scale))
        x.add_(1)
        assert torch.equal(made(x, 2), fake.fake_quantize(X + 1, made.scale))


def test_training_twice_on_the_same_tensor() -> None:
    made = quantizer(readers=2).train()
    made.learn()
    weights = nn.Parameter(torch.ones(()))
    gradients = []
    for _ in range(2):
        made.zero_grad()
        sum((made(X, reader) * weights).square().sum() for reader in (1, 2)).backward()  # type: ignore[union-attr]
        assert isinstance(made.scale, nn.Parameter)
        assert made.scale.grad is not None
        gradients.append(float(made.scale.grad))
    assert gradients[0] == gradients[1] != 0


def test_a_running_range_follows_the_batches() -> None:
    made = quantizer(scale=0.01).train()
    made.momentum = 0.9
    expected = 0.01
    for factor in (1.0, 3.0, 0.5):
        made(X * factor)
        expected = 0.9 * expected + 0.1 * float(X.abs().max()) * factor / 127
        assert float(made.scale) == pytest.approx(expected, rel=1e-5)
    made.eval()(X * 100)
    assert float(made.scale) == pytest.approx(expected, rel=1e-5)
    made.train().freeze()
    made(X * 100)
    assert float(made.scale) == pytest.approx(expected, rel=1e-5)


def test_a_learned_range_stays_positive_and_can_be_frozen() -> None:
    made = quantizer(scale=0.02).train()
    made.learn()
    assert isinstance(made.scale, nn.Parameter)
    assert [name for name, _ in made.named_parameters()] == ["scale"]
    optimizer = torch.optim.SGD(made.parameters(), lr=1.0)
    made.scale.grad = torch.tensor(5.0)
    optimizer.step()
    assert float(made.scale.detach()) < 0
    made.hold()
    assert float(made.scale.detach()) == pytest.approx(0.02 / 16)
    made.freeze()
    assert not made(X).requires_grad
    assert not made.scale.requires_grad
    found = made.state_dict()
    assert list(found) == ["scale"]


def onnxruntime_dynamic(x: Tensor) -> tuple[np.ndarray, float, int]:
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, list(x.shape))]
    outputs = [
        helper.make_tensor_value_info("q", TensorProto.UINT8, list(x.shape)),
        helper.make_tensor_value_info("scale", TensorProto.FLOAT, []),
        helper.make_tensor_value_info("zero", TensorProto.UINT8, []),
    ]
    node = helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "scale", "zero"])
    graph = helper.make_graph([node], "dynamic", inputs, outputs)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    q, scale, zero = session.run(None, {"x": x.numpy()})
    return q, float(scale), int(zero)


@pytest.mark.parametrize(
    "x",
    [X, X.abs() + 1, -X.abs() - 1, X * 1e-3, torch.zeros(3, 4), torch.full((4,), 2.5), torch.full((4,), -2.5)],
    ids=["mixed", "positive", "negative", "small", "zeros", "constant", "negative constant"],
)
def test_dynamic_is_onnxruntimes_dynamic_quantize_linear(x: Tensor) -> None:
    q, scale, zero = onnxruntime_dynamic(x)
    expected = (q.astype(np.float32) - zero) * np.float32(scale)
    np.testing.assert_allclose(dynamic_fake_quantize(x).numpy(), expected, atol=1e-6, rtol=1e-6)


def test_dynamic_gradients_pass_straight_through() -> None:
    x = X.clone().requires_grad_()
    (dynamic_fake_quantize(x) * X).sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, X)


def test_dynamic_needs_no_range_and_leaves_the_graph_alone() -> None:
    made = DynamicQuantizer()
    made.mode = "int8"
    made.settle()
    assert torch.equal(made(X), dynamic_fake_quantize(X))
    made.balance = torch.rand(8) + 0.5
    torch.testing.assert_close(made(X), dynamic_fake_quantize(X / made.balance))
    made.exporting = True
    torch.testing.assert_close(made(X), X / made.balance)
    bare = FloatInput()
    bare.mode = "int8"
    bare.settle()
    assert bare(X) is X


def test_exported_nodes_compute_the_same() -> None:
    made = quantizer()
    made.balance = torch.rand(8) + 0.5
    expected = made(X)
    made.exporting = True
    found = made(X)
    assert (found == expected).float().mean() > 0.99  # 1 / scale decides a few near ties otherwise
    torch.testing.assert_close(found, expected, atol=0.0201, rtol=0)
