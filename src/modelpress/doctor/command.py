"""``modelpress doctor``: what this machine can build and run in one table, with cause and fix where it cannot."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from typing import Any

from modelpress.benchmark.machine import default_threads, machine
from modelpress.benchmark.process import environment, explain_exit
from modelpress.doctor.probes import PROBES, Finding
from modelpress.engines.driver import Driver, probe

TIMEOUT_S = 180.0
WIDTH = 120  # in a file or a pipe
PACKAGES = {
    "onnxruntime": ("onnxruntime", "onnxruntime-gpu"),
    "onnxruntime_cuda": ("onnxruntime-gpu",),
    "onnxruntime_tensorrt": ("onnxruntime-gpu",),
    "torch_compile": ("torch",),
    "torch on cuda": ("torch",),
    "torch_compile on cuda": ("torch",),
    "tensorrt": ("tensorrt", "tensorrt-cu13", "tensorrt-cu12"),
    "tensorrt_rtx": ("tensorrt-rtx-cu13",),
}
NO_GPU = "no GPU (see above)"
BOTH = (
    "onnxruntime and onnxruntime-gpu are both installed and overwrite each other: "
    "`make setup-gpu` keeps the one for GPUs, `make setup` after `make clean` the one for CPUs."
)


def add_parser(commands: Any) -> None:
    """Add ``doctor`` to the command line."""
    parser = commands.add_parser("doctor", help="what this machine can build and run, and why not")
    parser.add_argument("--json", action="store_true", help="for programs: the same as one JSON object")
    parser.set_defaults(main=main)


def main(args: argparse.Namespace) -> int:
    """Try every engine and print what came out."""
    driver, findings = probe(), examine()
    if args.json:
        print(json.dumps({"machine": machine(), "gpu": driver.reason, "engines": _plain(findings)}, indent=1))
    else:
        show(driver, findings)
    return 0


def examine() -> dict[str, Finding]:
    """Every engine, each in a process of its own, as many at a time as there are cores."""
    with ThreadPoolExecutor(min(4, default_threads())) as pool:
        return dict(zip(PROBES, pool.map(tried, PROBES), strict=True))


def tried(name: str, timeout_s: float = TIMEOUT_S) -> Finding:
    """What the probe of one engine found; a crash or a hang is a finding too."""
    command = [sys.executable, "-m", "modelpress.doctor.probes", name]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, env=environment())
    except subprocess.TimeoutExpired:
        return _broken(f"no answer within {timeout_s:g} s")
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["it printed nothing"]
        return _broken(f"its process ended ({explain_exit(done.returncode)}): {said[-1][:300]}")
    return Finding(**json.loads(done.stdout.strip().splitlines()[-1]))


def _broken(why: str) -> Finding:
    return Finding(why, why)


def show(driver: Driver, findings: Mapping[str, Finding]) -> None:
    """Print the machine, then one line per engine, then the reasons in full."""
    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in ("engine", "version", "builds", "runs"):
        table.add_column(title, no_wrap=True)
    table.add_column("why not, and what to do", overflow="fold")
    for name, found in findings.items():
        marks = ("no" if reason else "yes" for reason in (found.no_build, found.no_run))
        table.add_row(name, version(name) or "–", *marks, escape(why(found, driver)))
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH)
    for line in head(driver):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    console.print(table)


def head(driver: Driver) -> list[str]:
    """The processor, every GPU or why there is none, and packages that exclude each other."""
    facts = machine()
    lines = [
        f"processor: {facts['cpu']}, {facts['cores']} cores ({', '.join(facts['flags']) or 'no vector extensions'})"
    ]
    lines += [
        f"GPU {device.index}: {device.name}, compute capability {'.'.join(map(str, device.compute_capability))}, "
        f"{device.memory_mb} MB, driver {driver.release or 'of unknown release'}"
        for device in driver.devices
    ]
    if driver.reason is not None:
        lines.append(f"GPU: {driver.reason}")
    if all(_installed(name) for name in ("onnxruntime", "onnxruntime-gpu")):
        lines.append(BOTH)
    return lines


def why(found: Finding, driver: Driver) -> str:
    """The reasons of one engine, the common one short."""
    reasons = dict.fromkeys(filter(None, (found.no_build, found.no_run)))
    return "; ".join(reason.replace(driver.reason, NO_GPU) if driver.reason else reason for reason in reasons)


def version(name: str) -> str | None:
    """Of the package that an engine is in."""
    return next(filter(None, map(_installed, PACKAGES.get(name, (name,)))), None)


def _installed(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _plain(findings: Mapping[str, Finding]) -> dict[str, Any]:
    return {
        name: {"version": version(name), "why_not_built": found.no_build, "why_not_run": found.no_run}
        for name, found in findings.items()
    }
