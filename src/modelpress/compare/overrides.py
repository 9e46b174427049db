"""The overrides of a command line, as names and values. Standard library only."""

from __future__ import annotations

import shlex

Value = str | float | bool | None
WORDS: dict[str, Value] = {"true": True, "false": False, "null": None}
# What does not change a result: where it is written and who is told.
ADMINISTRATIVE = ("hydra", "logger", "name", "store", "callbacks")


def overrides(command: str) -> dict[str, Value]:
    """Names and values of a run's command; ``+`` and ``~`` are left out, and so is what cannot change its result.

    >>> overrides("python run.py technique=distill +model.x=true hydra.verbose=1 'engine=[openvino]'")
    {'technique': 'distill', 'model.x': True, 'engine': '[openvino]'}
    """
    try:
        words = shlex.split(command) if any(sign in command for sign in "'\"\\#") else command.split()
    except ValueError:  # a quote that never closes: nobody typed this command
        return {}
    pairs = [word.partition("=") for word in words if "=" in word and not word.startswith("-")]
    found = {name.lstrip("+~"): value(text) for name, _, text in pairs}
    return {name: entry for name, entry in found.items() if not is_administrative(name)}


def is_administrative(name: str) -> bool:
    """Whether an override only says where results go.

    >>> [is_administrative(name) for name in ("hydra/launcher", "logger.wandb.project", "seed")]
    [True, True, False]
    """
    return name.replace("/", ".").partition(".")[0] in ADMINISTRATIVE


def value(text: str) -> Value:
    """A typed value where the text spells one.

    >>> value("0.5"), value("1e-3"), value("true"), value("null"), value("bert")
    (0.5, 0.001, True, None, 'bert')
    """
    if text.lower() in WORDS:
        return WORDS[text.lower()]
    number = as_number(text)
    return text if number is None else number


def as_number(given: object) -> float | None:
    """A finite number; ``None`` for anything else, truth values among it."""
    if isinstance(given, bool) or not isinstance(given, str | int | float):
        return None
    try:
        number = float(given)
    except ValueError:
        return None
    return number if abs(number) < float("inf") else None


def spelled(given: Value) -> str:
    """As a user would type it.

    >>> [spelled(given) for given in (4.0, 0.35, True, None, "bert")]
    ['4', '0.35', 'true', 'null', 'bert']
    """
    if given is None or isinstance(given, bool):
        return {None: "null", True: "true", False: "false"}[given]
    return f"{given:.12g}" if isinstance(given, float) else str(given)
