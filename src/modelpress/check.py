"""All faults of a config at once, in well under a second, before anything heavy is imported or built.

Three layers, each trusting only what the one before found sound: the tree itself (missing values, ghost stages),
every ``_target_`` against its signature (read from source), and the rules between the parts (order, teacher, hardware).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from modelpress import check_rules
from modelpress.check_nodes import ghost_stages, missing_values, node_faults, trainer_faults
from modelpress.check_objects import object_faults
from modelpress.errors import ModelPressError

log = logging.getLogger(__name__)


def check(cfg: DictConfig, overrides: Sequence[str] = ()) -> None:
    """Raise one :class:`ModelPressError` that lists every fault with its full key; log what is only doubtful.

    ``overrides`` are the command line's own (``HydraConfig.get().overrides.task``): a repeated stage shows only there.
    """
    faults, warnings = inspect(cfg, overrides)
    for warning in warnings:
        log.warning("%s", warning)
    if faults:
        raise ModelPressError(numbered(faults))


def inspect(cfg: DictConfig, overrides: Sequence[str] = ()) -> tuple[list[str], list[str]]:
    """(faults, warnings): sentences that begin with the full key they are about."""
    faults = check_rules.repeated_stages(overrides)
    unresolved = list(_unresolved(cfg))
    if unresolved:
        return [*faults, *unresolved], []
    config: Any = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=False)
    ghosts = ghost_stages(config)
    config["technique"] = {name: stage for name, stage in config["technique"].items() if name not in ghosts}
    faults += [*ghosts.values(), *missing_values(config), *node_faults(config), *trainer_faults(config)]
    faults += check_rules.faults(config)
    faults += object_faults(config, faults)
    return list(dict.fromkeys(faults)), check_rules.warnings(config)


def _unresolved(node: Any) -> Iterator[str]:
    """Interpolations that lead nowhere."""
    for key in node if isinstance(node, DictConfig) else range(len(node)):
        if OmegaConf.is_missing(node, key):
            continue
        try:
            value = node[key]
        except OmegaConfBaseException as error:
            raw: Any = OmegaConf.to_container(node, resolve=False)
            yield f"{node._get_full_key(key)} is {raw[key]!r}: {str(error).splitlines()[0]}."
            continue
        if isinstance(value, DictConfig | ListConfig):
            yield from _unresolved(value)


def numbered(faults: Sequence[str]) -> str:
    """One fault as it is; several as a list with their number."""
    if len(faults) == 1:
        return faults[0]
    lines = [f"{len(faults)} faults in the configuration:"]
    return "\n".join(lines + [f"{i:>3}. {fault}" for i, fault in enumerate(faults, 1)])
