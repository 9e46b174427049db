from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from modelpress.benchmark import requests
from tests.benchmark.fakes import HERE
from tests.engines import graphs


@pytest.fixture(autouse=True)
def own_lock_and_workers(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lock of our own (other tests train meanwhile), and workers that can import tests.benchmark.fakes."""
    place = tmp_path_factory.getbasetemp() / "lock"
    place.mkdir(exist_ok=True)
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    monkeypatch.setenv("PYTHONPATH", str(HERE))


@pytest.fixture(scope="session")
def float_graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return graphs.write(tmp_path_factory.mktemp("onnx") / "tiny.onnx")


@pytest.fixture(scope="session")
def static_graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return graphs.write(tmp_path_factory.mktemp("onnx") / "static.onnx", static=True)


@pytest.fixture(scope="session")
def fixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return requests.write(tmp_path_factory.mktemp("requests") / "fixed.npz", graphs.batch(12, 16))


@pytest.fixture(scope="session")
def ragged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """22 items of 3 to 24 tokens, padded with zeros, with labels."""
    rng = np.random.default_rng(1)
    lengths = rng.integers(3, 25, 22)
    mask = (np.arange(24) < lengths[:, None]).astype(np.int64)
    arrays = {"input_ids": graphs.batch(22, 24)["input_ids"] * mask, "attention_mask": mask}
    path = tmp_path_factory.mktemp("requests") / "ragged.npz"
    return requests.write(path, arrays, lengths=lengths, labels=rng.integers(0, 2, 22))


@pytest.fixture
def no_leftovers() -> Iterator[None]:
    """No worker of this process may outlive the test."""
    yield
    workers = [path for path in Path("/proc").glob("[0-9]*/cmdline") if _is_ours(path)]
    assert workers == []


def _is_ours(path: Path) -> bool:
    import os

    try:
        parent = (path.parent / "stat").read_text().rpartition(")")[2].split()[1]
        return b"modelpress.benchmark.worker" in path.read_bytes() and int(parent) == os.getpid()
    except OSError:
        return False
