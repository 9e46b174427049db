from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bench import tensorrt_rtx as bench
from bench.tensorrt_rtx import MODELS, Built
from modelpress.config import compose, conf_dir
from modelpress.graph import graph
from modelpress.job import Job

ROWS = [
    Built("image", "fp32", 2.04, 1.9, 80.0, parse=0.25, build=1.5, engine_mb=80.5, profiles=1),
    Built("image", "int8", 6.5, 6.4, 20.0, parse=0.1, build=6.0, engine_mb=21.0, profiles=3),
    Built("text", "fp16", 0.3, 0.3, 40.0, why="Unique 'the_node': TensorRT has no such operator"),
]


def test_every_network_of_the_configuration_is_built() -> None:
    found = {path.stem for path in (conf_dir() / "model").glob("*.yaml")}
    assert found - set(MODELS) == {"hf", "clip", "none"}
    assert set(MODELS) <= found


def test_the_page_has_a_place_for_every_network() -> None:
    text = (Path(__file__).parents[2] / bench.PAGE).read_text(encoding="utf-8")
    assert not [name for name in MODELS if f"<!-- {name} -->" not in text or f"<!-- end of {name} -->" not in text]
    assert "Built, not executed." in text


@pytest.mark.parametrize("name", MODELS)
def test_every_network_can_be_had_offline(name: str, tmp_path: Path) -> None:
    job = Job.of(compose([*bench.PTQ, f"model={name}", "control=false", *MODELS[name]]), tmp_path)
    stage = graph(job).last
    assert stage.name == "ptq"
    assert stage.tokenizer().is_dir()


def test_a_section_names_times_sizes_refusals_and_the_claim(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "machine", lambda: {"cores": 2, "cpu": "a CPU"})
    monkeypatch.setattr("os.getloadavg", lambda: (9.0, 1.26, 9.0))
    text = bench.section("clip_tiny", ROWS)
    assert text.startswith("### clip_tiny\n\n`python -m bench.tensorrt_rtx clip_tiny` at commit ")
    assert "2 cores of a CPU, load 1.3 over the last 5 minutes." in text
    assert "| image | fp32 | 1 | 2.0 | 0.2 | 1.5 | 1.9 | 80.0 | 80.5 |" in text
    assert "| text | fp16 | 0 | 0.3 | – | – | 0.3 | 40.0 | – |" in text
    assert text.splitlines()[-2:] == [
        "* text fp16 refused: Unique 'the_node': TensorRT has no such operator",
        "* 2 of 3 within 5 s (by CPU seconds: 2 of 3); not image int8",
    ]


@pytest.fixture
def float_file(tmp_path: Path) -> Path:
    from tests.engines import graphs

    return graphs.write(tmp_path / "tiny.onnx")


def test_an_engine_is_measured_and_thrown_away(float_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from modelpress.engines.base import Artifact, Hardware
    from modelpress.engines.tensorrt import TensorRTRtx

    made: list[Any] = []
    monkeypatch.setattr(bench, "engine", lambda job, name, **given: made.append(TensorRTRtx(**given)) or made[-1])
    job: Any = type("Job", (), {"hardware": Hardware()})
    found = bench.one(job, Artifact(float_file, lengths={5: 3, 9: 1}), "fp16", "fp16")
    assert (found.tower, found.numbers, found.profiles, found.why) == ("main", "fp16", 3, None)
    assert found.seconds >= found.parse + found.build > 0
    assert found.engine_mb is not None
