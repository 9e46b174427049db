"""Stages trained (or found in the store) and pressed by the real pipeline, without its own benchmark."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelpress.benchmark.requests import write
from modelpress.benchmark.session import Settings, Workload
from modelpress.config import build, compose
from modelpress.graph import Graph, graph
from modelpress.job import Job
from modelpress.loggers import Tracking
from modelpress.pipeline import train_all
from modelpress.press import Pressed, press
from modelpress.stage import Stage
from modelpress.store import Entry

FOLDER = Path("outputs") / "bench_quantization"


@dataclass(frozen=True)
class Arms:
    """A finished graph of stages."""

    job: Job
    graph: Graph
    done: dict[Stage, Entry]

    @property
    def candidate(self) -> Pressed:
        """What the last technique made."""
        return press(self.job, self.graph.last, self.done[self.graph.last])

    @property
    def parent(self) -> Pressed:
        """The network that the last technique started from."""
        parent = self.graph.last.parent
        assert parent is not None
        return press(self.job, parent, self.done[parent])

    @property
    def settings(self) -> Settings:
        return Settings(**self.job.config["benchmark"])

    def data(self) -> Any:
        """The data module with the candidate's tokenizer."""
        cache = self.job.store.root / "data"
        return self.job.dataset.datamodule(self.graph.last.tokenizer(), seed=self.job.seed, cache=cache)

    def workloads(self, folder: Path, *shapes: str) -> list[Workload]:
        """Requests files of these shapes (``1x128``)."""
        data, limit = self.data(), self.settings.requests
        return [
            Workload(s, write(folder / f"{s}.npz", data.requests("test", length=int(s.partition("x")[2]), limit=limit)))
            for s in shapes
        ]

    def test(self, folder: Path) -> Path:
        """A requests file of the test split, with labels."""
        return write(folder / "test.npz", self.data().requests("test"))

    def calibration(self, folder: Path, samples: int, draw: int = 0) -> Path:
        """The very sentences that ``transform.samples`` and ``transform.draw`` give to ours."""
        arrays = self.data().requests("calibration", limit=samples, seed=draw)
        return write(folder / "calibration.npz", arrays)


def arms(*overrides: str) -> Arms:
    """Train what the store lacks. Overrides as on the command line of run.py."""
    job = Job.of(compose(["control=false", "logger=none", *overrides]), FOLDER, "python -m bench")
    network = graph(job)
    with Tracking(job) as tracking:
        done = train_all(job, network, tracking)
    return Arms(job, network, done)


def engine(job: Job, name: str, **options: Any) -> Any:
    """An engine that the job did not choose."""
    node = compose([f"engine=[{name}]"]).engine[name]
    return build({**node, **options}, f"engine.{name}")
