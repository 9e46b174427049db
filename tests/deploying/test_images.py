"""The deploy folders of image classifiers and dual encoders: predict.py answers as the graphs do."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from safetensors.numpy import save_file

from modelpress.deploying import command
from modelpress.deploying.folder import assemble
from modelpress.deploying.module import predictor_module, preprocess_ms
from modelpress.engines.base import Artifact, Hardware, Plan
from modelpress.engines.onnxruntime import OnnxRuntime
from modelpress.engines.openvino import OpenVino
from modelpress.engines.pair import paired
from modelpress.errors import ModelPressError
from tests.deploying.test_folder import WORDS, report, saved_model

SIZE, LABELS = 4, ["fresh", "rotten", "plot"]
PREPROCESS = {
    **{"size": [SIZE, SIZE], "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4]},
    **{"interpolation": "bilinear", "resize_mode": "squash", "context_length": 6, "pad": False},
}


def graph(path: Path, nodes: list[Any], given: Any, out: str, **weights: Any) -> Path:
    constants = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    output = helper.make_tensor_value_info(out, TensorProto.FLOAT, ["batch", 3])
    made = helper.make_graph(nodes, "g", [given], [output], constants)
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


def seeing(path: Path, out: str) -> Path:
    """Pixels times a matrix, as a row of three."""
    weight = np.random.default_rng(0).normal(size=(3 * SIZE * SIZE, 3)).astype(np.float32)
    nodes = [helper.make_node("Flatten", ["pixel_values"], ["flat"]), helper.make_node("MatMul", ["flat", "w"], ["x"])]
    nodes.append(helper.make_node("LpNormalization", ["x"], [out], axis=1) if out != "logits" else _same(out))
    given = helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, ["batch", 3, SIZE, SIZE])
    return graph(path, nodes, given, out, w=weight)


def _same(out: str) -> Any:
    return helper.make_node("Identity", ["x"], [out])


def reading(path: Path) -> Path:
    """Sum of the embeddings of all tokens, of length 1; the padding's is 0."""
    table = np.random.default_rng(1).normal(size=(len(WORDS), 3)).astype(np.float32)
    table[0] = 0
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["words"]),
        helper.make_node("ReduceSum", ["words", "axis"], ["sum"], keepdims=0),
        helper.make_node("LpNormalization", ["sum"], ["text_embeddings"], axis=1),
    ]
    given = helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "sequence"])
    return graph(path, nodes, given, "text_embeddings", table=table, axis=np.array([1], np.int64))


def model(folder: Path) -> Path:
    saved_model(folder)
    (folder / "preprocess.json").write_text(json.dumps(PREPROCESS))
    save_file({"logit_scale": np.array(2.0, np.float32)}, folder / "model.safetensors")
    return folder


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("photos") / "photo.png"
    pixels = np.random.default_rng(2).integers(0, 256, (9, 12, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pairs")
    files = {"image": seeing(folder / "image.onnx", "image_embeddings"), "text": reading(folder / "text.onnx")}
    plans = []
    for engine in (OpenVino(["fp32"]), OnnxRuntime()):
        for tower, file in files.items():
            made = engine.build(Artifact(file, tower=tower), Hardware(threads=1), folder / f"{engine.name}_{tower}")
            plans += [Plan.of({**vars(plan), "tower": tower}) for plan in made]
    both = paired(plans)
    given = {"model_folder": model(folder / "model"), "onnx": files, "dataset": {"templates": ["a {}", "the {} film"]}}
    return assemble(folder, **given, plans=[*plans, *both], best=both[0], report=report())


def expected_pixels(photo: Path) -> Any:
    """By Pillow and hand."""
    small = Image.open(photo).convert("RGB").resize((SIZE, SIZE), Image.Resampling.BILINEAR)
    pixels = np.asarray(small, np.float64) / 255
    return ((pixels - PREPROCESS["mean"]) / PREPROCESS["std"]).transpose(2, 0, 1)[None]


def directions(deployed: Path, texts: list[str]) -> Any:
    """One row per text, each alone and so without padding."""
    from onnxruntime import InferenceSession

    session = InferenceSession(str(deployed / "text.onnx"))
    rows = []
    for text in texts:
        ids = [2, *[WORDS.index(word) if word in WORDS else 1 for word in text.split()][:4], 3]
        rows.append(session.run(None, {"input_ids": np.array([ids])})[0][0])
    return np.array(rows, np.float64)


def unit(rows: Any) -> Any:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def softmax(values: Any) -> Any:
    powers = np.exp(values - values.max())
    return powers / powers.sum()


def image_direction(photo: Path) -> Any:
    weight = np.random.default_rng(0).normal(size=(3 * SIZE * SIZE, 3)).astype(np.float32)
    return unit(expected_pixels(photo).reshape(1, -1) @ weight)[0]


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_a_dual_encoder_chooses_among_its_own_labels(pairs: Path, photo: Path, engine: str) -> None:
    answer = predictor_module(pairs).Predictor(pairs, engine).predict([photo])[0]
    texts = [unit(directions(pairs, [f"a {name}", f"the {name} film"]).sum(axis=0)) for name in LABELS]
    wanted = softmax(np.exp(2.0) * np.array(texts) @ image_direction(photo))
    assert answer["probabilities"] == pytest.approx(dict(zip(LABELS, wanted, strict=True)), abs=1e-4)
    assert answer["label"] == LABELS[int(wanted.argmax())]


def test_and_among_any_others(pairs: Path, photo: Path) -> None:
    names = ["a charming film", "dull"]
    answer = predictor_module(pairs).Predictor(pairs, "onnxruntime", labels=names).predict([photo], top=1)[0]
    wanted = softmax(np.exp(2.0) * directions(pairs, names) @ image_direction(photo))
    assert answer["probabilities"] == pytest.approx({names[int(wanted.argmax())]: wanted.max()}, abs=1e-4)


def test_the_texts_of_its_labels_are_stored_beside_the_best_engine(pairs: Path) -> None:
    stored = np.load(pairs / "engines" / "openvino" / "labels.npz")
    assert list(stored) == ["openvino-fp32"]
    assert stored["openvino-fp32"].shape == (3, 3)


def test_predict_py_as_a_program(pairs: Path, photo: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    run = [sys.executable, "-s", "-E", "-B", str(pairs / "predict.py"), "--engine", "onnxruntime"]
    done = subprocess.run([*run, str(photo), "--json", "--labels", "dull, film"], capture_output=True, text=True)
    assert set(json.loads(done.stdout)["probabilities"]) == {"dull", "film"}
    done = subprocess.run([*run, str(tmp_path / "broken.jpg")], capture_output=True, text=True)
    assert done.returncode == 1
    assert "broken.jpg cannot be read as an image" in done.stderr


def test_modelpress_predict(pairs: Path, photo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    command.add_parser(parser.add_subparsers())
    args = parser.parse_args(["predict", str(pairs), str(photo), "--labels", "dull,film"])
    assert args.main(args) == 0
    assert "dull" in (shown := capsys.readouterr().out) or "film" in shown
    args = parser.parse_args(["predict", str(pairs), str(photo), "--pair", "x"])
    with pytest.raises(ModelPressError, match="--pair does not fit this model, which reads images"):
        args.main(args)


def test_the_card_of_a_dual_encoder(pairs: Path) -> None:
    card = (pairs / "README.md").read_text()
    assert "pipeline_tag: zero-shot-image-classification" in card
    assert '--labels "a dog,a cat"' in card
    assert "scaled to 4x4 pixels" in card


def test_an_image_classifier(tmp_path: Path, photo: Path) -> None:
    file = seeing(tmp_path / "tiny.onnx", "logits")
    plans = OnnxRuntime().build(Artifact(file), Hardware(threads=1), tmp_path / "ort")
    given = {"model_folder": model(tmp_path / "model"), "onnx": {"main": file}, "dataset": {}}
    made = assemble(tmp_path, **given, plans=plans, best=plans[0], report=report())
    module = predictor_module(made)
    answer = module.Predictor(made).predict([photo])[0]
    weight = np.random.default_rng(0).normal(size=(3 * SIZE * SIZE, 3)).astype(np.float32)
    wanted = softmax((expected_pixels(photo).reshape(1, -1) @ weight)[0])
    assert answer["probabilities"] == pytest.approx(dict(zip(LABELS, wanted, strict=True)), abs=1e-4)
    with pytest.raises(module.DeployError, match="only its own labels"):
        module.Predictor(made, labels=["x"])
    assert 0 < preprocess_ms(made, [photo, Image.open(photo)]) < 100
