from __future__ import annotations

from pathlib import Path

import pytest

import tests.tiny as tiny
from modelpress.config import compose
from modelpress.errors import ModelPressError
from modelpress.graph import graph
from modelpress.job import Job
from modelpress.pipeline import execute
from modelpress.preflight import preflight, untrained

STRUCTURED, PRUNE = "technique.prune_structured.transform", "technique.prune.transform"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.make(tmp_path_factory.mktemp("world"))


def job(world: Path, technique: str, *extra: str) -> Job:
    return Job.of(compose(tiny.fast(world, f"technique=[{technique}]", *extra)), world, "test")


def samples(technique: str) -> list[str]:
    """As few as the small world has."""
    return [f"technique.{name}.transform.samples=16" for name in technique.split(",")[1:] if name != "prune"]


@pytest.mark.parametrize(
    ("technique", "extra", "message"),
    [
        (
            "distill,prune_structured",
            f"{STRUCTURED}.sparsity=0.99",
            r"prune_structured: Removing heads, neu.*1\.0 %.*smallest",
        ),
        ("distill,prune_structured", f"{STRUCTURED}.round_to=64", r"can be reached is 100.0 %"),
        (
            "distill,prune",
            f"{PRUNE}.exclude=[querry]",
            r"technique\.prune\.transform\.exclude: .* '\*\.query\*'",
        ),
        ("distill,prune", f"{PRUNE}.pattern='3:7'", "3:7"),
        ("distill,ptq", "technique.ptq.transform.exclude=[nowhere]", "nowhere"),
        (
            "distill",
            "technique.distill.objective.weights.affinity=1",
            r"technique\.distill: .*weights\.affinity is for dual",
        ),
        ("distill,ptq", "technique.ptq.transform.samples=5000", r"Set it to 1 … \d+"),
    ],
)
def test_said_before_anything_trains(world: Path, technique: str, extra: str, message: str) -> None:
    more = ["control=true"] if "sparsity" in extra else []  # the arm of equal latency asks for nothing
    more += [f"{PRUNE}.sparsity=null"] if "pattern" in extra else samples(technique) if "samples" not in extra else []
    with pytest.raises(ModelPressError, match=message):
        execute(job(world, technique, extra, *more))
    assert not list((world / "store" / "entries").glob("*")), "the parent was trained first"


def test_what_works_is_let_through(world: Path) -> None:
    made = job(
        world, "distill,prune_structured,qat", f"{STRUCTURED}.round_to=4", *samples("distill,prune_structured,qat")
    )
    stages = graph(made).order
    preflight(made, stages)
    assert [stage.name for stage in stages if untrained(made, stage) is not None][-1] == "prune_structured"
    assert not list((world / "store" / "entries").glob("*")), "preflight trains nothing"


def test_a_network_that_only_training_can_shape_is_not_guessed(world: Path) -> None:
    """The second stage starts from the parent's shape; the third from a shape that the second will choose."""
    made = job(world, "distill,prune_structured,qat")
    stages = {stage.name: stage for stage in graph(made).order}
    assert untrained(made, stages["qat"]) is None
    network = untrained(made, stages["prune_structured"])
    assert network is not None
    assert network.num_layers == stages["distill"].recipe.numbers().num_hidden_layers  # type: ignore[attr-defined]
