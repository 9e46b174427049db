"""The deploy folder: its predict.py gives the answers of the engine, in an environment that has only the runtime."""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from modelpress.deploying import command
from modelpress.deploying.card import wilson
from modelpress.deploying.files.runtimes import open_onnxruntime_cuda
from modelpress.deploying.folder import assemble
from modelpress.deploying.module import predictor_module, preprocess_ms
from modelpress.engines.base import Artifact, Hardware, Plan
from modelpress.errors import ModelPressError
from modelpress.report.record import Interval, Latency, Ratio, Report, Row

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "charming", "dull", "film", "of", "the", "year", "truly"]
TEXTS = ["a charming film", "dull", "the dull film of the year", "a truly charming unknownword film of the year"]


def classifier(path: Path) -> Path:
    """Mean of the embeddings of all real tokens and their types, times a matrix: (B, S) ids to (B, 3) logits."""
    rng = np.random.default_rng(0)
    weights = {"table": (len(WORDS), 8), "types": (2, 8), "head": (8, 3)}
    constants = [onnx.numpy_helper.from_array(rng.normal(size=s).astype(np.float32), n) for n, s in weights.items()]
    constants.append(onnx.numpy_helper.from_array(np.array([2], np.int64), "last"))
    constants.append(onnx.numpy_helper.from_array(np.array([1], np.int64), "tokens"))
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["words"]),
        helper.make_node("Gather", ["types", "token_type_ids"], ["kinds"]),
        helper.make_node("Add", ["words", "kinds"], ["sum"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["column"]),
        helper.make_node("Mul", ["sum", "column"], ["real"]),
        helper.make_node("ReduceSum", ["real", "tokens"], ["total"], keepdims=0),
        helper.make_node("ReduceSum", ["column", "tokens"], ["count"], keepdims=0),
        helper.make_node("Div", ["total", "count"], ["mean"]),
        helper.make_node("MatMul", ["mean", "head"], ["logits"]),
    ]
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "sequence"])
        for name in ("input_ids", "attention_mask", "token_type_ids")
    ]
    output = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3])
    graph = helper.make_graph(nodes, "tiny", inputs, [output], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)
    return path


def saved_model(folder: Path) -> Path:
    folder.mkdir()
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, "[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    special = [("[CLS]", 2), ("[SEP]", 3)]
    tokenizer.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1", special)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"pad_token": "[PAD]"}))
    (folder / "config.json").write_text(json.dumps({"max_position_embeddings": 8}))
    (folder / "modelpress.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights")
    return folder


def report() -> Report:
    fields = {"stage": "distill", "model": "tiny", "role": "candidate", "tower": "main", "device": "cpu"}
    row = Row(id="x", engine="openvino", precision="bf16", shape="1x128", status="ok", **fields)
    row.metric, row.metric_n, row.metric_drop = 0.828, 2591, Interval(0.004, -0.006, 0.014)
    row.latency_ms, row.size_mb = Latency(3.5, 3.9, None, None, 3.1, 0.05, 200), 28.4
    row.speedup, row.speedup_best = Ratio("b", 4.62, 4.51, 4.73), Ratio("b", 1.46, 1.41, 1.52)
    teacher = Row(
        id="t", engine="onnxruntime", precision="fp32", shape="1x128", status="ok", **{**fields, "model": "big"}
    )
    dataset = {"name": "reviews", "labels": ["fresh", "rotten", "plot"], "licence": "theirs", "splits": {"test": 2591}}
    verdict = {"verdict": "pays", "row": "x", "words": "It pays: 1.46x."}
    model = {"name": "minilm", "init": "checkpoint", "path": "package:weights"}
    lineage = [{"kind": "stage", "key": "abc", "name": "tiny · distill", "inputs": {"model": model}}]
    return Report("demo", "python run.py", dataset, "accuracy", 1, [teacher, row], verdict, True, {}, lineage, {})


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from modelpress.engines.onnxruntime import OnnxRuntime
    from modelpress.engines.openvino import OpenVino

    folder = tmp_path_factory.mktemp("run")
    artifact = Artifact(classifier(folder / "tiny.onnx"), saved_model(folder / "model"))
    plans = OnnxRuntime().build(artifact, Hardware(threads=1), folder / "ort")
    plans += OpenVino(["fp32"]).build(artifact, Hardware(threads=1), folder / "openvino")
    plans.append(Plan("torch", "modelpress.engines.torch.Torch", "fp32", str(folder / "model")))
    files = {"model_folder": artifact.model, "onnx": {"main": artifact.onnx}}
    return assemble(folder, **files, plans=plans, best=plans[1], report=report(), dataset={"max_length": 6})


def reference(texts: list[Any]) -> list[dict[str, float]]:
    """Word by word and without padding, so that neither padding nor batching can hide a fault."""
    from onnxruntime import InferenceSession

    answers = []
    session = InferenceSession(str(reference.file))  # type: ignore[attr-defined]
    for text in texts:
        first, second = (text, None) if isinstance(text, str) else text
        ids = [[WORDS.index(w) if w in WORDS else 1 for w in part.split()] for part in (first, second) if part]
        limit = 6 - 2 if second is None else 6 - 3
        while sum(map(len, ids)) > limit:
            (ids[0] if len(ids[0]) > len(ids[-1]) else ids[-1]).pop()
        tokens, kinds = [2, *ids[0], 3], [0] * (len(ids[0]) + 2)
        if second is not None:
            tokens, kinds = [*tokens, *ids[1], 3], kinds + [1] * (len(ids[1]) + 1)
        feeds = {"input_ids": [tokens], "attention_mask": [[1] * len(tokens)], "token_type_ids": [kinds]}
        logits = session.run(None, {name: np.array(value, np.int64) for name, value in feeds.items()})[0][0]
        powers = np.exp(logits.astype(np.float64))
        answers.append(dict(zip(["fresh", "rotten", "plot"], powers / powers.sum(), strict=True)))
    return answers


@pytest.fixture(autouse=True)
def _reference_file(deployed: Path) -> None:
    reference.file = deployed / "model.onnx"  # type: ignore[attr-defined]


def agree(found: list[dict[str, Any]], expected: list[dict[str, float]], tolerance: float = 1e-5) -> bool:
    assert len(found) == len(expected)
    for answer, probabilities in zip(found, expected, strict=True):
        assert answer["probabilities"] == pytest.approx(probabilities, abs=tolerance)
        assert answer["label"] == max(probabilities, key=lambda name: probabilities[name])
        assert answer["probability"] == max(answer["probabilities"].values())
    return True


@pytest.fixture(scope="module")
def bare_python(deployed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter that has only what deploy/requirements.txt lists for ONNX Runtime."""
    folder = tmp_path_factory.mktemp("bare") / "env"
    wanted = [line.rpartition(" ")[2] for line in (deployed / "requirements.txt").read_text().splitlines()]
    wanted = [line for line in wanted if not line.startswith("openvino")]
    assert len(wanted) == 3
    uv = [sys.executable, "-m", "uv", "--quiet"]
    install = [*uv, "pip", "install", "--python", str(folder / "bin/python"), *wanted]
    steps = [[*uv, "venv", "--python", sys.executable, str(folder)], [*install, "--offline"]]
    results = [subprocess.run(step, capture_output=True, text=True, timeout=120, check=False) for step in steps]
    if results[-1].returncode != 0:  # not in the cache
        results.append(subprocess.run(install, capture_output=True, text=True, timeout=240, check=False))
    if results[-1].returncode != 0:
        pytest.skip(f"cannot make an empty environment here: {results[-1].stderr.strip()[-200:]}")
    return folder / "bin/python"


def run(python: Path, folder: Path, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    command = [str(python), "-s", "-E", "-B", "-W", "error", str(folder / "predict.py"), *arguments]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=60, check=False, cwd="/")


@pytest.mark.slow
def test_predict_py_in_an_environment_with_only_the_runtime(bare_python: Path, deployed: Path, tmp_path: Path) -> None:
    heavy = "import importlib.util as u; print([n for n in ('torch', 'transformers', 'modelpress') if u.find_spec(n)])"
    assert subprocess.run([str(bare_python), "-I", "-c", heavy], capture_output=True, text=True).stdout == "[]\n"

    done = run(bare_python, deployed, *TEXTS, "--engine", "onnxruntime", "--json")
    assert done.returncode == 0, done.stderr
    assert agree([json.loads(line) for line in done.stdout.splitlines()], reference(TEXTS))

    file = tmp_path / "texts.txt"
    file.write_text("a charming film\tdull\n\na dull film of the year\ta truly charming film\r\n")
    done = run(bare_python, deployed, "--file", str(file), "--batch", "2", "--engine", "onnxruntime-fp32", "--json")
    pairs = [("a charming film", "dull"), ("a dull film of the year", "a truly charming film")]
    assert agree([json.loads(line) for line in done.stdout.splitlines()], reference(pairs))

    done = run(bare_python, deployed, "--engine", "onnxruntime", stdin="dull\na charming film\n")
    assert [line.split("\t")[2] for line in done.stdout.splitlines()] == ["dull", "a charming film"]

    done = run(bare_python, deployed, "dull")  # the best engine is OpenVINO, which is not installed there
    assert done.returncode == 1
    assert "openvino-fp32 needs openvino==" in done.stderr
    assert "pip install openvino==" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("engine", [None, "onnxruntime", "openvino"])
@pytest.mark.parametrize("batch", [1, 3])
def test_padding_and_batching_change_nothing(deployed: Path, engine: str | None, batch: int) -> None:
    texts = [*TEXTS, ("a charming film", "dull"), ("dull", "a truly charming film of the year")]
    predictor = predictor_module(deployed).Predictor(deployed, engine)
    assert agree(predictor.predict(texts, batch), reference(texts), tolerance=1e-4)


def test_the_folder_has_everything_once(deployed: Path) -> None:
    files = {str(path.relative_to(deployed)) for path in deployed.rglob("*") if path.is_file()}
    copied = {"config.json", "model.safetensors", "modelpress.json", "tokenizer.json", "tokenizer_config.json"}
    made = {
        "README.md",
        "SHA256SUMS",
        "deploy.json",
        "labels.json",
        "model.onnx",
        "predict.py",
        "requirements.txt",
        "runtimes.py",
    }
    engines = {"engines/openvino/main.xml", "engines/openvino/main.bin"}  # ONNX Runtime opens model.onnx itself
    assert files == made | engines | {"tokenizer.json"} | {f"checkpoint/{name}" for name in copied}
    settings = json.loads((deployed / "deploy.json").read_text())
    assert [engine["name"] for engine in settings["engines"]] == ["openvino-fp32", "onnxruntime-fp32"]
    assert json.loads((deployed / "labels.json").read_text()) == ["fresh", "rotten", "plot"]


def test_sums_cover_all_other_files(deployed: Path) -> None:
    sums = dict(reversed(line.split("  ")) for line in (deployed / "SHA256SUMS").read_text().splitlines())
    files = {str(path.relative_to(deployed)): path for path in deployed.rglob("*") if path.is_file()}
    assert sums.keys() == files.keys() - {"SHA256SUMS"}
    assert all(hashlib.sha256(files[name].read_bytes()).hexdigest() == digest for name, digest in sums.items())


def test_requirements_are_exact_and_only_the_runtime(deployed: Path) -> None:
    from importlib.metadata import version

    lines = (deployed / "requirements.txt").read_text().splitlines()
    assert lines[:3] == [f"{name}=={version(name)}" for name in ("openvino", "tokenizers", "numpy")]
    assert lines[3:] == [f"# for the other engines: onnxruntime=={version('onnxruntime')}"]


def test_the_card_says_what_was_measured_and_does_not_guess_a_licence(deployed: Path) -> None:
    card = (deployed / "README.md").read_text()
    assert card.startswith("---\npipeline_tag: text-classification\n")
    assert "accuracy 82.8 % (95 % interval 81.3 to 84.2, 2,591 test items)" in card
    assert "1.46x [1.41, 1.52]" in card
    assert "minilm: weights of `package:weights`" in card
    assert "cut at 6 tokens" in card
    assert "\nlicense:" not in card
    assert hashlib.sha256((deployed / "model.onnx").read_bytes()).hexdigest() in card
    assert card.count("| ONNX Runtime |") == 0  # the teacher's row is not this model's


def test_wilson_interval_against_published_values() -> None:
    # R. G. Newcombe, Statistics in Medicine 17 (1998), table I, method 3: 81 of 263 and 15 of 148
    assert wilson(81 / 263, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(15 / 148, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)


def test_a_second_assembly_replaces_the_first(deployed: Path, tmp_path: Path) -> None:
    model = saved_model(tmp_path / "model")
    graph = classifier(tmp_path / "model.onnx")
    onnx.save(onnx.load(graph), graph, save_as_external_data=True, location="weights.data", size_threshold=0)
    plan = Plan("onnxruntime", "x", "fp32", str(graph), {"threads": 1, "provider": "P", "spinning": True})
    (tmp_path / "deploy").mkdir()
    (tmp_path / "deploy/old.txt").touch()
    made = assemble(
        tmp_path, model_folder=model, onnx={"main": graph}, plans=[plan], best=plan, report=report(), dataset={}
    )
    assert not (made / "old.txt").exists()
    assert (made / "weights.data").read_bytes() == (tmp_path / "weights.data").read_bytes()
    assert json.loads((made / "deploy.json").read_text())["preprocessing"]["max_length"] == 8
    assert not (tmp_path / "deploy.unfinished").exists()


def test_without_an_engine_to_take_away_the_graph_itself_is_deployed(tmp_path: Path) -> None:
    model, graph = saved_model(tmp_path / "model"), classifier(tmp_path / "model.onnx")
    plan = Plan("torch", "x", "fp32", str(model), {"threads": 1})
    made = assemble(
        tmp_path, model_folder=model, onnx={"main": graph}, plans=[plan], best=plan, report=report(), dataset={}
    )
    [engine] = json.loads((made / "deploy.json").read_text())["engines"]
    assert (engine["name"], engine["files"]) == ("onnxruntime-portable", {"main": "model.onnx"})
    assert preprocess_ms(made, TEXTS) > 0


def test_an_engine_for_gpus_says_that_there_is_none(tmp_path: Path) -> None:
    model, graph = saved_model(tmp_path / "model"), classifier(tmp_path / "model.onnx")
    plan = Plan("onnxruntime_cuda", "x", "fp32", str(graph), {"threads": 1, "options": {"device_id": "0"}})
    made = assemble(
        tmp_path, model_folder=model, onnx={"main": graph}, plans=[plan], best=plan, report=report(), dataset={}
    )
    [engine] = json.loads((made / "deploy.json").read_text())["engines"]
    assert engine["requirement"].startswith("onnxruntime-gpu==")
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        with pytest.warns(UserWarning, match="CUDAExecutionProvider"), pytest.raises(Exception, match="NVIDIA GPU"):
            open_onnxruntime_cuda(made / "model.onnx", engine, 1)


def test_preprocess_ms(deployed: Path) -> None:
    assert 0 < preprocess_ms(deployed, TEXTS) < 50
    with pytest.raises(ModelPressError, match="at least one item"):
        preprocess_ms(deployed, [])


def predict(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    command.add_parser(parser.add_subparsers())
    args = parser.parse_args(["predict", *arguments])
    code: int = args.main(args)
    return code


def test_modelpress_predict_shows_label_and_probability(deployed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (expected,) = reference(["a charming film"])
    assert predict(str(deployed.parent), "a charming film", "--engine", "onnxruntime") == 0
    shown = capsys.readouterr().out
    label = max(expected, key=lambda name: expected[name])
    assert label in shown
    assert f"{expected[label]:.3f}" in shown
    assert "onnxruntime-fp32" in shown
    assert not (deployed / "__pycache__").exists()


def test_modelpress_predict_says_what_is_wrong(deployed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelPressError, match=r"'tensorrt' is not in this folder; it has: openvino-fp32, onnxruntime"):
        predict(str(deployed), "dull", "--engine", "tensorrt")
    with pytest.raises(ModelPressError, match="--pair needs exactly one text"):
        predict(str(deployed), "dull", "dull", "--pair", "x")
    with pytest.raises(ModelPressError, match="has no deploy/ folder"):
        predict(str(tmp_path), "dull")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "outputs/demo/1/deploy").mkdir(parents=True)
    (tmp_path / "outputs/demo/1/deploy/deploy.json").touch()
    with pytest.raises(ModelPressError, match=r"no run at outputs/none.*can predict: outputs/demo/1"):
        predict("outputs/none", "dull")
