"""Measure engines against each other: one fresh process each, one session of balanced rounds. Imports no runtime."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from modelpress.benchmark import lock
from modelpress.benchmark.gpu import Gpu, at
from modelpress.benchmark.lane import Lane
from modelpress.benchmark.machine import machine
from modelpress.benchmark.progress import Steps
from modelpress.benchmark.rounds import balanced_orders
from modelpress.benchmark.session import (
    TRACE,
    Measurement,
    Session,
    Settings,
    Subject,
    Workload,
    load_session,
    save_session,
)
from modelpress.engines.base import Hardware
from modelpress.engines.driver import probe
from modelpress.errors import ModelPressError

__all__ = ["Measurement", "Session", "Settings", "Subject", "Workload", "load_session", "measure"]


def measure(
    subjects: Sequence[Subject],
    workloads: Sequence[Workload],
    evaluation: Mapping[str, Path],
    settings: Settings,
    hardware: Hardware,
    folder: Path,
) -> Session:
    """Time every subject on every workload of its inputs in one session, then run its evaluation items through each.

    A subject that cannot open or dies becomes rows with status ``unsupported`` or ``failed`` and its reason; the others
    go on. Waits for a quiet machine first (:mod:`modelpress.benchmark.lock`). ``evaluation``: inputs -> requests file;
    the logits (of one tower of two: the embeddings) are saved per subject, float32, in the order of the file. The
    session is saved to ``folder`` and can be read with :func:`load_session`. Raises ModelPressError on doubled ids or
    missing files; workers never outlive the call. ``inputs@split`` asks for a further split, and the answers
    are saved as ``subject@split``.
    """
    _check(subjects, workloads, evaluation)
    folder.mkdir(parents=True, exist_ok=True)
    with lock.exclusive(f"benchmark of {len(subjects)} engines"):
        gpu = measured_gpu(hardware)
        places = [_place(folder, i, subject) for i, subject in enumerate(subjects)]
        lanes = [Lane(one, workloads, settings, at, gpu) for one, at in zip(subjects, places, strict=True)]
        session = _measure(lanes, evaluation, settings, hardware, folder)
    save_session(session, folder)
    return session


def _measure(
    lanes: list[Lane], evaluation: Mapping[str, Path], settings: Settings, hardware: Hardware, folder: Path
) -> Session:
    started, before = time.monotonic(), machine()
    try:
        with Steps(_expected_s(lanes, evaluation, settings)) as steps:
            _open(lanes, steps)
            _rounds(lanes, settings, steps)
            logits = _batches(lanes, evaluation, steps)
    finally:
        for lane in lanes:
            lane.close()
    return Session(
        measurements=[row for lane in lanes for row in lane.measurements()],
        logits=logits,
        machine_before=before,
        machine_after=machine(),
        seconds=time.monotonic() - started,
        trace=folder / TRACE,
        settings=asdict(settings),
        hardware=asdict(hardware),
    )


def _open(lanes: list[Lane], steps: Steps) -> None:
    for lane in lanes:
        with steps.step("open", f"opening {lane.subject.id}"):
            lane.open()
    gpu = lanes[0].gpu
    idle_w = gpu.idle_w() if gpu is not None else None
    for lane in lanes:
        lane.idle_w = idle_w


def measured_gpu(hardware: Hardware) -> Gpu | None:
    """The counters of the GPU that the engines run on: CUDA's first device. ``None`` on CPUs and without NVML."""
    if hardware.accelerator != "cuda":
        return None
    devices = probe().devices
    return at(devices[0].bus_id) if devices else None


def _rounds(lanes: list[Lane], settings: Settings, steps: Steps) -> None:
    for number, order in enumerate(balanced_orders(len(lanes), settings.rounds)):
        for position, index in enumerate(order):
            with steps.step("block", f"round {number + 1} of {settings.rounds}"):
                lanes[index].block(number, position)


def _batches(lanes: list[Lane], evaluation: Mapping[str, Path], steps: Steps) -> dict[str, Path]:
    logits: dict[str, Path] = {}
    for lane in lanes:
        with steps.step("batches", f"throughput and accuracy of {lane.subject.id}"):
            logits |= lane.batches(_own(evaluation, lane.subject.asked))
    return logits


def _own(evaluation: Mapping[str, Path], inputs: str) -> dict[str, Path]:
    """The files of one subject, by their split; the first has no name."""
    named = {name.partition("@"): path for name, path in evaluation.items()}
    return {at + split: path for (whose, at, split), path in named.items() if whose == inputs}


def _expected_s(lanes: list[Lane], evaluation: Mapping[str, Path], settings: Settings) -> dict[str, tuple[int, float]]:
    """For the progress bar: kind of step -> (how many, seconds each)."""
    shapes = sum(len(lane.workloads) for lane in lanes) / len(lanes)
    opening_s = 1.0 * settings.cold_starts + shapes * settings.warm_min_ms / 1e3
    block_s = shapes * (settings.block_ms + settings.rewarm_ms) / 1e3
    batches_s = shapes * settings.throughput_s + (4.0 if evaluation else 0.0)
    return {
        "open": (len(lanes), opening_s),
        "block": (len(lanes) * settings.rounds, block_s),
        "batches": (len(lanes), batches_s),
    }


def _place(folder: Path, index: int, subject: Subject) -> Path:
    """Folder of a subject's log and logits; its id made safe for a file name."""
    place = folder / "workers" / f"{index:02d}_{re.sub(r'[^A-Za-z0-9_.-]+', '_', subject.id)[:80]}"
    place.mkdir(parents=True, exist_ok=True)
    return place


def _check(subjects: Sequence[Subject], workloads: Sequence[Workload], evaluation: Mapping[str, Path]) -> None:
    if not subjects or not workloads:
        raise ModelPressError(f"nothing to measure: {len(subjects)} engines and {len(workloads)} shapes were given.")
    for name in {subject.asked for subject in subjects} - {workload.inputs for workload in workloads}:
        raise ModelPressError(f"nothing to measure: no shape was given for the inputs {name!r}.")
    shapes = [f"{w.inputs} {w.shape}" if w.inputs != "main" else w.shape for w in workloads]
    for kind, names in (("engine", [s.id for s in subjects]), ("shape", shapes)):
        doubled = sorted({name for name in names if names.count(name) > 1})
        if doubled:
            raise ModelPressError(
                f"{kind} given twice in one benchmark: {', '.join(doubled)}. Each name must be unique."
            )
    for path in (*(w.requests for w in workloads), *evaluation.values()):
        if not path.is_file():
            raise ModelPressError(f"requests file {path} does not exist.")
