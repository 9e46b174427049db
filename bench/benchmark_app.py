"""Our p50 against OpenVINO's own benchmark_app: same file, threads, hint, precision and inputs, interleaved A B B A.

    python bench/benchmark_app.py FILE.onnx --shape 1x128 --precision bf16

Prints both and the ratio of every round; exit code 1 if the median ratio is further than 5 % from 1.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from modelpress.benchmark import lock, requests
from modelpress.benchmark.file import parse_shape
from modelpress.benchmark.inputs import synthetic
from modelpress.benchmark.process import WorkerProcess
from modelpress.engines.base import Artifact, Hardware, Plan
from modelpress.engines.openvino import HINTS, OpenVino

TOLERANCE = 0.05
TIMEOUT_S = 120.0


def main() -> int:
    args = arguments()
    with tempfile.TemporaryDirectory() as scratch, lock.exclusive("bench/benchmark_app.py"):
        folder = Path(scratch)
        plan = OpenVino([args.precision]).build(Artifact(args.file), Hardware(threads=args.threads), folder)[0]
        arrays = synthetic(args.file, parse_shape(args.shape), items=1)
        inputs = requests.write(folder / "requests.npz", arrays)
        for name, array in arrays.items():
            requests.np.save(folder / f"{name}.npy", array)
        worker = WorkerProcess(folder / "log.txt")
        try:
            opened = worker.open(plan, {args.shape: inputs}, TIMEOUT_S)
            limits = {"window_ms": 500, "min_ms": 1000, "limit_ms": 5000, "tolerance": 0.05}
            worker.ask("warm", TIMEOUT_S, shape=args.shape, **limits)
            worker.pause()
            rounds = [one_round(i, worker, plan, list(arrays), folder, args) for i in range(args.rounds)]
        finally:
            worker.kill()
    return report(rounds, opened["precision"], plan)


def one_round(
    number: int, worker: WorkerProcess, plan: Plan, names: list[str], folder: Path, args: argparse.Namespace
) -> tuple[float, float]:
    """Median latency in ms of ours and of benchmark_app, measured one after the other."""
    if number % 2 == 0:
        ours = our_median(worker, args)
        return ours, their_median(plan, names, folder, args)
    theirs = their_median(plan, names, folder, args)
    return our_median(worker, args), theirs


def our_median(worker: WorkerProcess, args: argparse.Namespace) -> float:
    worker.resume()
    block = {"start": 0, "min_ms": 1e3 * args.seconds, "min_queries": 11, "limit_ms": 6e4, "rewarm_ms": 100}
    times = worker.ask("block", TIMEOUT_S, shape=args.shape, **block)["times_ms"]
    worker.pause()
    return statistics.median(times)


def their_median(plan: Plan, names: list[str], folder: Path, args: argparse.Namespace) -> float:
    """benchmark_app's own median of one synchronous request at a time."""
    program = shutil.which("benchmark_app") or str(Path(sys.executable).parent / "benchmark_app")
    shape = f"[{args.shape.replace('x', ',')}]"
    command = [program, "-m", str(args.file), "-d", "CPU", "-api", "sync", "-hint", "latency"]
    command += ["-infer_precision", f"CPU:{HINTS[args.precision]}", "-load_config", str(threads_config(plan, folder))]
    command += ["-data_shape", ",".join(f"{name}{shape}" for name in names), "-t", f"{args.seconds}"]
    command += ["-i", ",".join(f"{name}:{folder / name}.npy" for name in names)]
    command += ["-json_stats", "-report_type", "no_counters", "-report_folder", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S)
    if done.returncode:
        raise SystemExit(f"benchmark_app failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    results = json.loads((folder / "benchmark_report.json").read_text())["execution_results"]
    return float(results["latency (ms)"])  # what its log calls "Median"


def threads_config(plan: Plan, folder: Path) -> Path:
    """benchmark_app refuses -nthreads beside a hint; OpenVINO itself takes both, so threads travel in a config file."""
    path = folder / "config.json"
    path.write_text(json.dumps({"CPU": {"INFERENCE_NUM_THREADS": plan.settings["threads"]}}))
    return path


def report(rounds: list[tuple[float, float]], precision: str, plan: Plan) -> int:
    for number, (ours, theirs) in enumerate(rounds, 1):
        print(f"round {number}: ours {ours:.3f} ms, benchmark_app {theirs:.3f} ms, ratio {ours / theirs:.3f}")
    ratio = statistics.median(ours / theirs for ours, theirs in rounds)
    medians = [statistics.median(column) for column in zip(*rounds, strict=True)]
    within = abs(ratio - 1.0) <= TOLERANCE
    print(
        f"OpenVINO {precision}, {plan.settings['threads']} threads: ours {medians[0]:.3f} ms, benchmark_app "
        f"{medians[1]:.3f} ms, median ratio {ratio:.3f}: {'within' if within else 'NOT within'} {TOLERANCE:.0%}"
    )
    return 0 if within else 1


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("file", type=Path, nargs="?", default=Path("outputs/latest/deploy/model.onnx"))
    parser.add_argument("--shape", default="1x128")
    parser.add_argument("--precision", default="bf16", choices=sorted(HINTS))
    parser.add_argument("--threads", type=int)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=int, default=2)
    given = sys.argv[1:] if Path(sys.argv[0]).name == Path(__file__).name else []  # under `python -m bench`: defaults
    return parser.parse_args(given)


if __name__ == "__main__":
    raise SystemExit(main())
