"""A key on the command line that the config does not have: where it leaves the tree, and what was probably meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf

from modelpress.check_signature import signature
from modelpress.config import conf_dir
from modelpress.errors import ModelPressError

MOUNTS = ("model@teacher", "technique@finetune")


def group_options(group: str) -> list[str]:
    """Names of the yaml files of a group in conf/."""
    return sorted(path.stem for path in (conf_dir() / group).glob("*.yaml"))


def near(given: str, names: Iterable[str]) -> str:
    """`` Did you mean …?``, or nothing."""
    found = difflib.get_close_matches(given, list(names), n=1)
    return f" Did you mean {found[0]!r}?" if found else ""


def key_of(override: str) -> str:
    """``+a.b=2`` → ``a.b``."""
    return override.partition("=")[0].lstrip("+~")


def unknown_key(override: str, good: DictConfig) -> str:
    """Explain an override whose key is not in ``good``, the config composed without it."""
    key = key_of(override)
    if "@" in key:
        return _unknown_mount(override)
    parts = key.split(".")
    node, depth = _walk(parts, good)
    address, names = ".".join(parts[:depth]), [str(name) for name in node]
    if parts[depth] in node and depth + 1 < len(parts):
        here = ".".join(parts[: depth + 1])
        return f"{override}: {here} is one value, it has no {parts[depth + 1]!r}. Write {here}=…"
    if address == "technique" and parts[depth] in group_options("technique"):
        both = ",".join([*names, parts[depth]])
        return (
            f"{override}: the stages of this run are {', '.join(names)}. "
            f"Select {parts[depth]} too ('technique=[{both}]'), or set the value of one of them."
        )
    if parts[depth] in node:
        return f"{override}: {key} contradicts another override of the same command line."
    if address.startswith("technique.") and parts[depth - 1] == "trainer" and parts[depth] in good.trainer:
        return (
            f"{override}: {address} holds only what differs from the shared trainer. For all stages write "
            f"trainer.{override.partition('trainer.')[2]}; for this one add it with +{override.lstrip('+')}"
        )
    where = f"{address} has no {parts[depth]!r}." if address else f"there is no {parts[depth]!r}."
    hints = [*_guesses(parts, depth, names, good, override), *_known(node, parts[depth], names, override)]
    return "\n     ".join([f"{override}: {where}", *(hints[:1] if address == "" else hints)])


def _walk(parts: Sequence[str], good: DictConfig) -> tuple[DictConfig, int]:
    """The last node on the way that exists, and how many parts lead to it."""
    node: Any = good
    for depth, part in enumerate(parts):
        child = node[part] if part in node and not OmegaConf.is_missing(node, part) else None
        if not isinstance(child, DictConfig):
            return node, depth
        node = child
    return node, len(parts) - 1


def _unknown_mount(override: str) -> str:
    key = key_of(override)
    return f"{override}: {key} is not mounted anywhere.{near(key, MOUNTS)} There are: {', '.join(MOUNTS)}."


def _guesses(parts: Sequence[str], depth: int, names: Sequence[str], good: DictConfig, override: str) -> Iterator[str]:
    """The nearest name at this level; else keys anywhere that end alike."""
    value = override.partition("=")[2]
    here = difflib.get_close_matches(parts[depth], names, n=1, cutoff=0.7)
    if here:
        found = [".".join([*parts[:depth], here[0], *parts[depth + 1 :]])]
    else:
        keys = list(_keys(OmegaConf.to_container(good, resolve=False), ""))
        last = difflib.get_close_matches(parts[-1], {key.rpartition(".")[2] for key in keys}, n=1, cutoff=0.8)
        found = [key for key in keys if last and key.rpartition(".")[2] == last[0]][:4]
    if found:
        yield "Did you mean " + " or ".join(f"{key}={value}" for key in found) + "?"


def _keys(node: Any, prefix: str) -> Iterator[str]:
    if isinstance(node, Mapping):
        for name, child in node.items():
            yield from _keys(child, f"{prefix}.{name}" if prefix else str(name))
    else:
        yield prefix


def _known(node: DictConfig, name: str, names: Sequence[str], override: str) -> Iterator[str]:
    listed = [known for known in names if known != "_target_"]
    target = OmegaConf.to_container(node, resolve=False).get("_target_")  # type: ignore[union-attr]
    if target is not None and name in _arguments(str(target)):
        yield f"It is an argument that the yaml leaves at its default; a + sets it: +{override.lstrip('+')}"
    elif listed:
        yield f"Known here: {', '.join(listed)}."


def _arguments(target: str) -> Iterable[str]:
    try:
        return signature(target).parameters
    except ModelPressError:
        return ()
