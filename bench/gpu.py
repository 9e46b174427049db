"""docs/results/gpu/<date>-<device>/: ViT-B/32's image tower on the GPU of this machine, in about 10 minutes.

    make bench PART=gpu
    python -m bench.gpu doctor engines    # without the tests

It writes README.md (the page), measurements.json and trace.npz (every timed request), streams.json, doctor.json and
pytest.txt (``pytest -m gpu``). Without a GPU it writes nothing and says why.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

from bench.contest import Contender, Contest, hold
from bench.gpu_page import HALF, ORIGINAL, SHAPES, STREAMS, WANTED, Facts, page
from bench.pressed import Arms, arms
from modelpress.benchmark.process import WorkerFault, WorkerProcess
from modelpress.benchmark.requests import batch_of, write
from modelpress.benchmark.session import RESULT, TRACE, Workload
from modelpress.benchmark.statistics import ratio_interval
from modelpress.code_version import code_version
from modelpress.engines.base import Plan
from modelpress.engines.driver import Device, probe
from modelpress.errors import one_of
from modelpress.press import press
from modelpress.report.names import ENGINE_TITLES
from modelpress.report.record import Interval

RESULTS = Path("docs") / "results" / "gpu"
TOWER = "image"
STREAM_ROUNDS, STREAM_S = 10, 0.4
TESTS = "pytest.txt"
TEST_S, DOCTOR_S = 240.0, 180.0
OVERRIDES = (
    *(
        "experiment=clip_vit_b32_latency",
        "technique=[ptq]",
        "~technique.fp16",
        "~technique.bf16",
        "~technique.prune_structured",
    ),
    *("hardware=cuda", "benchmark=quick", f"benchmark.shapes=[{','.join(SHAPES)}]", "benchmark.requests=32"),
    "engine=[torch,torch_compile,onnxruntime_cuda,tensorrt,tensorrt_rtx]",
    *("engine.torch.precisions=[fp32,tf32,bf16,fp16]", "engine.torch_compile.precisions=[fp32,bf16,fp16]"),
    "engine.onnxruntime_cuda.precisions=[fp32,tf32]",
    *("engine.tensorrt.precisions=[fp32,fp16]", "engine.tensorrt.batch=[1,32,32]"),
    *("engine.tensorrt_rtx.precisions=[fp32,fp16]", "engine.tensorrt_rtx.batch=[1,32,32]"),
)


def main(arguments: Sequence[str] = ()) -> None:
    args = parse(arguments)
    driver = probe()
    if driver.reason is not None:
        raise SystemExit(f"error: bench gpu measures a GPU, and there is none: {driver.reason}.")
    device = driver.devices[0]
    folder = RESULTS / name_of(device, date.today())
    folder.mkdir(parents=True, exist_ok=True)
    for name in args.parts or PARTS:
        PARTS[name](device, folder)
    print(f"Written to {folder}")


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser("bench.gpu", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all of them if none is named")
    args = parser.parse_args(list(arguments))
    for name in args.parts:
        one_of("part", name, PARTS)
    return args


def doctor(device: Device, folder: Path) -> None:
    """What can be built and run here."""
    record([sys.executable, "-m", "modelpress", "doctor", "--json"], folder / "doctor.json", DOCTOR_S)


def tests(device: Device, folder: Path) -> None:
    """The tests that need a GPU."""
    record([sys.executable, "-m", "pytest", "-m", "gpu", "-q", "-rs"], folder / TESTS, TEST_S)


def engines(device: Device, folder: Path) -> None:
    """Every engine in every precision, streams, and the page."""
    work = Path("outputs") / "bench_gpu"
    contest = measured(arms(*OVERRIDES), work)
    for name in (RESULT, TRACE):
        shutil.copyfile(work / name, folder / name)
    streams = by_turns(contest, work)
    (folder / "streams.json").write_text(json.dumps(streams, indent=1) + "\n", encoding="utf-8")
    found = {key: faster(per_s) for key, per_s in streams.items()}
    facts = Facts(device, "python -m bench gpu", str(code_version()["commit"])[:7], last_line(folder / TESTS), found)
    text = page(contest, facts)
    (folder / "README.md").write_text(text, encoding="utf-8")
    print(text)


def name_of(device: Device, day: date) -> str:
    """``2026-11-22-nvidia-h100-80gb-hbm3``."""
    return f"{day:%Y-%m-%d}-{re.sub(r'[^a-z0-9]+', '-', device.name.lower()).strip('-')}"


def record(command: Sequence[str], file: Path, limit_s: float) -> None:
    """Run it and keep what it prints in ``file``."""
    print(f"{' '.join(command[1:])} …", flush=True)
    with file.open("w", encoding="utf-8") as output:
        try:
            subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, timeout=limit_s, check=False)
        except subprocess.TimeoutExpired:
            output.write(f"\nended after {limit_s:g} s\n")
    print(last_line(file), flush=True)


def last_line(file: Path) -> str:
    """The last line of a file without its ornaments, or that there is none."""
    lines = file.read_text(encoding="utf-8").strip().splitlines() if file.is_file() else []
    return lines[-1].strip("= ") if lines else "not run"


def measured(made: Arms, folder: Path) -> Contest:
    """The image tower of the original in every engine, and of its INT8 twin in those that compute in INT8."""
    contenders: dict[str, Contender] = {}
    for stage in (made.graph.baseline, made.graph.last):
        pressed = press(made.job, stage, made.done[stage], towers=(TOWER,))
        contenders |= rows(stage.name, pressed.plans.values(), {name: why for (_, name), why in pressed.absent.items()})
    data: Any = made.data()
    arrays = data.workloads(SHAPES, made.settings.requests)[TOWER]
    workloads = [Workload(shape, write(folder / "requests" / f"{shape}.npz", arrays[shape]), TOWER) for shape in SHAPES]
    anchor, lossless = (f"{ORIGINAL}/torch/{precision}" for precision in WANTED)
    return hold(contenders, workloads, None, made.settings, made.job.hardware, folder, anchor=anchor, lossless=lossless)


def rows(stage: str, plans: Any, absent: Mapping[str, str]) -> dict[str, Contender]:
    """One per plan and per engine that there is none for. PyTorch only imitates INT8, so it has no such rows."""
    found = {
        f"{stage}/{plan.engine}/{plan.precision}": Contender(ENGINE_TITLES[plan.engine], plan)
        for plan in plans
        if stage == ORIGINAL or not plan.engine.startswith("torch")
    }
    return found | {
        f"{stage}/{name}": Contender(ENGINE_TITLES[name], None, why=why)
        for name, why in absent.items()
        if stage == ORIGINAL or not name.startswith("torch")
    }


# --- streams ---------------------------------------------------------------------------------------------------------


def by_turns(contest: Contest, folder: Path) -> dict[str, dict[str, list[float]] | str]:
    """Items per second of every TensorRT engine in 16 bits, with one stream and with several, or why there are none."""
    plans = {key: entry.plan for key, entry in contest.contenders.items() if entry.plan is not None}
    return {key: _alternate(plan, folder) for key, plan in plans.items() if _has_streams(plan)}


def _has_streams(plan: Plan) -> bool:
    return "streams" in plan.settings and plan.precision in HALF


def _alternate(plan: Plan, folder: Path) -> dict[str, list[float]] | str:
    shape, workers = SHAPES[-1], dict[int, WorkerProcess]()
    per_s: dict[str, list[float]] = {str(count): [] for count in STREAMS}
    try:
        for count in STREAMS:
            workers[count] = WorkerProcess(folder / f"streams_{count}.txt")
            own = replace(plan, settings={**plan.settings, "streams": count})
            workers[count].open(own, {shape: folder / "requests" / f"{shape}.npz"}, DOCTOR_S)
            workers[count].pause()
        for turn in range(STREAM_ROUNDS):
            for count in STREAMS if turn % 2 == 0 else STREAMS[::-1]:
                workers[count].resume()
                asked = {"shape": shape, "batch": batch_of(shape), "min_s": STREAM_S}
                per_s[str(count)].append(workers[count].ask("throughput", DOCTOR_S, **asked)["per_s"])
                workers[count].pause()
    except WorkerFault as fault:
        return str(fault)
    finally:
        for worker in workers.values():
            worker.kill()
    return per_s


def faster(per_s: Mapping[str, Sequence[float]] | str) -> Interval | str:
    """How many times the items per second of the first count the last one has, over paired turns."""
    if isinstance(per_s, str):
        return per_s
    seconds = [[[1 / rate] for rate in per_s[str(count)]] for count in STREAMS]
    return ratio_interval(seconds[0], seconds[-1])


PARTS: Mapping[str, Callable[[Device, Path], None]] = {"doctor": doctor, "tests": tests, "engines": engines}

if __name__ == "__main__":
    main(sys.argv[1:])
