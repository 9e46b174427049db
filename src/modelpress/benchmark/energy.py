"""Energy of the processor package from Linux's RAPL counters; ``None`` where they are absent or unreadable."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

POWERCAP = Path("/sys/class/powercap")


@dataclass(frozen=True)
class Counter:
    """One package domain: microjoules since some moment, and where the counter wraps around."""

    energy_uj: int
    range_uj: int


Reading = dict[str, Counter]


def read(root: Path = POWERCAP) -> Reading | None:
    """Counters of all package domains (``intel-rapl:N``, also on AMD); ``None`` if any cannot be read."""
    domains = sorted(path for path in root.glob("intel-rapl:*") if path.name.count(":") == 1)
    packages = [path for path in domains if _name(path).startswith("package")]
    try:
        return {path.name: _counter(path) for path in packages} or None
    except (OSError, ValueError):
        return None


def joules(before: Reading | None, after: Reading | None) -> float | None:
    """Energy between two readings, J, summed over packages; one wrap-around of a counter is allowed for."""
    if before is None or after is None or before.keys() != after.keys():
        return None
    return sum(_difference(before[name], after[name]) for name in before) / 1e6


def _difference(before: Counter, after: Counter) -> int:
    wrapped = after.energy_uj < before.energy_uj
    return after.energy_uj - before.energy_uj + (before.range_uj if wrapped else 0)


def _counter(domain: Path) -> Counter:
    energy, limit = (int((domain / name).read_text()) for name in ("energy_uj", "max_energy_range_uj"))
    return Counter(energy, limit)


def _name(domain: Path) -> str:
    try:
        return (domain / "name").read_text().strip()
    except OSError:
        return ""
