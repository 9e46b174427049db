"""The ``modelpress`` command. Each subcommand imports its own code when it is chosen, so ``--help`` is instant."""

from __future__ import annotations

import argparse
import difflib
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from modelpress import __version__
from modelpress.errors import ModelPressError

PROGRAM = "modelpress"
DEBUG = "HYDRA_FULL_ERROR"


@dataclass(frozen=True)
class Command:
    """``module`` has ``add_parser(subparsers)``, whose parser sets ``main``; or, when ``raw``, ``main(arguments)``."""

    module: str
    help: str
    raw: bool = False


# In the order in which a user meets them.
COMMANDS = {
    "run": Command("modelpress.cli_run", "train, press, measure and report: everything `python run.py` does", raw=True),
    "plan": Command("modelpress.cli_run", "what a run would find in the store, what it would do, and about how long"),
    "predict": Command("modelpress.deploying.command", "use a deployed engine: predict outputs/latest 'a fine film'"),
    "show": Command("modelpress.report.show", "a finished run's report in the terminal"),
    "compare": Command("modelpress.compare.command", "many runs in one table, one Pareto chart, one HTML page"),
    "runs": Command("modelpress.compare.runs", "every run: finished, running or failed, with its verdict or reason"),
    "why": Command("modelpress.compare.why", "what differs between two runs: settings, data, versions, machine, code"),
    "sensitivity": Command("modelpress.sensitivity_cli", "what each layer of a run's INT8 network costs"),
    "bench": Command("modelpress.benchmark.file", "measure any ONNX file with the method of the reports"),
    "build": Command("modelpress.build_cli", "a TensorRT engine of any ONNX file, for ranges of shapes"),
    "doctor": Command("modelpress.doctor.command", "what this machine can build and run, and why not"),
    "sync": Command("modelpress.loggers.sync", "push offline Weights & Biases runs and record what they rest on"),
    "store": Command("modelpress.store_cli", "list or clean the store of finished stages"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code: 0, 1 (failed), 2 (wrong usage) or 130 (stopped)."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given and given[0] not in (*COMMANDS, "-h", "--help", "--version"):
        return _unknown(given[0])
    return _guarded(lambda: _answer(given))


def _answer(given: list[str]) -> int:
    if given and given[0] in COMMANDS:
        return _dispatch(given[0], given[1:])
    print(f"{PROGRAM} {__version__}" if "--version" in given else help_text())
    return 0


def help_text() -> str:
    """What ``modelpress --help`` prints."""
    lines = [f"  {name:<13}{command.help}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            f"{PROGRAM} {__version__}: distil a network into a small one, press it into engines, say whether it paid.",
            "",
            f"usage: {PROGRAM} COMMAND …",
            "",
            *lines,
            "",
            f"{PROGRAM} COMMAND --help says more; {PROGRAM} run --help lists every group of the configuration.",
        ]
    )


def _unknown(given: str) -> int:
    near = difflib.get_close_matches(given, COMMANDS, n=1)
    hint = f" Did you mean `{PROGRAM} {near[0]}`?" if near else ""
    if "=" in given:  # an override without its command
        hint = f" Did you mean `{PROGRAM} run {given}`?"
    print(f"{PROGRAM} has no command {given!r}.{hint} Commands: {', '.join(COMMANDS)}.", file=sys.stderr)
    return 2


def _dispatch(name: str, arguments: list[str]) -> int:
    module = importlib.import_module(COMMANDS[name].module)
    if COMMANDS[name].raw:
        code: int = module.main(arguments)
        return code
    parser = argparse.ArgumentParser(PROGRAM)
    module.add_parser(parser.add_subparsers(metavar="COMMAND"))
    parsed = parser.parse_args([name, *arguments])
    return int(parsed.main(parsed) or 0)


def _guarded(command: Callable[[], int]) -> int:
    """Faults of the user without a traceback; a closed pipe (``| head``) is no fault at all."""
    try:
        code = command()
        sys.stdout.flush()
        return code
    except ModelPressError as error:
        if os.environ.get(DEBUG) == "1":
            raise
        print(error, file=sys.stderr)
        return 1
    except BrokenPipeError:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  (the interpreter flushes it at exit)
        return 0
    except KeyboardInterrupt:
        print("\nStopped.", file=sys.stderr)
        return 130
