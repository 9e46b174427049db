"""``modelpress sensitivity RUN``: what each layer of a run's INT8 network costs, as a table and a page."""

from __future__ import annotations

import argparse
import json
import shlex
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from modelpress.errors import ModelPressError

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from modelpress.report.sensitivity import Study

CONFIG = ".hydra/config.yaml"
HYDRA = ".hydra/hydra.yaml"
RESULT = "sensitivity.json"
PAGE = "sensitivity.html"
SAMPLES = 512


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register ``modelpress sensitivity``."""
    parser = subparsers.add_parser(
        "sensitivity",
        description="Run one part of a network, then one group of layers, in INT8 at a time and show what each costs "
        "on the validation split.",
        epilog="Example: modelpress run technique=ptq model=minilm && modelpress sensitivity outputs/latest",
    )
    parser.add_argument("run", nargs="?", default="outputs/latest", help="folder of a run (%(default)s)")
    parser.add_argument(
        "--samples", type=int, default=SAMPLES, metavar="N", help="at most N validation items (%(default)s)"
    )
    parser.set_defaults(main=main)


def main(args: argparse.Namespace) -> int:
    """Run ``modelpress sensitivity``."""
    from modelpress.report.sensitivity import render
    from modelpress.report.sensitivity_page import page
    from modelpress.store import write_atomic

    run = Path(args.run)
    study = of_run(run, args.samples)
    render(study)
    write_atomic(run / RESULT, json.dumps(study.to_json(), indent=1, allow_nan=False) + "\n")
    write_atomic(run / PAGE, page(study))
    print(f"\nThe page: {run / PAGE}")
    return 0


def of_run(run: Path, samples: int = SAMPLES) -> Study:
    """The sensitivity of the last INT8 network of a run.

    Raises:
        ModelPressError: no run, a run without its config, no INT8 network in it, or no samples.
    """
    from modelpress.job import Job
    from modelpress.sensitivity import study

    cfg = config_of(run)
    command = shlex.join(["modelpress", "sensitivity", str(run), "--samples", str(samples)])
    with _where_it_ran(run):
        return study(Job.of(cfg, run), samples, command)


def config_of(run: Path) -> DictConfig:
    """The composed config of a run."""
    from omegaconf import DictConfig, OmegaConf

    from modelpress.config import register

    if not (run / CONFIG).is_file():
        raise ModelPressError(_no_config(run))
    register()
    cfg = OmegaConf.load(run / CONFIG)
    assert isinstance(cfg, DictConfig)
    return cfg


def _no_config(run: Path) -> str:
    if not run.exists():
        return f"There is no {run}. Give the folder of a run, e.g. outputs/<name>/<time>."
    inside = sorted(str(found.parents[1]) for found in [*run.glob(f"*/{CONFIG}"), *run.glob(f"*/*/{CONFIG}")])
    if inside:
        return f"{run} holds {len(inside)} runs; give one of them: {', '.join(inside[-5:])}."
    return (
        f"{run} has no {CONFIG}, which says what its networks were made of. `modelpress run` and `python run.py` write "
        "it, compress() does not: give the command in report.json to `modelpress run` (nothing is trained twice)."
    )


@contextmanager
def _where_it_ran(run: Path) -> Iterator[None]:
    """Relative paths of a config (store, dataset) are meant from the folder in which its command was given."""
    from omegaconf import OmegaConf

    place = Path.cwd()
    if (run / HYDRA).is_file():
        place = Path(str(OmegaConf.load(run / HYDRA).hydra.runtime.cwd))
    with chdir(place if place.is_dir() else Path.cwd()):
        yield
