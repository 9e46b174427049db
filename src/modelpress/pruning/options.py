"""What may be asked of structured pruning; everything else is refused before anything is built."""

from __future__ import annotations

from collections.abc import Sequence

from modelpress.errors import ModelPressError, one_of
from modelpress.pruning import select
from modelpress.quantization.observers import checked

CHANNELS = "channels"


def removable(remove: Sequence[str]) -> tuple[str, ...]:
    """``transform.remove``, each unit once."""
    given = (remove,) if isinstance(remove, str) else tuple(remove)
    for unit in given:
        one_of("transform.remove", unit, (*select.UNITS, CHANNELS))
    if not given or (CHANNELS in given and len(given) > 1):
        raise ModelPressError(
            f"transform.remove is {list(given)}; allowed: any of {', '.join(select.UNITS)}, or [channels] alone."
        )
    return tuple(dict.fromkeys(given))


def whole(name: str, given: object, least: int) -> int:
    """``transform.<name>`` if it is a whole number from ``least``."""
    return int(
        checked(f"transform.{name}", given, f"a whole number from {least}", lambda n: n >= least and n == int(n))
    )


def budget(target: str, given: float | None) -> float | None:
    """``transform.budget_ms``, which ``target=latency_ms`` cannot do without."""
    if given is None:
        if target == "latency_ms":
            raise ModelPressError(
                "transform.target is latency_ms, but there is no budget: set it, e.g. budget.latency_ms=3.0"
            )
        return None
    return checked("transform.budget_ms", given, "above 0, in milliseconds", lambda ms: ms > 0)


def times(iterations: int, begin: float, end: float) -> list[float]:
    """Progress at which each step is taken."""
    checked("transform.begin", begin, "a share of the training from 0 to below 1", lambda s: 0 <= s < 1)
    checked("transform.end", end, "a share of the training from 0 to below 1", lambda s: 0 <= s < 1)
    if iterations == 1:
        return [float(begin)]
    if end <= begin:
        raise ModelPressError(f"transform.end is {end} and begin {begin}; with several iterations end must be later.")
    return [begin + (end - begin) * k / (iterations - 1) for k in range(iterations)]
