"""Every experiment runs: its own widths and technique, with words, layers, batches and rounds cut to the least."""

from __future__ import annotations

import csv
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml

import tests.tiny as tiny
from modelpress.check import check
from modelpress.config import compose, conf_dir
from modelpress.job import Job
from modelpress.pipeline import execute
from modelpress.report.record import load

EVERY = sorted(path.stem for path in (conf_dir() / "experiment").glob("*.yaml"))
SHAPES = {"clip_vit_b32_latency": "ViT-B-32", "clip_vit_b16_latency": "ViT-B-16"}
EXPERIMENTS = [name for name in EVERY if name not in SHAPES]
ROWS = 120


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A teacher as wide as MiniLM of 2 layers and 23 words, a csv file, and SST-2's form on disk."""
    root = tmp_path_factory.mktemp("world")
    tiny.write_checkpoint(root / "checkpoint", layers=2, width=384, heads=12, neurons=1536)
    write_sst2(root / "sst2", tiny.write_reviews(root / "reviews.csv", ROWS))
    return root


def write_sst2(folder: Path, reviews: Path) -> None:
    """What ``load_dataset("nyu-mll/glue", "sst2")`` gives: 0/1 labels with names, and a test split without labels."""
    from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

    features = Features(
        {"sentence": Value("string"), "label": ClassLabel(names=["negative", "positive"]), "idx": Value("int32")}
    )
    with reviews.open() as file:
        rows = [(row["text"], tiny.LABELS.index(row["label"])) for row in csv.DictReader(file)]

    def split(part: list[tuple[str, int]], hidden: bool = False) -> Dataset:
        columns = {
            "sentence": [text for text, _ in part],
            "label": [-1 if hidden else label for _, label in part],
            "idx": list(range(len(part))),
        }
        return Dataset.from_dict(columns, features=features)

    parts = {"train": split(rows[:90]), "validation": split(rows[90:106]), "test": split(rows[106:], hidden=True)}
    DatasetDict(parts).save_to_disk(str(folder))


def smallest(world: Path, experiment: str) -> list[str]:
    """The experiment with fixtures in place of what is downloaded or large; its techniques and widths stay its own."""
    own = yaml.safe_load((conf_dir() / "experiment" / f"{experiment}.yaml").read_text())
    from_hub = any("override /dataset" in key for entry in own["defaults"] for key in entry)
    data = [f"dataset.path={world / 'sst2'}"] if from_hub else ["dataset=csv", f"dataset.path={world / 'reviews.csv'}"]
    return [
        f"experiment={experiment}",
        *data,
        "dataset.max_length=32",
        f"teacher.path={world / 'checkpoint'}",
        "++teacher.weights_sha256=null",
        "++teacher.weights_bytes=null",
        "model.architecture.num_hidden_layers=1",  # tracing for ONNX costs seconds per layer
        f"store={world / 'store'}",
        "trainer=tiny",
        "trainer.limit_train_batches=2",
        "engine=onnxruntime",
        "benchmark=quick",
        "benchmark.rounds=2",
        "benchmark.shapes=[data]",
        "benchmark.requests=16",
        "benchmark.throughput_s=0.05",
        *(f"{stage}.trainer.max_epochs=1" for stage in ("finetune", "technique.distill")),
    ]


def sweep_of(experiment: str) -> dict[str, str]:
    """The parameters that the experiment sweeps over, as its sweep file gives them."""
    own = yaml.safe_load((conf_dir() / "experiment" / f"{experiment}.yaml").read_text())
    option = next((entry["override /sweep"] for entry in own["defaults"] if "override /sweep" in entry), "none")
    hydra = yaml.safe_load((conf_dir() / "sweep" / f"{option}.yaml").read_text()).get("hydra", {})
    return dict(hydra.get("sweeper", {}).get("params", {}))


def jobs_of(experiment: str) -> list[list[str]]:
    """Overrides of each job: one of a plain experiment, the first and the last of a sweep."""
    choices = [[f"{key}={value}" for value in str(values).split(",")] for key, values in sweep_of(experiment).items()]
    jobs = [list(job) for job in product(*choices)]
    return [jobs[0], jobs[-1]] if len(jobs) > 1 else jobs


def test_there_are_experiments_and_one_of_them_sweeps() -> None:
    assert {"quick", "tinybert_aligned", "tinybert_sst2", "distil_temperature"} <= set(EXPERIMENTS)
    assert [len(jobs_of(name)) for name in EXPERIMENTS if sweep_of(name)] == [2]


@pytest.mark.parametrize(
    ("experiment", "job"),
    [pytest.param(name, job, id="-".join([name, *job])) for name in EXPERIMENTS for job in jobs_of(name)],
)
def test_every_experiment_runs_to_its_report(world: Path, tmp_path: Path, experiment: str, job: list[str]) -> None:
    cfg = compose([*smallest(world, experiment), *job])
    check(cfg)
    assert execute(Job.of(cfg, tmp_path, f"test {experiment}")) is not None
    report = load(tmp_path / "report.json")
    own = compose([f"experiment={experiment}", *job])
    assert report.name == own.name == experiment
    assert {row.model for row in report.rows} == {own.teacher.name, own.model.name}
    assert {row.role for row in report.rows} == {"baseline", "candidate"} | ({"control"} if own.control else set())
    assert all(row.status in ("ok", "unstable") and row.latency_ms and row.metric is not None for row in report.rows)
    assert widths_of(report.rows, own.model.name) == [own.model.architecture[key] for key in WIDTHS]
    assert report.complete == bool(own.control)
    assert (tmp_path / "deploy" / "predict.py").is_file()


WIDTHS = ("hidden_size", "num_attention_heads", "intermediate_size")


def widths_of(rows: list[Any], model: str) -> list[int]:
    """What the student measured was: hidden width, number of heads, neurons."""
    hidden, head, neurons = next(row.details["widths"] for row in rows if row.model == model)
    return [hidden, hidden // head, neurons]


SMALL = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "head_width": 16, "patch_size": 16},
    "text_cfg": {"context_length": 16, "width": 32, "heads": 4, "layers": 2},
}


@pytest.fixture(scope="module", params=SHAPES)
def table(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """An experiment about speed alone, with a network of its kind that is small: one for all, from one store."""
    root, store = tmp_path_factory.mktemp(request.param), tmp_path_factory.getbasetemp() / "shapes"
    small = [f"model.architecture={SMALL}".replace("'", ""), "technique.prune_structured.transform.round_to=16"]
    quick = ["benchmark=quick", "benchmark.rounds=2", "benchmark.requests=16", "benchmark.throughput_s=0.05"]
    given = [f"experiment={request.param}", *small, *quick, "engine=onnxruntime", f"store={store}"]
    cfg = compose(given)
    check(cfg)
    assert execute(Job.of(cfg, root / "run", f"test {request.param}")) is not None
    return request.param, root / "run"


def test_a_table_of_shapes_holds_every_technique_of_one_network(table: tuple[str, Path]) -> None:
    name, folder = table
    report = load(folder / "report.json")
    assert report.name == name
    assert compose([f"experiment={name}"]).model.architecture == SHAPES[name]
    rows = {(row.stage, row.tower): row for row in report.rows}
    stages = {"adopt": "fp32", "fp16": "fp32", "ptq": "int8", "prune_structured": "fp32"}
    assert {key: rows[key].precision for key in rows if key[0] != "bf16"} == {
        (stage, tower): kind for stage, kind in stages.items() for tower in ("image", "text", "pair")
    }
    assert all(row.latency_ms and row.status in ("ok", "unstable") for row in report.rows if row.stage != "bf16")
    assert all("no bf16 kernels" in str(row.why) for row in report.rows if row.stage == "bf16")
    whole, pruned, int8, half = (rows[stage, "image"] for stage in ("adopt", "prune_structured", "ptq", "fp16"))
    assert whole.params_m > 1.2 * pruned.params_m  # type: ignore[operator]
    assert whole.size_mb > 2 * int8.size_mb  # type: ignore[operator]
    assert half.size_mb < 0.6 * whole.size_mb  # type: ignore[operator]
    assert report.complete


def test_what_random_weights_answer_is_not_judged(table: tuple[str, Path]) -> None:
    report = load(table[1] / "report.json")
    assert all(row.details["weights"] == "random" and row.metric is row.metric_drop is None for row in report.rows)
    assert report.verdict["verdict"] in ("inconclusive", "does_not_pay")
    assert "its weights are random" in report.verdict["words"]
    text = (table[1] / "report.md").read_text()
    assert "Weights are random" in text
    assert f"{report.rows[0].model} · ptq" in text
