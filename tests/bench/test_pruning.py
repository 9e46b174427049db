from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from bench import pruning, summary
from bench.contest import Contender, Contest
from bench.pruning import ANCHOR, DENSE, KINDS, File, curves, entries, notes, relevant, table, twin_of
from bench.pruning_plot import STYLES, Point, draw, point, share_of
from modelpress.benchmark.session import Measurement, Session, latency_of
from modelpress.check import inspect
from modelpress.config import compose
from modelpress.engines.base import Plan

LABELS = np.array([0, 1, 1, 0, 1, 0, 1, 1])
CONFIG = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}


def pressed(folder: Path, sparsity: float, engines: tuple[tuple[str, str], ...], **absent: str) -> Any:
    (folder / "model").mkdir(parents=True)
    (folder / "model" / "config.json").write_text(json.dumps(CONFIG))
    plans = {}
    for engine, precision in engines:
        file = folder / f"{engine}_{precision}.bin"
        file.write_bytes(b"0" * 1_000_000)
        plans[f"m/s/{engine}/{precision}"] = Plan(engine, "", precision, str(file))
    facts = {"main": {"sparsity": sparsity, "compressed_mb": 0.5}}
    reasons = {("main", engine): why for engine, why in absent.items()}
    return SimpleNamespace(plans=plans, absent=reasons, facts=facts, entry=SimpleNamespace(folder=folder))


@pytest.fixture
def files(tmp_path: Path) -> list[File]:
    both = (("onnxruntime", "fp32"), ("openvino", "fp32"), ("openvino", "bf16"))
    return [
        File(DENSE, "", pressed(tmp_path / "dense", 0.0, both)),
        File("unstructured", "90%", pressed(tmp_path / "pruned", 0.43, both[:1], openvino="no such engine")),
    ]


@pytest.fixture
def contest(files: list[File], tmp_path: Path) -> Contest:
    contenders = {key: entry for file in files for key, entry in entries(file).items()}
    paths, rows = {}, []
    for number, (key, entry) in enumerate(contenders.items()):
        if entry.plan is None:
            continue
        answers = LABELS.copy()
        answers[0] ^= "unstructured" in key
        paths[key] = tmp_path / f"{number}.npy"
        np.save(paths[key], np.eye(2, dtype=np.float32)[answers])
        rounds = [[10.0 / (number + 1)] * 12] * 2
        row = Measurement(key, "1x128", "ok", None, entry.plan.precision, latency_of(rounds), rounds)
        row.details["engine"] = {"sparse_weights": {"asked": 0.8, "layers": 0, "why": "no AMX"}} if number else {}
        rows.append(row)
    session = Session(rows, paths, {}, {}, 1.0, tmp_path / "trace.npz", {}, {})
    return Contest(contenders, session, LABELS, ANCHOR, ANCHOR)


def test_one_row_per_engine_and_file(contest: Contest, files: list[File]) -> None:
    assert list(contest.contenders) == [
        ANCHOR,
        "dense/openvino/bf16",
        "unstructured/90%/onnxruntime/fp32",
        "unstructured/90%/openvino",
    ]
    lines = table(contest, files).splitlines()
    assert lines[0].startswith("| network | sizes | zeros, % | accuracy |")
    assert lines[2].startswith(
        "| dense | 2 x 32, 4 heads of 8, 64 neurons | 0.0 | 1.0000 | – | onnxruntime fp32 | 10.00 |"
    )
    assert "| 43.0 | 0.8750 | 12.50 [" in lines[4]
    assert "| 3.33 | 3.00 [3.00, 3.00] | 1.0 | 0.5 |" in lines[4]
    assert lines[5].startswith("| unstructured 90% | – |")
    assert all(line.count("|") == lines[0].count("|") for line in lines)
    assert twin_of(contest, "openvino") == "dense/openvino/bf16"


def test_curves_and_notes(contest: Contest, files: list[File]) -> None:
    assert curves(contest, files[1:]).splitlines()[2:] == ["| unstructured | 90% → 0.8750 @ 3.33 |"]
    said = notes(contest)
    assert "- unstructured 90%: no such engine" in said
    assert "- unstructured 90%: 0 layers use sparse weights. no AMX" in said


def test_the_picture(contest: Contest, files: list[File], tmp_path: Path) -> None:
    made = pruning.picture(contest, files[1:], "onnxruntime")
    assert made is None or made.parent == contest.session.trace.parent
    one = point(contest, "unstructured", "90%", "unstructured/90%/onnxruntime/fp32", "1x128")
    assert one is not None
    assert (one.share, one.drop[0], one.p50_ms) == (0.9, 12.5, pytest.approx(10 / 3))
    assert point(contest, "unstructured", "90%", "unstructured/90%/openvino", "1x128") is None
    for name in ("a.svg", "b.svg"):
        draw(tmp_path / name, [one, Point("layers", "50%", 0.5, (1.0, 0.5, 1.5), 4.0)], 10.0, "ONNX Runtime")
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert {"90%", "layers", "unstructured"} <= set(re.findall(r"<!-- (.*?) -->", (tmp_path / "a.svg").read_text()))


def test_what_was_asked_as_a_share() -> None:
    assert [share_of(asked) for asked in ("30%", "2:4", "1:8")] == [0.3, 0.5, 0.875]
    assert {kind for kind in KINDS if kind != "packed"} == set(STYLES)


def test_overrides_reach_only_the_runs_that_know_them() -> None:
    own = "technique.prune.trainer.max_epochs=1"
    assert relevant(["technique=[prune,ptq]"], [own, "seed=2"]) == [own, "seed=2"]
    assert relevant(["technique=ptq"], [own, "seed=2"]) == ["seed=2"]


RUNS = [("model=minilm", *given) for kind in KINDS.values() for given in kind.values()]
RUNS += [tuple(given) for _, given in summary.VARIANTS.values()]


@pytest.mark.parametrize("given", RUNS, ids=" ".join)
def test_every_run_is_a_valid_configuration(given: tuple[str, ...]) -> None:
    faults, _ = inspect(compose(list(given)), list(given))
    assert faults == []


def test_every_kind_has_three_points() -> None:
    assert {kind: len(points) for kind, points in KINDS.items() if kind not in ("packed", "longer")} == dict.fromkeys(
        ("unstructured", "n:m", "structured", "layers"), 3
    )


def test_means_over_seeds(contest: Contest) -> None:
    text = summary.seeds_table([contest, contest])
    assert "| unstructured 90% | onnxruntime fp32 | 2 | 12.50 ± 0.00 |" in text
    assert len(text.splitlines()) == 5  # head, and every row with a plan


def test_variants_are_rows_with_reasons(files: list[File]) -> None:
    found = summary.variant("pruned", "pruned", files[1].made)
    assert list(found) == ["pruned/onnxruntime/fp32", "pruned/openvino"]
    assert found["pruned/openvino"] == Contender("pruned", None, why="no such engine")
    base: Any = SimpleNamespace(plans=files[0].made.plans, stage=SimpleNamespace(slug="m/s"))
    assert list(summary.original(base)) == [f"original/{key}" for key in summary.ORIGINAL]
    assert pruning.SHAPE == summary.SHAPE
