"""``modelpress run`` and ``modelpress plan``: the same overrides, the same checks; plan only looks."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from modelpress.pipeline import Step

PROGRAM = "modelpress run"


def main(arguments: Sequence[str]) -> int:
    """``modelpress run``: every argument goes to Hydra."""
    from modelpress.launch import main as launch

    return launch(arguments, program=PROGRAM, prefix=("run",))


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register ``modelpress plan``."""
    parser = subparsers.add_parser(
        "plan",
        description="Say what is in the store, what would run, and about how long, without doing it.",
        epilog="Example: modelpress plan technique=distill model=tinybert",
    )
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="as for `modelpress run`")
    parser.add_argument("--config-dir", help="a folder of further groups, as for `modelpress run`")
    parser.set_defaults(main=plan)


def plan(args: argparse.Namespace) -> int:
    """Compose, check, and print one line per step."""
    from hydra.errors import HydraException

    from modelpress.check import check
    from modelpress.config import compose
    from modelpress.explain import explain

    flags = ["--config-dir", args.config_dir] if args.config_dir else []
    try:
        cfg = compose(args.overrides, args.config_dir)
    except HydraException as error:
        print(explain(error, [*flags, *args.overrides]), file=sys.stderr)
        return 1
    check(cfg, args.overrides)
    from modelpress import pipeline

    print(table(pipeline.plan(cfg)))
    return 0


def table(steps: Sequence[Step]) -> str:
    """One line per step and the sum.

    >>> from modelpress.pipeline import Step  # doctest: +SKIP
    """
    width = max((len(step.name) for step in steps), default=0)
    lines = [f"  {_state(step):<10}  {step.kind:<6}  {step.name:<{width}}  {_time(step)}".rstrip() for step in steps]
    todo = [step for step in steps if not step.hit]
    if not todo:
        return "\n".join([*lines, "Everything is in the store: the run only writes its report again."])
    known = [step.minutes for step in todo if step.minutes is not None]
    open_ends = f", and {len(todo) - len(known)} whose time is not known" if len(known) < len(todo) else ""
    return "\n".join([*lines, f"{len(todo)} of {len(steps)} steps to do, about {_spell(sum(known))}{open_ends}."])


def _state(step: Step) -> str:
    return "in store" if step.hit else "will run"


def _time(step: Step) -> str:
    if step.hit:
        return ""
    return f"{'?' if step.minutes is None else _spell(step.minutes):>7}  ({step.basis})"


def _spell(minutes: float) -> str:
    return f"{minutes:.0f} min" if minutes >= 1.5 else f"{minutes * 60:.0f} s"
