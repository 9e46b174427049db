"""SmoothQuant: move the difficulty of outlier channels from activations to weights (arXiv:2211.10438).

    s_j = max|x_j|^α / max|w_j|^(1-α)        y = (x / s) · (s · w)

In a post-LayerNorm network the LayerNorm's output also feeds the residual, so the division stays an explicit Mul
before the quantizer instead of being folded into the LayerNorm. One α for a whole network is too little in some layers
and harms others, so each input takes the α whose INT8 outputs are nearest to the float ones on calibration data (as
AWQ searches its scales, arXiv:2306.00978).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from modelpress.errors import ModelPressError
from modelpress.quantization import fake
from modelpress.quantization.layers import QuantizedLayer
from modelpress.quantization.quantizers import InputQuantizer

LEAST = 1e-5  # a channel that is always zero must not divide by zero
ALPHAS = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
ROWS = 1024  # positions on which each α is tried
PER_BATCH = 64  # of them from one batch at most, so that they come from many sentences


@dataclass
class Seen:
    """What balancing needs to know of one input: channel maxima (n,) and some of its rows (ROWS, n)."""

    maxima: Tensor | None = None
    rows: list[Tensor] = field(default_factory=list)

    def add(self, x: Tensor) -> None:
        flat = x.reshape(-1, x.shape[-1]).float()
        found = flat.abs().amax(0)
        self.maxima = found if self.maxima is None else torch.maximum(self.maxima, found)
        if sum(map(len, self.rows)) < ROWS:
            self.rows.append(flat[:: max(1, len(flat) // PER_BATCH)][:PER_BATCH].clone())


@contextmanager
def watching(twins: Mapping[str, QuantizedLayer]) -> Iterator[dict[InputQuantizer, Seen]]:
    """What the inputs of Linear layers look like inside the block."""
    seen = {quantizer: Seen() for quantizer in readers(twins)}
    for quantizer, found in seen.items():
        quantizer.watch = found.add
    try:
        yield seen
    finally:
        for quantizer in seen:
            quantizer.watch = None


def readers(twins: Mapping[str, QuantizedLayer]) -> dict[InputQuantizer, dict[str, QuantizedLayer]]:
    """The Linear layers, by the input they read. Elsewhere nothing is balanced."""
    found: dict[InputQuantizer, dict[str, QuantizedLayer]] = {}
    for name, twin in twins.items():
        if isinstance(twin, torch.nn.Linear) and twin.inputs is not None:
            found.setdefault(twin.inputs, {})[name] = twin
    return found


def apply(
    twins: Mapping[str, QuantizedLayer], seen: Mapping[InputQuantizer, Seen], alpha: float | str
) -> dict[str, float | None]:
    """Give the inputs that were seen their factors; returns the α taken, by the name of the first reader.

    ``alpha``: a number in (0, 1], or ``search``.
    """
    options = alphas(alpha)
    taken: dict[str, float | None] = {}
    for quantizer, layers in readers(twins).items():
        if seen[quantizer].maxima is not None:
            weights = [twin.weight.detach().float() for twin in layers.values()]
            taken[next(iter(layers))], quantizer.balance = best(seen[quantizer], weights, options)
    return taken


def alphas(alpha: float | str) -> Sequence[float | None]:
    """What to choose from; ``None`` is no balance. Raises for anything else than ``search`` or a number in (0, 1]."""
    if alpha == "search":
        return (None, *ALPHAS)
    if isinstance(alpha, int | float) and 0 < alpha <= 1:
        return (float(alpha),)
    raise ModelPressError(f"transform.balance is {alpha}; allowed: search, a number above 0 up to 1, or null for none.")


def best(seen: Seen, weights: Sequence[Tensor], among: Sequence[float | None]) -> tuple[float | None, Tensor | None]:
    """The α, and its factors (n,), with the smallest squared error of the layers' outputs."""
    assert seen.maxima is not None
    columns = torch.stack([weight.abs().amax(0) for weight in weights]).amax(0)
    options = [(alpha, None if alpha is None else factors(seen.maxima, columns, alpha)) for alpha in among]
    if len(options) == 1:
        return options[0]
    rows = torch.cat(seen.rows)
    wanted = [rows @ weight.T for weight in weights]
    return min(options, key=lambda option: _error(rows, seen.maxima, weights, wanted, option[1]))


def _error(
    rows: Tensor, maxima: Tensor | None, weights: Sequence[Tensor], wanted: Sequence[Tensor], balance: Tensor | None
) -> float:
    """Squared error of INT8 products with min-max ranges."""
    assert maxima is not None
    s = torch.ones_like(maxima) if balance is None else balance
    x = fake.fake_quantize(rows / s, fake.scale_of((maxima / s).amax()))
    scaled = [weight * s for weight in weights]
    rounded = [fake.fake_quantize(w, fake.scale_of(fake.channel_amax(w, 0)), 0) for w in scaled]
    return sum(float((x @ w.T - y).square().sum()) for w, y in zip(rounded, wanted, strict=True))


def factors(activations: Tensor, weights: Tensor, alpha: float) -> Tensor:
    """(n,) factors with geometric mean 1, from both sides' channel maxima (n,).

    >>> factors(torch.tensor([4.0, 1.0]), torch.tensor([1.0, 1.0]), 0.5)
    tensor([1.4142, 0.7071])
    """
    raw = activations.clamp_min(LEAST) ** alpha / weights.float().clamp_min(LEAST) ** (1 - alpha)
    return raw / raw.log().mean().exp()
