"""What went wrong, in the words of somebody who can mend it: Hydra's errors, the system's, and anybody else's."""

from __future__ import annotations

import difflib
import errno
import re
import traceback
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.errors import (
    CompactHydraException,
    ConfigCompositionException,
    MissingConfigException,
    OverrideParseException,
)
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException, ValidationError

from modelpress.config import compose
from modelpress.errors import ModelPressError

MOST_FAULTS = 6
DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def describe(error: BaseException) -> str:
    """One error of a running job, without its traceback."""
    if isinstance(error, ModelPressError):
        return str(error)
    if isinstance(error, OmegaConfBaseException):
        return _first_line(error)
    if isinstance(error, OSError) and error.errno in DISK:
        return f"No space left to write {error.filename or 'a file'} ({error.strerror}). See `modelpress store gc`."
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {error}{place}"


def explain(error: BaseException, arguments: Sequence[str], folder: Path | None = None) -> str:
    """An error that came before any job ran; every mistake on the command line is named, not only the first."""
    if isinstance(error, OSError) and not isinstance(error, MissingConfigException):
        return _explain_disk(error, folder)
    if not isinstance(error, CompactHydraException):
        return describe(error)
    flags, overrides = _split(arguments)
    faults = _all_faults(error, overrides, flags.get("--config-dir") or flags.get("-cd"))
    help_line = "`--help` lists the groups and their options; `--cfg job` shows every key."
    if len(faults) == 1:
        return f"{faults[0]}\n{help_line}"
    return "\n".join([f"{i}. {fault}" for i, fault in enumerate(faults, 1)] + [help_line])


def _explain_disk(error: OSError, folder: Path | None) -> str:
    where = folder or error.filename or "the run folder"
    if error.errno in DISK:
        return f"Cannot write {where}: {error.strerror}. Free some space (`modelpress store gc`), or write elsewhere:\n  hydra.run.dir=/some/folder"
    return (
        f"Cannot write {where}: {error.strerror} ({error.filename}).\n"
        "Run from a folder you may write to, or choose another: hydra.run.dir=/some/folder store=/some/folder/store"
    )


def _split(arguments: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Flags with a value, and overrides."""
    from hydra._internal.utils import get_args_parser

    given = get_args_parser().parse_args(list(arguments))
    return ({"--config-dir": given.config_dir} if given.config_dir else {}), list(given.overrides)


def _all_faults(error: BaseException, overrides: list[str], config_dir: str | None) -> list[str]:
    """Explain ``error``, take its override away, compose again, and so on: one edit mends all of them."""
    faults: list[str] = []
    current: BaseException | None = error
    left = [override for override in overrides if not override.startswith("hydra.")]
    while current is not None and len(faults) < MOST_FAULTS:
        guilty = _guilty(current, left)
        left = [override for override in left if override != guilty]
        after, good = _try(left, config_dir)
        faults.append(_explain_one(current, guilty, good if good is not None else _try([], config_dir)[1]))
        current = after if guilty is not None else None
    return faults


def _try(overrides: Sequence[str], config_dir: str | None) -> tuple[BaseException | None, DictConfig | None]:
    """The first value of every sweep stands for the sweep."""
    try:
        return None, compose([_first_choice(override) for override in overrides], config_dir)
    except (CompactHydraException, ModelPressError) as error:
        return error, None


def _first_choice(override: str) -> str:
    """``a=1,2`` → ``a=1``; brackets and quotes are left whole."""
    key, _, value = override.partition("=")
    depth, quote = 0, ""
    for i, letter in enumerate(value):
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"":
            quote = letter
        elif letter in "[{(":
            depth += 1
        elif letter in "]})":
            depth -= 1
        elif letter == "," and depth == 0:
            return f"{key}={value[:i]}"
    return override


def _guilty(error: BaseException, overrides: Sequence[str]) -> str | None:
    """Which override an error is about."""
    if isinstance(error, OverrideParseException):
        return next((o for o in overrides if o == error.override), None)
    text = str(error)
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, option = error.missing_cfg_file.rpartition("/")
        return next((o for o in overrides if _key(o).partition("@")[0] == group and option in o), None)
    named = re.search(r"(?:override '?|argument '|parameters '|item is already at '|from config. )([^\s'=]+)", text)
    return next((o for o in overrides if named and _key(o) == named.group(1).lstrip("+~")), None)


def _key(override: str) -> str:
    return override.partition("=")[0].lstrip("+~")


def _explain_one(error: BaseException, override: str | None, good: DictConfig | None) -> str:
    if isinstance(error, OverrideParseException):
        return _explain_syntax(error)
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        return _explain_option(error)
    cause = error.__cause__
    if override is not None and good is not None and str(error).startswith("Could not override"):
        return unknown_key(_key(override), override, good)
    if isinstance(cause, ValidationError) and override is not None:
        return _explain_value(override, cause)
    lines = [line for line in str(error).splitlines() if "See http" not in line]
    return "\n".join(lines + ([_first_line(cause)] if isinstance(cause, OmegaConfBaseException) else []))


def _explain_syntax(error: OverrideParseException) -> str:
    return (
        f"Cannot read {error.override!r}: {_first_line(error)}.\n"
        "Write key=value without spaces; lists and values with spaces or , [ ] = need quotes for the shell and for "
        "Hydra:\n  'technique=[distill,finetune]'   'dataset.path=\"my reviews.csv\"'"
    )


def _explain_option(error: MissingConfigException) -> str:
    group, _, option = str(error.missing_cfg_file).rpartition("/")
    options = list(error.options or group_options(group))
    if not group:
        return _first_line(error)
    return f"{group}={option}: there is no conf/{group}/{option}.yaml.{_near(option, options)} Options: {', '.join(options)}."


def group_options(group: str) -> list[str]:
    """Names of the yaml files of a group in conf/."""
    from modelpress.config import conf_dir

    return sorted(path.stem for path in (conf_dir() / group).glob("*.yaml"))


def _explain_value(override: str, cause: ValidationError) -> str:
    key = _key(override)
    if (key in ("teacher", "finetune")) and "=" in override:
        group = {"teacher": "model@teacher", "finetune": "technique@finetune"}[key]
        return f"{override}: {key} is chosen from a group mounted there; write {group}={override.partition('=')[2]}."
    return f"{override}: {_first_line(cause)}."


def unknown_key(key: str, override: str, good: DictConfig) -> str:
    """A key that the config does not have: where it leaves the tree, what is there, and the likeliest spelling."""
    parts = key.partition("@")[0].split(".")
    node: Any = good
    for depth, part in enumerate(parts):
        if not isinstance(node, DictConfig) or part not in node:
            break
        node = node[part]
    else:
        return _explain_mount(key, good)
    address = ".".join(parts[:depth])
    names = [str(name) for name in node] if isinstance(node, DictConfig) else []
    guess = _guess(parts, depth, names, good)
    where = f"{address} has no {parts[depth]!r}" if address else f"there is no {parts[depth]!r}"
    hint = f" Did you mean {guess}{override[len(_key(override)) + (len(override) - len(override.lstrip('+~'))):]}?" if guess else ""
    return f"{override}: {where}.{hint}{_instead(parts, depth, address, names, override)}"


def _instead(parts: Sequence[str], depth: int, address: str, names: Iterable[str], override: str) -> str:
    listed = ", ".join(names)
    if address == "technique":
        return f" The stages of this run: {listed}. Select it first: 'technique=[{','.join([*names, parts[depth]])}]'."
    text = f" Known here: {listed}." if listed else ""
    inside = address.startswith("technique.") or address in ("dataset", "model", "teacher", "hardware", "trainer")
    return text + (f" An argument that the yaml leaves at its default is set with +{override}" if inside else "")


def _explain_mount(key: str, good: DictConfig) -> str:
    group, _, package = key.partition("@")
    mounts = [str(name) for name in good if str(name) in ("teacher", "finetune")]
    return f"{key}: nothing is mounted at {package!r}.{_near(package, mounts)} Mounts: model@teacher, technique@finetune."


def _guess(parts: Sequence[str], depth: int, names: Sequence[str], good: DictConfig) -> str:
    """The nearest name at this level; else a key anywhere that ends alike."""
    near = difflib.get_close_matches(parts[depth], names, n=1, cutoff=0.7)
    if near:
        return ".".join([*parts[:depth], near[0], *parts[depth + 1 :]])
    last = {key.rpartition(".")[2]: key for key in reversed(list(_keys(good)))}
    found = difflib.get_close_matches(parts[-1], last, n=1, cutoff=0.8)
    return last[found[0]] if found else ""


def _keys(node: DictConfig) -> Iterable[str]:
    def walk(value: Any, prefix: str) -> Iterable[str]:
        if isinstance(value, Mapping):
            for name, child in value.items():
                yield from walk(child, f"{prefix}.{name}" if prefix else str(name))
        else:
            yield prefix

    return walk(OmegaConf.to_container(node, resolve=False), "")


def _near(given: str, names: Iterable[str]) -> str:
    near = difflib.get_close_matches(given, list(names), n=1)
    return f" Did you mean {near[0]!r}?" if near else ""


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__).rstrip(".")


__all__ = ["ConfigCompositionException", "describe", "explain", "group_options", "unknown_key"]
