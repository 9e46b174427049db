from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from bench.peers import launch
from bench.peers.record import PEERS, Inputs, Made, find
from modelpress.engines.base import Artifact, Hardware, Plan
from modelpress.engines.onnxruntime import OnnxRuntime
from tests.engines import graphs


def test_every_rival_names_a_function_that_is_there() -> None:
    for name, peer in PEERS.items():
        module, _, function = peer.target.partition(":")
        spec = importlib.util.find_spec(f"bench.peers.{module}")
        assert spec is not None, name
        assert spec.origin is not None
        assert f"\ndef {function}(" in Path(spec.origin).read_text(), name  # not imported: NNCF is not installed here


def test_a_record_reads_back(tmp_path: Path) -> None:
    made = Made("nncf", "model.xml", 1.5, {"samples": 8}, {"nncf": "3.4.0"})
    (tmp_path / "nncf").mkdir()
    made.save(tmp_path / "nncf")
    assert find(tmp_path, "nncf") == made
    assert find(tmp_path, "ort_dynamic") is None


def test_without_their_environment_every_rival_is_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "PYTHON", tmp_path / "no" / "python")
    found = launch.rivals(Inputs(tmp_path, tmp_path, tmp_path, 8), {}, tmp_path)
    assert found.keys() == PEERS.keys()
    assert {entry.why for entry in found.values()} == {launch.ABSENT}


def test_what_failed_keeps_its_reason(tmp_path: Path) -> None:
    (tmp_path / "nncf").mkdir()
    Made("nncf", None, 0.1, why="RuntimeError: no").save(tmp_path / "nncf")
    assert launch.contender("nncf", tmp_path, {}).why == "RuntimeError: no"
    assert launch.contender("nncf_weights", tmp_path, {}).why == "it left no record"


def test_a_rivals_file_runs_with_our_settings_and_untouched(tmp_path: Path) -> None:
    ours = graphs.write(tmp_path / "ours.onnx")
    theirs = graphs.write(tmp_path / "theirs.onnx", quantized=True)
    [own] = OnnxRuntime().build(Artifact(ours), Hardware(threads=1), tmp_path / "engine")
    plan = launch.plan(theirs, own)
    assert (plan.file, plan.precision, plan.target) == (str(theirs), "int8", own.target)
    changed = {"operators", "effective"}
    assert {k: v for k, v in plan.settings.items() if k not in changed} == {
        k: v for k, v in own.settings.items() if k not in changed
    }
    assert plan.settings["operators"] != own.settings["operators"]
    openvino = launch.plan(tmp_path / "model.xml", Plan("openvino", "x.Z", "bf16", "ours.xml", {"float": "bf16"}))
    assert (openvino.file, openvino.settings) == (str(tmp_path / "model.xml"), {"float": "bf16"})


def test_the_key_names_the_network_and_the_sentences(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    a, b = tmp_path / "a", tmp_path / "b"
    keys = {launch.key(Inputs(*pair, tmp_path, n)) for pair in ((a, a), (a, b), (b, a)) for n in (8, 16)}
    assert len(keys) == 6
