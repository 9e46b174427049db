from __future__ import annotations

import re

import pytest

from modelpress.compare.columns import direction, known, resolve, row_columns, short_names
from modelpress.compare.run import Run
from modelpress.compare.where import parse
from modelpress.errors import ModelPressError

NAMES = ["engine", "metric", "verdict", "latency_ms.p50", "technique.distill.optimizer.lr", "finetune.optimizer.lr"]


@pytest.mark.parametrize(
    ("text", "values", "expected"),
    [
        ("engine=openvino", {"engine": "openvino"}, True),
        ("engine==OpenVINO", {"engine": "openvino"}, True),
        ("engine=openvino,onnxruntime", {"engine": "onnxruntime"}, True),
        ("engine!=openvino,onnxruntime", {"engine": "onnxruntime"}, False),
        ("metric>0.8", {"metric": 0.81}, True),
        ("metric > 0.8", {"metric": 0.8}, False),
        ("metric>=8e-1", {"metric": 0.8}, True),
        ("p50<3", {"latency_ms.p50": 2.0}, True),
        ("p50<=3", {"latency_ms.p50": None}, False),
        ("finetune.optimizer.lr=5e-5", {"finetune.optimizer.lr": 0.00005}, True),
        ("finetune.optimizer.lr=5e-5", {"finetune.optimizer.lr": "5.0e-05"}, True),
        ("verdict=null", {"verdict": None}, True),
        ("verdict!=pays", {"verdict": None}, True),
    ],
)
def test_conditions(text: str, values: dict[str, str | float | None], expected: bool) -> None:
    assert parse(text, NAMES).holds(values) is expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("outputs", "Folders come before --where"),
        ("engne=openvino", "Did you mean 'engine'"),
        ("lr=1", "fits several columns: technique.distill.optimizer.lr, finetune.optimizer.lr"),
        ("metric>high", "> compares numbers, and 'high' is none. Write e.g. metric>2."),
        ("zzz=1", "There are, among others: engine, metric"),
    ],
)
def test_faults_say_what_is_allowed(text: str, words: str) -> None:
    with pytest.raises(ModelPressError, match=re.escape(words)):
        parse(text, NAMES)


def test_columns_of_real_reports(runs: list[Run]) -> None:
    names = known(runs)
    assert len(names) == len(set(names))
    assert set(row_columns()) <= set(names)
    assert resolve("p95", names, "--x") == "latency_ms.p95"
    assert resolve("speedup_best", names, "--x") == "speedup_best.ratio"
    assert resolve("temperature", names, "--x") == "technique.distill.objective.temperature"
    assert resolve("accuracy", names, "--y") == "metrics.accuracy"
    assert resolve("alpha", names, "--y") == "technique.distill.objective.alpha"  # nobody set it: the lineage knows it


def test_which_way_is_better() -> None:
    assert [direction(name) for name in ("metric", "size_mb", "speedup.ratio", "seed")] == [1, -1, 1, None]


def test_short_names_stay_apart() -> None:
    names = ["a.b.lr", "c.b.lr", "x.sparsity", "model"]
    assert list(short_names(names, ["sparsity"]).values()) == ["a.b.lr", "c.b.lr", "x.sparsity", "model"]
    assert short_names(["a.b.lr", "c.d.lr", "e.f"]) == {"a.b.lr": "b.lr", "c.d.lr": "d.lr", "e.f": "f"}
