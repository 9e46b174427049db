"""Who used the processor: all processes (/proc/stat) against ours. The difference is foreign load."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")


@dataclass(frozen=True)
class Usage:
    """Seconds over the processors this process may run on. ``stolen_s``: taken by the hypervisor."""

    wall_s: float
    busy_s: float
    stolen_s: float
    ours_s: float
    cpus: int

    def __sub__(self, earlier: Usage) -> Usage:
        """What happened since ``earlier``."""
        return Usage(
            self.wall_s - earlier.wall_s,
            self.busy_s - earlier.busy_s,
            self.stolen_s - earlier.stolen_s,
            self.ours_s - earlier.ours_s,
            self.cpus,
        )

    def __add__(self, other: Usage) -> Usage:
        """Two stretches together."""
        return Usage(
            self.wall_s + other.wall_s,
            self.busy_s + other.busy_s,
            self.stolen_s + other.stolen_s,
            self.ours_s + other.ours_s,
            self.cpus,
        )

    @property
    def foreign_share(self) -> float:
        """Share of the processors' time that went to others, in [0, 1]."""
        available_s = self.wall_s * self.cpus
        return max(0.0, self.busy_s + self.stolen_s - self.ours_s) / available_s if available_s > 0 else 0.0


def usage(pids: tuple[int, ...]) -> Usage | None:
    """Counters now; ``pids`` are ours besides this process. ``None`` where /proc/stat is missing."""
    try:
        lines = (PROC / "stat").read_text().splitlines()
    except OSError:
        return None
    allowed = {f"cpu{index}" for index in os.sched_getaffinity(0)}
    rows = [line.split() for line in lines if line.split() and line.split()[0] in allowed]
    if not rows:
        return None
    tick = os.sysconf("SC_CLK_TCK")
    # columns: user nice system idle iowait irq softirq steal ...; user already contains guest time
    busy = sum(int(row[column]) for row in rows for column in (1, 2, 3, 6, 7)) / tick
    stolen = sum(int(row[8]) for row in rows if len(row) > 8) / tick
    ours = sum(process_cpu_s(pid) for pid in pids) + time.process_time()
    return Usage(time.monotonic(), busy, stolen, ours, len(rows))


def process_cpu_s(pid: int) -> float:
    """User and system time of all threads of a process, s; 0 if it is gone."""
    try:
        fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
