"""How long a user waits for an answer: ``--help``, ``--cfg job``, a typo. Warm disk cache, five runs each."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
COMMANDS = {
    "run.py --help": ["run.py", "--help"],
    "run.py --cfg job": ["run.py", "--cfg", "job"],
    "a typo in a key": ["run.py", "technique.distill.objective.temprature=2"],
    "a typo in a model": ["run.py", "model=tinybrt"],
}


def seconds(arguments: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, check=False)
    return time.perf_counter() - started


def main() -> None:
    for name, arguments in COMMANDS.items():
        times = [seconds(arguments) for _ in range(6)][1:]
        print(f"{name:20s} median {statistics.median(times):.2f} s, max {max(times):.2f} s (limit 2 s)")


if __name__ == "__main__":
    main()
