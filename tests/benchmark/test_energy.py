from __future__ import annotations

from pathlib import Path

import pytest

from modelpress.benchmark import energy


def domain(root: Path, name: str, label: str, energy_uj: int, limit: int = 1000) -> None:
    folder = root / name
    folder.mkdir(parents=True, exist_ok=True)
    for file, value in (("name", label), ("energy_uj", energy_uj), ("max_energy_range_uj", limit)):
        (folder / file).write_text(f"{value}\n")


def test_packages_are_summed_and_parts_of_them_left_out(tmp_path: Path) -> None:
    domain(tmp_path, "intel-rapl:0", "package-0", 100)
    domain(tmp_path, "intel-rapl:1", "package-1", 900)
    domain(tmp_path, "intel-rapl:0:0", "core", 5)
    before = energy.read(tmp_path)
    domain(tmp_path, "intel-rapl:0", "package-0", 400)
    domain(tmp_path, "intel-rapl:1", "package-1", 50)  # wrapped at 1000
    assert energy.joules(before, energy.read(tmp_path)) == pytest.approx((300 + 150) / 1e6)


def test_absent_or_unreadable_is_none(tmp_path: Path) -> None:
    assert energy.read(tmp_path / "absent") is None
    domain(tmp_path, "intel-rapl:0", "package-0", 100)
    (tmp_path / "intel-rapl:0" / "energy_uj").unlink()
    assert energy.read(tmp_path) is None
    assert energy.joules(None, None) is None
