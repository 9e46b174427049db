"""``modelpress bench FILE.onnx``: measure any ONNX file with the method of the reports."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from modelpress.benchmark import table
from modelpress.benchmark.inputs import default_shape, synthetic
from modelpress.benchmark.measure import measure
from modelpress.benchmark.requests import read, write
from modelpress.benchmark.session import RESULT, Measurement, Session, Settings, Subject, Workload, save_session
from modelpress.engines.base import Artifact, Engine, Hardware, Unsupported
from modelpress.engines.graph import inspect
from modelpress.errors import ModelPressError

ITEMS = 64  # synthetic inputs per shape


def bench_file(
    onnx: Path,
    *,
    engines: Sequence[Engine],
    shapes: Sequence[str],
    settings: Settings,
    hardware: Hardware,
    folder: Path,
    requests: Path | None = None,
) -> Session:
    """Measure one ONNX file in these engines on ``shapes`` (``1x128``) or on a requests file (``data``).

    Without ``shapes`` and ``requests`` the graph's own sizes are used. Inputs made here are synthetic, and every row
    says so in ``details["inputs"]``. Engines that cannot be built are rows with their reason. The result is also in
    ``folder/measurements.json``. Raises ModelPressError on a bad file or shape.
    """
    graph = inspect(onnx)
    named = list(shapes) or ([] if requests else ["x".join(map(str, default_shape(graph)))])
    workloads = [Workload(shape, _synthetic(onnx, shape, folder)) for shape in named]
    if requests is not None:
        _check_inputs(requests, {value.name for value in graph.inputs})
        workloads.append(Workload("data", requests))
    subjects, absent = _build(onnx, engines, hardware, folder)
    if not subjects:
        raise ModelPressError("no engine can run this file here: " + "; ".join(f"{k}: {v}" for k, v in absent.items()))
    session = measure(subjects, workloads, {}, settings, hardware, folder)
    for row in session.measurements:
        row.details["inputs"] = "requests file" if row.shape == "data" else "synthetic inputs"
    rows = [Measurement(name, w.shape, "unsupported", why, "fp32") for name, why in absent.items() for w in workloads]
    session = replace(session, measurements=session.measurements + rows)
    save_session(session, folder)
    return session


def parse_shape(text: str) -> tuple[int, ...]:
    """``1x128`` -> (1, 128). The first number is the batch and must be 1: a latency is that of one request."""
    if not re.fullmatch(r"[1-9]\d*(x[1-9]\d*)*", text):
        raise ModelPressError(f"shape is {text!r}; write sizes joined by x, such as 1x128 or 1x3x224x224.")
    sizes = tuple(int(part) for part in text.split("x"))
    if sizes[0] != 1:
        raise ModelPressError(f"shape is {text!r}; its first size must be 1. Batches are measured as throughput.")
    return sizes


def _synthetic(onnx: Path, shape: str, folder: Path) -> Path:
    return write(folder / "requests" / f"{shape}.npz", synthetic(onnx, parse_shape(shape), ITEMS))


def _check_inputs(requests: Path, needed: set[str]) -> None:
    missing = sorted(needed - read(requests).arrays.keys())
    if missing:
        raise ModelPressError(f"requests file {requests} lacks the graph's inputs {', '.join(missing)}.")


def _build(
    onnx: Path, engines: Sequence[Engine], hardware: Hardware, folder: Path
) -> tuple[list[Subject], dict[str, str]]:
    """Plans of all engines, and the reason of those that cannot be built."""
    subjects: list[Subject] = []
    absent: dict[str, str] = {}
    for engine in engines:
        try:
            plans = engine.build(Artifact(onnx), hardware, folder / "engines" / engine.name)
        except Unsupported as reason:
            absent[engine.name] = str(reason)
            continue
        subjects += [Subject(f"{engine.name}/{plan.precision}", plan) for plan in plans]
    return subjects, absent


# --- command line ----------------------------------------------------------------------------------------------------


def add_parser(subparsers: Any) -> None:
    """Add ``bench`` to the command line of ``modelpress``."""
    parser = subparsers.add_parser("bench", help="measure any ONNX file", description=main.__doc__)
    add_arguments(parser)
    parser.set_defaults(main=main)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``modelpress bench``."""
    parser.add_argument("file", type=Path, help="an .onnx file")
    parser.add_argument("--engine", nargs="+", default=["onnxruntime", "openvino"], help="names in conf/engine")
    parser.add_argument("--shape", nargs="+", default=[], help="such as 1x128 or 1x3x224x224; default: the graph's own")
    parser.add_argument("--requests", type=Path, help="an .npz of real inputs (arrays by input name, optional lengths)")
    parser.add_argument("--preset", default="quick", help="a name in conf/benchmark (default: quick)")
    parser.add_argument("--hardware", default="cpu", help="a name in conf/hardware (default: cpu)")
    parser.add_argument("--threads", type=int, help="default: as many as this process may use")
    parser.add_argument("--output", type=Path, help="folder for the results (default: outputs/bench/FILE)")


def main(args: argparse.Namespace) -> int:
    """Measure an ONNX file in several engines: latency, throughput, memory and cold start, in balanced rounds."""
    hardware = _hardware(args.hardware)
    if args.threads is not None and args.threads < 1:
        raise ModelPressError(f"--threads is {args.threads}; it must be at least 1.")
    folder = args.output or Path("outputs") / "bench" / args.file.stem
    session = bench_file(
        args.file,
        engines=[_engine(name) for name in args.engine],
        shapes=args.shape,
        settings=preset(args.preset),
        hardware=replace(hardware, threads=args.threads or hardware.threads),
        folder=folder,
        requests=args.requests,
    )
    table.show(session)
    print(f"Written to {folder / RESULT}")
    return 0 if any(row.latency_ms for row in session.measurements) else 1


def preset(name: str) -> Settings:
    """Settings of ``conf/benchmark/<name>.yaml``."""
    values = _node("benchmark", name)
    return Settings(**{field.name: values[field.name] for field in fields(Settings)})


def _hardware(name: str) -> Hardware:
    values = _node("hardware", name)
    return Hardware(**{**values, "engines": tuple(values["engines"])})


def _engine(name: str) -> Engine:
    from modelpress.config import build

    engine: Engine = build(_node("engine", name), f"engine={name}")
    return engine


def _node(group: str, name: str) -> dict[str, Any]:
    """One option of a config group as plain values."""
    from omegaconf import OmegaConf

    from modelpress.config import conf_dir
    from modelpress.errors import one_of

    options = sorted(path.stem for path in (conf_dir() / group).glob("*.yaml"))
    values: Any = OmegaConf.to_container(OmegaConf.load(conf_dir() / group / f"{one_of(group, name, options)}.yaml"))
    return dict(values)
