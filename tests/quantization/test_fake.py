"""Symmetric INT8 against NumPy: values, ties, clipping, channels, gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from modelpress.quantization import fake

NUMBERS = np.random.default_rng(0)
SCALE = np.float32(0.25)  # a power of two: ties stay ties
TIES = [-500.0, -128.5, -128.0, -127.5, -2.5, -1.5, -0.5, -0.49, 0.0, 0.5, 1.5, 2.5, 126.5, 127.0, 127.49, 127.5, 9e9]
EVEN = [-128, -128, -128, -128, -2, -2, 0, 0, 0, 0, 2, 2, 126, 127, 127, 127, 127]


def tensor(x: object) -> Tensor:
    return torch.as_tensor(np.asarray(x, np.float32))


def test_ties_go_to_the_even_number_and_ends_are_clipped() -> None:
    x = tensor(TIES) * float(SCALE)
    q = fake.quantize(x, tensor(SCALE))
    assert q.dtype == torch.int8
    assert q.tolist() == EVEN
    assert fake.dequantize(q, tensor(SCALE)).tolist() == [n * SCALE for n in EVEN]
    assert fake.fake_quantize(x, tensor(SCALE)).tolist() == [n * SCALE for n in EVEN]


@pytest.mark.parametrize(
    ("shape", "axis"), [((50, 7), None), ((7, 50), 0), ((50, 7), -1), ((5, 7, 3, 3), 0), ((2, 7, 3), 1)]
)
def test_random_numbers_per_tensor_and_per_channel(shape: tuple[int, ...], axis: int | None) -> None:
    x = NUMBERS.normal(size=shape).astype(np.float32)
    scale = np.float32(0.013) if axis is None else NUMBERS.uniform(0.005, 0.03, shape[axis]).astype(np.float32)
    along = scale if axis is None else np.expand_dims(scale, [a for a in range(x.ndim) if a != axis % x.ndim])
    steps = x / along
    expected = np.clip(np.rint(steps), -128, 127)
    assert 0 < (np.abs(steps) > 128).sum() < x.size / 2
    q = fake.quantize(tensor(x), tensor(scale), axis)
    np.testing.assert_array_equal(q.numpy(), expected)
    np.testing.assert_allclose(fake.dequantize(q, tensor(scale), axis).numpy(), expected * along, rtol=1e-6)
    clear = np.abs(np.abs(steps % 1) - 0.5) > 1e-4  # torch multiplies by 1 / scale, which decides near ties otherwise
    found = fake.fake_quantize(tensor(x), tensor(scale), axis).numpy()
    np.testing.assert_allclose(found[clear], (expected * along)[clear], rtol=1e-6)
    assert clear.mean() > 0.99


def test_the_largest_magnitude_is_the_last_step() -> None:
    for amax in (1e-6, 0.3, 1.0, 77.7, 1e20):
        scale = fake.scale_of(tensor(amax))
        assert fake.quantize(tensor([amax, -amax, 0.0]), scale).tolist() == [127, -127, 0]
        np.testing.assert_allclose(scale.numpy(), np.float32(amax) / 127, rtol=1e-7)


def test_a_channel_of_zeros_stays_zero() -> None:
    scale = fake.scale_of(fake.channel_amax(tensor([[0.0, 0.0], [1.0, -2.0]]), 0))
    assert (scale > 0).all()
    assert fake.fake_quantize(tensor([[0.0, 0.0], [1.0, -2.0]]), scale, 0)[0].tolist() == [0, 0]


@pytest.mark.parametrize(("shape", "axis"), [((6, 4), 0), ((6, 4), 1), ((6, 4), -1), ((3, 2, 5, 4), 0), ((9,), 0)])
def test_channel_maxima(shape: tuple[int, ...], axis: int) -> None:
    x = NUMBERS.normal(size=shape).astype(np.float32)
    others = tuple(a for a in range(x.ndim) if a != axis % x.ndim)
    np.testing.assert_array_equal(fake.channel_amax(tensor(x), axis).numpy(), np.abs(x).max(axis=others))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floats_come_back_as_float32(dtype: torch.dtype) -> None:
    x = tensor(TIES[3:-1]).mul(float(SCALE)).to(dtype)
    assert fake.fake_quantize(x, tensor(SCALE)).dtype == torch.float32
    torch.testing.assert_close(fake.fake_quantize(x, tensor(SCALE)), fake.fake_quantize(x.float(), tensor(SCALE)))
    assert fake.quantize(x, tensor(SCALE)).dtype == torch.int8


def test_what_is_on_the_grid_stays() -> None:
    x = tensor(NUMBERS.normal(size=1000))
    once = fake.fake_quantize(x, tensor(0.017))
    torch.testing.assert_close(fake.fake_quantize(once, tensor(0.017)), once, rtol=0, atol=0)


@pytest.mark.parametrize("axis", [None, 0])
def test_gradients_pass_inside_the_range_only(axis: int | None) -> None:
    x = tensor([TIES, TIES]).mul(float(SCALE)).requires_grad_()
    scale = tensor(SCALE) if axis is None else tensor([SCALE, 2 * SCALE])
    weights = tensor(NUMBERS.normal(size=x.shape))
    (fake.fake_quantize(x, scale, axis) * weights).sum().backward()
    steps = np.asarray([TIES, TIES]) / (1 if axis is None else np.asarray([[1], [2]]))
    inside = (np.rint(steps) >= -128) & (np.rint(steps) <= 127)
    assert x.grad is not None
    np.testing.assert_array_equal(x.grad.numpy(), np.where(inside, weights.numpy(), 0))
    assert 0 < inside.sum() < inside.size


def test_learned_step_size_against_the_paper() -> None:
    """arXiv:1902.08153, equations 1 to 3 with Q_N = 128 and Q_P = 127; gradient scale 1 / sqrt(N Q_P)."""
    values = NUMBERS.normal(scale=3, size=(40, 50)).astype(np.float32)
    step, upstream = np.float32(0.04), NUMBERS.normal(size=values.shape).astype(np.float32)
    x, s = tensor(values).requires_grad_(), tensor(step).requires_grad_()
    found = fake.learned_fake_quantize(x, s)
    torch.testing.assert_close(found, fake.fake_quantize(x, s.detach()))
    (found * tensor(upstream)).sum().backward()

    v = values / step
    inside = (v > -128.5) & (v < 127.5)
    slope = np.where(inside, np.rint(v) - v, np.where(v < 0, -128, 127))
    assert s.grad is not None
    assert x.grad is not None
    assert float(s.grad) == pytest.approx((slope * upstream).sum() / np.sqrt(values.size * 127), rel=1e-4)
    np.testing.assert_array_equal(x.grad.numpy(), np.where(inside, upstream, 0))
    assert 10 < (~inside).sum() < values.size / 2


def test_learning_finds_a_better_step() -> None:
    """An outlier has made the range far too large; gradient descent on the error shrinks it."""
    x = tensor([*NUMBERS.normal(size=999), 30.0])
    start = fake.scale_of(x.abs().max())
    s = start.clone().requires_grad_()

    def error() -> Tensor:
        return (fake.learned_fake_quantize(x, s) - x)[:-1].square().mean()

    before = float(error().detach())
    optimizer = torch.optim.Adam([s], lr=2e-3)
    for _ in range(200):
        optimizer.zero_grad()
        error().backward()
        optimizer.step()
    assert float(error().detach()) < 0.1 * before
    assert 0 < float(s.detach()) < float(start)
