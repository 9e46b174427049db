"""Exports take seconds, so each is made once per session."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.engines.trt import exported

Exported = Callable[[str, str], dict[str, Path]]


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """The files of a family's towers, in float32 or INT8."""
    made: dict[tuple[str, str], dict[str, Path]] = {}

    def get(family: str, numbers: str) -> dict[str, Path]:
        if (family, numbers) not in made:
            made[family, numbers] = exported.export(family, numbers, tmp_path_factory.mktemp(f"{family}_{numbers}"))
        return made[family, numbers]

    return get
