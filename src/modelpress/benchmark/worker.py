"""The child process of a benchmark: opens one plan, answers JSON commands. Imports one runtime and numpy, no torch.

``python -m modelpress.benchmark.worker FD SPAWNED`` reads one JSON command a line from stdin and answers on the file
descriptor FD, so that whatever a runtime prints to stdout or stderr cannot corrupt an answer. SPAWNED is the parent's
``time.monotonic()`` just before it started this process. Commands: open, warm, block, throughput, evaluate, memory,
close. Commands with their arguments are the methods of :class:`Worker`.
"""

from __future__ import annotations

import time

STARTED = time.monotonic()

import contextlib  # noqa: E402
import ctypes  # noqa: E402
import importlib  # noqa: E402
import itertools  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import resource  # noqa: E402
import signal  # noqa: E402
import sys  # noqa: E402
from collections.abc import Iterator  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import numpy as np  # noqa: E402

from modelpress.benchmark import requests  # noqa: E402
from modelpress.engines.base import Engine, Plan, Session, Unsupported  # noqa: E402
from modelpress.errors import first_line  # noqa: E402

Answer = dict[str, Any]


class Worker:
    """One opened session and the requests of every shape. Times are ms unless the name says otherwise."""

    def __init__(self, spawned: float) -> None:
        self.spawned = spawned
        self.session: Session | None = None
        self.requests: dict[str, requests.Requests] = {}
        self.device_ms: dict[str, list[float]] = {}  # of the queries timed last: see Session.device_ms

    def open(self, plan: str, workloads: dict[str, str]) -> Answer:
        """Open the plan and answer one request. Reading the requests is not part of the cold start."""
        interpreter = time.monotonic()
        self.requests = {shape: requests.read(Path(path)) for shape, path in workloads.items()}
        first = self._same(next(iter(self.requests)), 0)
        base_mb = memory_mb()["now"]
        stamps = [time.monotonic()]
        given = Plan.from_json(plan)
        engine = next(reversed([engine_of(one.target) for one in (*given.parts, given)]))
        stamps.append(time.monotonic())
        self.session = engine.open(given)
        stamps.append(time.monotonic())
        self.session.run(first)
        stamps.append(time.monotonic())
        steps = [1e3 * (after - before) for before, after in itertools.pairwise(stamps)]
        cold = {"process_ms": 1e3 * (STARTED - self.spawned), "interpreter_ms": 1e3 * (interpreter - STARTED)}
        cold |= dict(zip(("import_ms", "load_ms", "first_inference_ms"), steps, strict=True))
        kept = {} if self.session.kernels_kept is None else {"kernels_kept": self.session.kernels_kept}
        return {
            "precision": self.session.precision,
            "details": self.session.details(),
            "cold_start": {**cold, "total_ms": sum(cold.values()), **kept},
            "memory_interpreter_mb": base_mb,
        }

    def warm(self, shape: str, window_ms: float, min_ms: float, limit_ms: float, tolerance: float) -> Answer:
        """Run until ``min_ms`` have passed and the medians of the last 3 windows agree within ``tolerance``.

        Every length is met once before: runtimes prepare kernels per shape, and a first run must not be counted.
        """
        new_shapes = [self._once(shape, index) for index in self.requests[shape].one_of_each_length()]
        first = {"shapes": len(new_shapes), "new_shape_ms": float(np.median(new_shapes))}
        medians: list[float] = []
        start, count = time.monotonic(), 0
        while True:
            times = self._timed(shape, 0, window_ms, 3, limit_ms)
            medians.append(float(np.median(times)))
            count += len(times)
            last, elapsed_ms = medians[-3:], 1e3 * (time.monotonic() - start)
            settled = len(last) == 3 and max(last) <= (1.0 + tolerance) * min(last)
            if (settled and elapsed_ms >= min_ms) or elapsed_ms >= limit_ms:
                facts = {"converged": settled, "ms": elapsed_ms, "queries": count, "medians_ms": medians}
                self._opened().warmed()
                return first | facts

    def block(
        self, shape: str, start: int, min_ms: float, min_queries: int, limit_ms: float, rewarm_ms: float
    ) -> Answer:
        """Time requests from position ``start`` of the even order, for ``min_ms`` AND ``min_queries``."""
        rewarm = self._timed(shape, start, rewarm_ms, 2, limit_ms)
        times = self._timed(shape, start, min_ms, min_queries, limit_ms)
        return {"times_ms": times, "device_ms": self.device_ms, "rewarm_queries": len(rewarm)}

    def throughput(self, shape: str, batch: int, min_s: float) -> Answer:
        """Offline throughput: whole batches of similar length for at least ``min_s``. ``size``: items per run."""
        try:
            return self._throughput(shape, batch, min_s)
        except Exception as error:  # a graph with a fixed batch axis: each runtime has its own exception for it
            if batch == 1:
                raise
            return {**self._throughput(shape, 1, min_s), "note": f"batch {batch} refused: {first_line(error)}"}

    def evaluate(self, path: str, batch: int, output: str) -> Answer:
        """Run every item once; save the logits as float32, in the file's order, to ``output`` (.npy)."""
        items = requests.read(Path(path))
        began = time.monotonic()
        try:
            logits, size = self._logits(items, batch), batch
        except Exception:  # as in throughput
            if batch == 1:
                raise
            logits, size = self._logits(items, 1), 1
        seconds = time.monotonic() - began
        np.save(output, logits)
        return {"items": len(items), "seconds": seconds, "batch": size}

    def memory(self) -> Answer:
        """Resident memory of this process now and at its peak, MB."""
        return memory_mb()

    def close(self) -> Answer:
        """Close the session."""
        if self.session is not None:
            self.session.close()
        return {}

    def _opened(self) -> Session:
        if self.session is None:
            raise RuntimeError("no plan is open")
        return self.session

    def _once(self, shape: str, index: int) -> float:
        inputs = self._same(shape, index)
        before = time.perf_counter_ns()
        self._opened().run(inputs)
        return (time.perf_counter_ns() - before) / 1e6

    def _same(self, shape: str, index: int) -> requests.Inputs:
        """A request of one item alone, as often as the shape's batch has places."""
        return self.requests[shape].take(np.full(requests.batch_of(shape), index))

    def _timed(self, shape: str, start: int, min_ms: float, min_queries: int, limit_ms: float) -> list[float]:
        session, items = self._opened(), self.requests[shape]
        run, order, clock = session.run, items.even_order(), time.perf_counter_ns
        batch = np.arange(requests.batch_of(shape))
        times: list[float] = []
        parts: list[dict[str, float]] = []
        begin = clock()
        while True:
            inputs = items.take(order[((start + len(times)) * len(batch) + batch) % len(order)])
            before = clock()
            run(inputs)
            after = clock()
            times.append((after - before) / 1e6)
            parts.append(session.device_ms())
            spent_ms = (after - begin) / 1e6
            if (spent_ms >= min_ms and len(times) >= min_queries) or spent_ms >= limit_ms:
                self.device_ms = {name: [part[name] for part in parts] for name in parts[0]}
                return times

    def _throughput(self, shape: str, batch: int, min_s: float) -> Answer:
        session, items = self._opened(), self.requests[shape]
        batches = [inputs for _, inputs in items.batches(min(batch, len(items)))]
        sizes = [len(next(iter(inputs.values()))) for inputs in batches]
        order = np.argsort((np.arange(len(batches)) + 0.5) * requests.GOLDEN % 1.0)
        for inputs in {tuple(map(np.shape, inputs.values())): inputs for inputs in batches}.values():
            session.run(inputs)  # each shape once, as in warm
        begin = time.monotonic()
        asked: list[int] = []

        def requested() -> Iterator[requests.Inputs]:
            while time.monotonic() - begin < min_s or len(asked) < 2:
                asked.append(order[len(asked) % len(order)])
                yield batches[asked[-1]]

        answered = sum(1 for _ in session.answers(requested()))
        done, spent = sum(sizes[index] for index in asked[:answered]), time.monotonic() - begin
        return {"per_s": done / spent, "samples": done, "seconds": spent, "batch": max(sizes)}

    def _logits(self, items: requests.Requests, batch: int) -> Any:
        run, parts, places = self._opened().run, [], []
        for indices, inputs in items.batches(batch):
            outputs = run(inputs)
            parts.append(np.array(outputs.get("logits", next(iter(outputs.values()))), np.float32))
            places.append(indices)
        order = np.concatenate(places)
        logits = np.empty((len(items), *parts[0].shape[1:]), np.float32)
        logits[order] = np.concatenate(parts)
        return logits


def engine_of(target: str) -> type[Engine]:
    """The Engine class at a dotted path, with the runtime it names imported."""
    module, _, name = target.rpartition(".")
    engine: type[Engine] = getattr(importlib.import_module(module), name)
    for runtime in engine.runtimes:
        importlib.import_module(runtime)
    return engine


def memory_mb() -> dict[str, float]:
    """Resident memory of this process, MB: ``now`` and ``peak`` (VmHWM)."""
    status = Path("/proc/self/status").read_text().splitlines()
    lines = dict(line.split(":", 1) for line in status if ":" in line)
    peak_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    hwm_kb = int(lines["VmHWM"].split()[0]) if "VmHWM" in lines else peak_kb
    return {"now": int(lines["VmRSS"].split()[0]) / 1024, "peak": hwm_kb / 1024}


def die_with_parent() -> None:
    """Ask Linux to kill this process when its parent dies, so that no stopped worker is left behind."""
    pr_set_pdeathsig = 1
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None, use_errno=True).prctl(pr_set_pdeathsig, signal.SIGKILL)


def answer(worker: Worker, line: str) -> Answer:
    """Do one command; faults become answers, so that the parent always hears why."""
    command: dict[str, Any] = json.loads(line)
    name = command.pop("command")
    try:
        return {"status": "ok", **getattr(worker, name)(**command)}
    except Unsupported as reason:
        return {"status": "unsupported", "why": str(reason)}
    except Exception as error:
        import traceback

        traceback.print_exc()
        return {"status": "failed", "why": first_line(error)}


def main(arguments: list[str]) -> None:
    """Answer commands until ``close`` or until the parent goes away."""
    die_with_parent()
    worker = Worker(float(arguments[1]))
    with os.fdopen(int(arguments[0]), "w") as out:
        for line in sys.stdin:
            out.write(json.dumps(answer(worker, line)) + "\n")
            out.flush()
            if json.loads(line)["command"] == "close":
                return


if __name__ == "__main__":
    main(sys.argv[1:])
