"""What a sweep varies: read from the command line and from ``hydra.sweeper``, in Hydra's own spelling of sweeps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override
    from optuna.distributions import BaseDistribution


def swept(config: DictConfig) -> list[str]:
    """Keys of everything that a sweep's jobs differ in."""
    return list(split(config)[0])


def split(config: DictConfig, loader: Any = None) -> tuple[dict[str, Override], list[str]]:
    """What varies, by key, and the overrides that all jobs share. The command line wins over the sweep's file.

    ``config`` is the composed config of the sweep with Hydra's node. Of ``hydra.sweeper.spaces`` (stage -> key inside
    it -> values) only the stages that the config has are taken. ``loader``, Hydra's, is needed for ``glob(…)``.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser

    lines = [f"{key}={values}" for key, values in _given(config).items()]
    found: dict[str, Override] = {}
    for override in OverridesParser.create(config_loader=loader).parse_overrides(
        [*lines, *config.hydra.overrides.task]
    ):
        found[override.get_key_element()] = override
    varied = {key: override for key, override in found.items() if override.is_sweep_override()}
    shared = [override.input_line for key, override in found.items() if key not in varied]
    return varied, [line for line in shared if line is not None]


def _given(config: DictConfig) -> dict[str, Any]:
    """``params`` and the ``spaces`` in use, of any sweeper."""
    sweeper: Any = OmegaConf.to_container(config.hydra.sweeper, resolve=True)
    spaces: Mapping[str, Any] = sweeper.get("spaces") or {}
    found = {
        f"technique.{stage}.{key}": values
        for stage, space in spaces.items()
        if stage in config.technique
        for key, values in (space or {}).items()
    }
    return {**found, **(sweeper.get("params") or {})}


def distribution(override: Override) -> BaseDistribution:
    """Optuna's form of ``0.2,0.5``, ``choice(a,b)``, ``range(1,8)`` or ``interval(0.1,0.9)``, with ``tag(log, …)``."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    value: Any = override.value()
    if override.is_interval_sweep():
        is_log = "log" in value.tags
        if isinstance(value.start, int) and isinstance(value.end, int):
            return IntDistribution(value.start, value.end, log=is_log)
        return FloatDistribution(float(value.start), float(value.end), log=is_log)
    if override.is_range_sweep():
        steps = list(value.range())
        if all(isinstance(step, int) for step in steps):
            return IntDistribution(steps[0], steps[-1], step=int(value.step))
        return FloatDistribution(_rounded(steps[0]), _rounded(steps[-1]), step=_rounded(value.step))
    return CategoricalDistribution(list(override.sweep_string_iterator()))


def spelled(params: Mapping[str, Any]) -> list[str]:
    """The overrides of one trial."""
    return [f"{key}={value:.10g}" if isinstance(value, float) else f"{key}={value}" for key, value in params.items()]


def _rounded(number: Any) -> float:
    """0.1 + 0.2 is 0.3: steps of a range of floats add up."""
    return float(f"{float(number):.10g}")


def short(keys: Sequence[str]) -> dict[str, str]:
    """The shortest ends of dotted keys that are still different.

    >>> short(["technique.prune.transform.sparsity", "seed"])
    {'technique.prune.transform.sparsity': 'sparsity', 'seed': 'seed'}
    """
    names = {key: key.split(".") for key in keys}
    found = {}
    for key, parts in names.items():
        ends = (".".join(parts[-length:]) for length in range(1, len(parts) + 1))
        others = [other for other in names if other != key]
        found[key] = next((end for end in ends if not any(f".{other}".endswith(f".{end}") for other in others)), key)
    return found
