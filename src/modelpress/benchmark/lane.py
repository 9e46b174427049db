"""One subject's way through a session: open, warm, its blocks, its batches, its rows. A fault ends its lane only."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from modelpress.benchmark import energy
from modelpress.benchmark.gpu import Gpu, Watch
from modelpress.benchmark.load import Usage, usage
from modelpress.benchmark.process import WorkerFault, WorkerProcess
from modelpress.benchmark.requests import batch_of
from modelpress.benchmark.rounds import drift, instability, round_medians, variation
from modelpress.benchmark.session import Measurement, Settings, Subject, Workload, latency_of
from modelpress.benchmark.statistics import p50_bound


@dataclass
class Trace:
    """What is known about one shape so far."""

    rounds: list[list[float]] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    warm: dict[str, Any] = field(default_factory=dict)
    used: Usage | None = None
    joules: float | None = None
    watch: Watch | None = None  # of the GPU, where there is one
    device_ms: dict[str, list[list[float]]] = field(default_factory=dict)
    queries: int = 0  # including uncounted ones, for energy
    throughput: dict[str, Any] = field(default_factory=dict)


class Lane:
    """The parent's view of one worker. Between its turns the worker is stopped (SIGSTOP)."""

    def __init__(
        self,
        subject: Subject,
        workloads: Sequence[Workload],
        settings: Settings,
        place: Path,
        gpu: Gpu | None = None,
    ) -> None:
        self.subject = subject
        self.workloads = [workload for workload in workloads if workload.inputs == subject.asked]
        self.settings = settings
        self.place = place
        self.gpu = gpu
        self.idle_w: float | None = None  # of the GPU while all engines are open and none works
        self.device_mb: float | None = None
        self.worker: WorkerProcess | None = None
        self.fault: WorkerFault | None = None
        self.opened: dict[str, Any] = {}
        self.cold: list[dict[str, Any]] = []
        self.memory: dict[str, float] = {}
        self.evaluated: dict[str, Any] = {}
        self.traces = {
            workload.shape: Trace(watch=Watch(gpu) if gpu is not None else None) for workload in self.workloads
        }

    def open(self) -> None:
        """Cold starts in fresh processes; the last one stays, is warmed up on every shape and stopped."""
        with self._guard():
            before = self._device_used_mb()
            for _ in range(self.settings.cold_starts):
                self._kill()
                self.worker = WorkerProcess(self.place / "log.txt")
                requests = {workload.shape: workload.requests for workload in self.workloads}
                self.opened = self.worker.open(self.subject.plan, requests, self.settings.timeout_s)
                self.cold.append(self.opened["cold_start"])
            for shape, trace in self.traces.items():
                trace.warm = self._warm(shape)
            after = self._device_used_mb()  # the other engines are stopped: what grew is this one's
            self.device_mb = None if before is None or after is None else after - before

    def block(self, number: int, position: int) -> None:
        """One block of every shape (their order alternates), between SIGCONT and SIGSTOP."""
        with self._guard() as running:
            if not running:
                return
            shapes = list(self.traces)
            for shape in shapes if number % 2 == 0 else shapes[::-1]:
                self._block(shape, number)
                self.traces[shape].positions.append(position)

    def batches(self, evaluation: Mapping[str, Path]) -> dict[str, Path]:
        """Peak memory, throughput of every shape, then the evaluation: the saved logits of every split.

        ``evaluation``: ``""`` or ``@split`` -> requests file; answered under the subject's id with that at its end.
        """
        saved: dict[str, Path] = {}
        with self._guard() as running:
            if not running:
                return {}
            self.memory = self._ask("memory")
            for shape, trace in self.traces.items():
                batch, seconds = self.settings.throughput_batch, self.settings.throughput_s
                trace.throughput = self._ask("throughput", shape=shape, batch=batch, min_s=seconds)
            for split, path in evaluation.items():
                output = self.place / f"logits{split}.npy"
                batch = self.settings.evaluate_batch
                answer = self._ask("evaluate", path=str(path), batch=batch, output=str(output))
                self.evaluated = self.evaluated or answer
                saved[f"{self.subject.id}{split}"] = output
        return saved if self.fault is None else {}

    def close(self) -> None:
        """Kill the worker, whatever it is doing. Never raises for a worker that is already gone."""
        self._kill()

    def measurements(self) -> list[Measurement]:
        """One row per shape."""
        return [self._measurement(shape, trace) for shape, trace in self.traces.items()]

    @contextmanager
    def _guard(self) -> Iterator[bool]:
        """Run the body with the worker awake; yields whether there is one. A fault is kept and ends the lane."""
        if self.fault is not None:
            yield False
            return
        try:
            if self.worker is not None:
                self.worker.resume()
            yield True
            if self.worker is not None:
                self.worker.pause()
        except WorkerFault as fault:
            self.fault = fault
            self._kill()

    def _ask(self, command: str, **arguments: Any) -> dict[str, Any]:
        assert self.worker is not None
        return self.worker.ask(command, self.settings.timeout_s, **arguments)

    def _device_used_mb(self) -> float | None:
        return self.gpu.memory_used_mb() if self.gpu is not None else None

    def _warm(self, shape: str) -> dict[str, Any]:
        s = self.settings
        return self._ask(
            "warm",
            shape=shape,
            window_ms=s.warm_window_ms,
            min_ms=s.warm_min_ms,
            limit_ms=s.warm_limit_ms,
            tolerance=s.warm_tolerance,
        )

    def _block(self, shape: str, number: int) -> None:
        s, trace = self.settings, self.traces[shape]
        assert self.worker is not None
        pids = (self.worker.pid,)
        before, joules_before = usage(pids), energy.read()
        with trace.watch.turn() if trace.watch is not None else nullcontext():
            answer = self._ask(
                "block",
                shape=shape,
                start=number * s.block_queries,
                min_ms=s.block_ms,
                min_queries=s.block_queries,
                limit_ms=s.block_limit_ms,
                rewarm_ms=s.rewarm_ms,
            )
        joules, after = energy.joules(joules_before, energy.read()), usage(pids)
        trace.rounds.append(answer["times_ms"])
        for name, times in answer["device_ms"].items():
            trace.device_ms.setdefault(name, []).append(times)
        trace.queries += len(answer["times_ms"]) + answer["rewarm_queries"]
        if before is not None and after is not None:
            trace.used = after - before if trace.used is None else trace.used + (after - before)
        if joules is not None:
            trace.joules = joules + (trace.joules or 0.0)

    def _kill(self) -> None:
        if self.worker is not None:
            self.worker.kill()
            self.worker = None

    def _measurement(self, shape: str, trace: Trace) -> Measurement:
        plan = self.subject.plan
        precision = self.opened.get("precision", plan.precision)
        if self.fault is not None:
            details = {"log": str(Path("workers") / self.place.name / "log.txt"), "plan": plan.file}
            row = Measurement(self.subject.id, shape, self.fault.status, str(self.fault), precision, details=details)
            row.rounds = trace.rounds
            return row
        return self._complete(shape, trace, precision)

    def _complete(self, shape: str, trace: Trace, precision: str) -> Measurement:
        share = trace.used.foreign_share if trace.used is not None else None
        why = instability(trace.rounds, share, bool(trace.warm["converged"]), self.settings)
        return Measurement(
            subject=self.subject.id,
            shape=shape,
            status="unstable" if why else "ok",
            why=why,
            precision=precision,
            latency_ms=latency_of(trace.rounds),
            device_latency_ms=latency_of(trace.device_ms.get("compute", [])),
            rounds=trace.rounds,
            throughput_per_s=trace.throughput["per_s"],
            peak_memory_mb=self.memory["peak"],
            memory_above_interpreter_mb=self.memory["peak"] - self.opened["memory_interpreter_mb"],
            peak_device_memory_mb=self.device_mb,
            cold_start_ms=statistics.median(start["total_ms"] for start in self.cold),
            energy_j_per_sample=self._joules_per_item(shape, trace),
            details=self._details(trace, share),
        )

    def _joules_per_item(self, shape: str, trace: Trace) -> float | None:
        joules = self._joules(trace)
        return None if joules is None else joules / (trace.queries * batch_of(shape))

    def _joules(self, trace: Trace) -> float | None:
        """Of the GPU above its idle power, where it is one that works; else of the processor."""
        return trace.joules if trace.watch is None else trace.watch.net_joules(self.idle_w)

    def _details(self, trace: Trace, share: float | None) -> dict[str, Any]:
        times = [value for block in trace.rounds for value in block]
        median = statistics.median_low([start["total_ms"] for start in self.cold])
        return {
            "engine": self.opened["details"],
            "cold_starts": len(self.cold),
            "cold_start": next(start for start in self.cold if start["total_ms"] == median),
            "warm_up": trace.warm,
            "round_medians_ms": round_medians(trace.rounds),
            "round_cov": variation(trace.rounds),
            "drift": drift(trace.rounds),
            "p50_upper_bound_ms": p50_bound(times),
            "positions": trace.positions,
            "foreign_share": share,
            "throughput": trace.throughput,
            "evaluation": self.evaluated,
            "memory_interpreter_mb": self.opened["memory_interpreter_mb"],
            **self._device(trace),
        }

    def _device(self, trace: Trace) -> dict[str, Any]:
        """Medians of the parts of a request on the accelerator, and what the GPU did meanwhile."""
        parts = {name: statistics.median(chain.from_iterable(times)) for name, times in trace.device_ms.items()}
        watched = {"gpu": trace.watch.facts(self.idle_w)} if trace.watch is not None else {}
        if not parts:
            return watched
        return {"device_ms": parts, "device_round_medians_ms": round_medians(trace.device_ms["compute"]), **watched}
