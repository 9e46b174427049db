from __future__ import annotations

from pathlib import Path

import pytest

from modelpress.compare.run import Run, read_all
from tests.compare import worlds


@pytest.fixture(scope="session")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine finished jobs, and four that are not. Do not change it."""
    return worlds.sweep(tmp_path_factory.mktemp("compare") / "multirun" / "sweep")


@pytest.fixture(scope="session")
def runs(sweep: Path) -> list[Run]:
    return read_all(sorted(sweep.iterdir()))
