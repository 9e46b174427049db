"""What went wrong, in the words of somebody who can mend it: Hydra's errors, the system's, and anybody else's."""

from __future__ import annotations

import errno
import re
import traceback
from collections.abc import Sequence
from pathlib import Path

from hydra.errors import CompactHydraException, HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException, ValidationError

from modelpress.config import compose
from modelpress.errors import ModelPressError
from modelpress.explain_key import group_options, key_of, near, unknown_key

MOST_FAULTS = 6
FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
MORE = "`--help` lists the groups and their options; `--cfg job` shows every key."


def describe(error: BaseException) -> str:
    """One error of a running job, without its traceback."""
    if isinstance(error, ModelPressError):
        return str(error)
    if isinstance(error, OmegaConfBaseException):
        return _first_line(error)
    if isinstance(error, OSError) and error.errno in FULL_DISK:
        return f"No space left to write {error.filename or 'a file'} ({error.strerror}). See `modelpress store gc`."
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {error}{place}"


def explain(error: BaseException, arguments: Sequence[str], folder: Path | None = None) -> str:
    """An error that came before any job ran; every mistake on the command line is named, not only the first.

    ``folder`` is where the run was to write, if that is known already.
    """
    error = _own_cause(error)
    if isinstance(error, OSError) and not isinstance(error, MissingConfigException):
        return _explain_disk(error, folder)
    if not isinstance(error, CompactHydraException):
        return describe(error)
    config_dir, overrides = _split(arguments)
    faults = _all_faults(error, overrides, config_dir)
    numbers = [f"{i}. " for i in range(1, len(faults) + 1)] if len(faults) > 1 else [""]
    return "\n".join([*(number + fault for number, fault in zip(numbers, faults, strict=True)), MORE])


def _own_cause(error: BaseException) -> BaseException:
    """Our own error where Hydra has wrapped one (of a launcher or a sweeper), else the error itself."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ModelPressError):
        cause = cause.__cause__
    return cause or error


def _explain_disk(error: OSError, folder: Path | None) -> str:
    cause = f"Cannot write {folder or error.filename or 'the run folder'}: {error.strerror}."
    if error.errno in FULL_DISK:
        return f"{cause}\nFree some space (`modelpress store gc`), or write elsewhere: hydra.run.dir=/some/folder"
    elsewhere = "hydra.run.dir=/some/folder store=/some/folder/store"
    return f"{cause}\nStart from a folder you may write to, or name one: {elsewhere}"


def _split(arguments: Sequence[str]) -> tuple[str | None, list[str]]:
    """``--config-dir`` and the overrides."""
    from hydra._internal.utils import get_args_parser

    given = get_args_parser().parse_args(list(arguments))
    return given.config_dir, list(given.overrides)


def _all_faults(error: BaseException, overrides: Sequence[str], config_dir: str | None) -> list[str]:
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
    try:
        return None, compose([_first_value(override) for override in overrides], config_dir)
    except (HydraException, ModelPressError) as error:
        return error, None


def _first_value(override: str) -> str:
    """The first value of a sweep stands for the sweep; anything else stays as it is."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    try:
        parsed = OverridesParser.create().parse_override(override)
    except HydraException:
        return override
    if not parsed.is_discrete_sweep():
        return override
    return f"{parsed.get_key_element()}={next(iter(parsed.sweep_string_iterator()))}"


def _guilty(error: BaseException, overrides: Sequence[str]) -> str | None:
    """Which override an error is about."""
    if isinstance(error, OverrideParseException):
        return next((o for o in overrides if o == error.override), None)
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, option = error.missing_cfg_file.rpartition("/")
        return next((o for o in overrides if key_of(o).partition("@")[0] == group and option in o), None)
    before = r"override '?|argument '|parameters '|already at '|from config. '?|value of '|Multiple values for "
    named = re.search(rf"(?:{before})([^\s'=]+?)\.?(?:[\s'=]|$)", str(error))
    return next((o for o in overrides if named and key_of(o) == named.group(1).lstrip("+~")), None)


def _explain_one(error: BaseException, override: str | None, good: DictConfig | None) -> str:
    if isinstance(error, OverrideParseException):
        return _explain_syntax(error)
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        return _explain_option(error)
    if override is not None:
        known = _explain_override(error, override, good)
        if known is not None:
            return known
    lines = [line for line in str(error).splitlines() if "See http" not in line]
    cause = error.__cause__
    return "\n".join(lines + ([_first_line(cause)] if isinstance(cause, OmegaConfBaseException) else []))


def _explain_syntax(error: OverrideParseException) -> str:
    return (
        f"Cannot read {error.override!r}: it is not key=value, or a bracket or quote stays open.\n"
        "Lists, and values with spaces or any of , [ ] { } = need quotes for the shell and for Hydra:\n"
        "  'technique=[distill,finetune]'   'dataset.path=\"my reviews.csv\"'"
    )


def _explain_option(error: MissingConfigException) -> str:
    group, _, option = str(error.missing_cfg_file).rpartition("/")
    if not group:
        return _first_line(error)
    options = sorted({*(error.options or ()), *group_options(group)})
    file = f"conf/{group}/{option}.yaml"
    return f"{group}={option}: there is no {file}.{near(option, options)} Options: {', '.join(options)}."


def _explain_override(error: BaseException, override: str, good: DictConfig | None) -> str | None:
    text, cause, key = str(error), error.__cause__, key_of(override)
    if text.startswith(("Ambiguous value", "Sweep parameters")):
        return f"{override}: several values need -m for a sweep (one run per value), or [ ] for a list."
    if text.startswith(("Multiple values for", "Could not append")):
        return f"{override}: {key} is there already; leave out the +."
    if text.startswith("Could not delete"):
        return f"{override}: there is no {key} to take away."
    if text.startswith("Could not override") and good is not None:
        return unknown_key(override, good)
    return _explain_value(override, cause) if isinstance(cause, ValidationError) else None


def _explain_value(override: str, cause: ValidationError) -> str:
    mounted = {"teacher": "model@teacher", "finetune": "technique@finetune"}.get(key_of(override))
    if mounted is not None:
        option = override.partition("=")[2]
        return f"{override}: {key_of(override)} is chosen from a group mounted there; write {mounted}={option}"
    return f"{override}: {_first_line(cause)}."


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__).rstrip(".")
