from __future__ import annotations

import argparse
import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from modelpress.benchmark import file, requests, table
from modelpress.benchmark.file import add_arguments, add_parser, bench_file, main, parse_shape, preset
from modelpress.engines.base import Hardware
from modelpress.engines.onnxruntime import OnnxRuntime
from modelpress.engines.torch import Torch
from modelpress.errors import ModelPressError
from tests.benchmark.fakes import settings
from tests.engines import graphs

ONE = Hardware(threads=1)


def arguments(*given: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return parser.parse_args(given)


def test_one_file_in_engines_that_can_and_cannot(float_graph: Path, tmp_path: Path) -> None:
    session = bench_file(
        float_graph,
        engines=[OnnxRuntime(), Torch()],
        shapes=["1x16", "1x8"],
        settings=settings(),
        hardware=ONE,
        folder=tmp_path,
    )
    rows = {(row.subject, row.shape): row for row in session.measurements}
    assert {key: row.status for key, row in rows.items()} == {
        ("onnxruntime/fp32", "1x16"): "ok",
        ("onnxruntime/fp32", "1x8"): "ok",
        ("torch", "1x16"): "unsupported",
        ("torch", "1x8"): "unsupported",
    }
    assert rows["onnxruntime/fp32", "1x16"].details["inputs"] == "synthetic inputs"
    assert len(json.loads((tmp_path / "measurements.json").read_text())["measurements"]) == 4
    console = Console(record=True, width=100, file=io.StringIO())
    table.show(session, console)
    text = console.export_text()
    assert "onnxruntime/fp32" in text
    assert "torch 1x16 unsupported: this stage keeps no PyTorch network" in text
    assert "Inputs are synthetic" in text


def test_a_static_graph_with_its_own_shape_and_real_requests(static_graph: Path, tmp_path: Path) -> None:
    session = bench_file(
        static_graph, engines=[OnnxRuntime()], shapes=[], settings=settings(), hardware=ONE, folder=tmp_path / "a"
    )
    [row] = session.measurements
    assert (row.shape, row.details["throughput"]["batch"]) == ("1x16", 1)
    assert "batch 4 refused" in row.details["throughput"]["note"]

    real = requests.write(tmp_path / "real.npz", graphs.batch(5, 16))
    session = bench_file(
        static_graph,
        engines=[OnnxRuntime()],
        shapes=[],
        settings=settings(rounds=2),
        hardware=ONE,
        folder=tmp_path / "b",
        requests=real,
    )
    assert [(row.shape, row.details["inputs"]) for row in session.measurements] == [("data", "requests file")]


def test_faults_of_the_user(float_graph: Path, tmp_path: Path) -> None:
    lacking = requests.write(tmp_path / "lacking.npz", {"input_ids": graphs.batch(5, 16)["input_ids"]})
    common = {"settings": settings(), "hardware": ONE, "folder": tmp_path}
    with pytest.raises(ModelPressError, match="lacks the graph's inputs attention_mask"):
        bench_file(float_graph, engines=[OnnxRuntime()], shapes=[], requests=lacking, **common)
    with pytest.raises(ModelPressError, match="no engine can run this file here: torch"):
        bench_file(float_graph, engines=[Torch()], shapes=["1x8"], **common)
    for text, message in (("1*8", "write sizes joined by x"), ("8x8", "first size must be 1"), ("", "write sizes")):
        with pytest.raises(ModelPressError, match=message):
            parse_shape(text)
    with pytest.raises(ModelPressError, match="Did you mean 'quick'"):
        preset("quik")
    with pytest.raises(ModelPressError, match="--threads is 0"):
        main(arguments(str(float_graph), "--threads", "0"))


@pytest.mark.parametrize("name", ["quick", "default", "publish"])
def test_presets(name: str) -> None:
    found = preset(name)
    assert found.name == name
    queries = found.rounds * found.block_queries
    assert queries >= {"quick": 64, "default": 130, "publish": 662}[name]  # p90, p95, p99


def test_command_line(
    float_graph: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(file, "preset", lambda name: settings(name=name, rounds=2))
    parser = argparse.ArgumentParser()
    add_parser(parser.add_subparsers())
    given = ["bench", str(float_graph), "--shape", "1x8", "--engine", "onnxruntime", "openvino", "--threads", "1"]
    args = parser.parse_args([*given, "--output", str(tmp_path)])
    assert args.main(args) == 0
    text = capsys.readouterr().out
    assert "openvino/fp32" in text
    assert "onnxruntime/fp32" in text
    assert str(tmp_path / "measurements.json") in text
    statuses = [row["status"] for row in json.loads((tmp_path / "measurements.json").read_text())["measurements"]]
    assert statuses[:2] == ["ok", "ok"]
