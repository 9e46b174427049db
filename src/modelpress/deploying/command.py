"""``modelpress predict``: the deployed engine at work. Torch-free."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from modelpress.deploying.module import predictor_module
from modelpress.errors import ModelPressError


def deploy_folder(run: Path | str) -> Path:
    """The deploy folder of a run, or the folder itself if it is one. Raises if there is none, naming known ones."""
    given = Path(run)
    for folder in (given, given / "deploy"):
        if (folder / "deploy.json").is_file():
            return folder
    if not given.exists():
        known = sorted(path.parents[1] for path in Path("outputs").glob("*/*/deploy/deploy.json"))
        names = ", ".join(map(str, known[-5:])) or "none yet; `modelpress run` makes one"
        raise ModelPressError(f"There is no run at {given}. Runs under outputs/ that can predict: {names}.")
    raise ModelPressError(
        f"{given} has no deploy/ folder: the run was stopped before its end, failed, or ran with callbacks=none. "
        "Repeat its command; what is finished is not done twice."
    )


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register ``modelpress predict``."""
    parser = subparsers.add_parser("predict", help="use a deployed engine", description=main.__doc__)
    parser.add_argument("run", type=Path, help="a run's folder, e.g. outputs/latest, or its deploy folder")
    parser.add_argument("items", nargs="+", metavar="ITEM", help="texts, or image files, whichever the model takes")
    parser.add_argument("--pair", metavar="TEXT", help="the second text, for a model of text pairs")
    parser.add_argument("--labels", help="of a dual encoder: texts to choose from, e.g. 'a dog,a cat'")
    parser.add_argument("--engine", help="a runtime or an engine of deploy.json (default: the best)")
    parser.set_defaults(main=main)


def main(args: argparse.Namespace) -> int:
    """Classify texts or images with the engine that a run deployed."""
    if args.pair is not None and len(args.items) != 1:
        raise ModelPressError(f"--pair needs exactly one text before it; there are {len(args.items)}.")
    folder = deploy_folder(args.run)
    module = predictor_module(folder)
    sees = hasattr(module, "pixel_values")
    for option, fits in (("pair", not sees), ("labels", sees)):
        if getattr(args, option) is not None and not fits:
            raise ModelPressError(f"--{option} does not fit this model, which reads {'images' if sees else 'texts'}.")
    items = [(args.items[0], args.pair)] if args.pair is not None else args.items
    options = {"labels": module.split(args.labels)} if sees else {}
    try:
        predictor = module.Predictor(folder, args.engine, **options)
        answers = predictor.predict(items)
    except module.DeployError as error:
        raise ModelPressError(str(error)) from error
    _show(answers, f"{predictor.settings['name']} in {predictor.engine['name']}")
    return 0


def _show(answers: Sequence[Mapping[str, Any]], title: str) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("label", "probability", "text" if "text" in answers[0] else "image", title=title)
    for answer in answers:
        item = answer["text"] if "text" in answer else answer["image"]
        shown = item if isinstance(item, str) else " | ".join(item)
        table.add_row(Text(answer["label"], "bold"), f"{answer['probability']:.3f}", Text(shown))
    Console().print(table)
