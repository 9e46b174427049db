from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from modelpress.engines.graph import GraphInput, inspect, load
from modelpress.errors import ModelPressError


def test_inputs_outputs_and_precision(float_graph: Path) -> None:
    graph = inspect(float_graph)
    assert graph.inputs[0] == GraphInput("input_ids", "int64", ("batch", "sequence"))
    assert graph.outputs == ("logits",)
    assert (graph.precision, graph.operators["MatMul"], graph.external) == ("fp32", 2, ())


def test_a_graph_with_q_dq_is_int8(int8_graph: Path) -> None:
    assert inspect(int8_graph).precision == "int8"


def test_precision_is_that_of_most_weights(float_graph: Path, tmp_path: Path) -> None:
    model = onnx.load(str(float_graph))
    half = onnx.numpy_helper.from_array(np.zeros((100, 100), np.float16), "half")
    model.graph.initializer.append(half)
    onnx.save(model, str(tmp_path / "half.onnx"))
    assert inspect(tmp_path / "half.onnx").precision == "fp16"


def test_external_weights_are_named(float_graph: Path, tmp_path: Path) -> None:
    path = tmp_path / "split.onnx"
    onnx.save(
        onnx.load(str(float_graph)), str(path), save_as_external_data=True, location="weights.bin", size_threshold=0
    )
    assert inspect(path).external == ("weights.bin",)


def test_whole_files_are_loaded_though_their_weights_have_several_hard_links(float_graph: Path, tmp_path: Path) -> None:
    model = onnx.load(str(float_graph))
    path = tmp_path / "split.onnx"
    onnx.save(onnx.load(str(float_graph)), str(path), save_as_external_data=True, location="w.bin", size_threshold=64)
    (tmp_path / "twin.bin").hardlink_to(tmp_path / "w.bin")
    loaded = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in load(path).graph.initializer}
    assert len(loaded) == len(model.graph.initializer)
    for tensor in model.graph.initializer:
        np.testing.assert_array_equal(loaded[tensor.name], onnx.numpy_helper.to_array(tensor))


def test_weights_outside_the_folder_are_refused(float_graph: Path, tmp_path: Path) -> None:
    path = tmp_path / "split.onnx"
    onnx.save(onnx.load(str(float_graph)), str(path), save_as_external_data=True, location="w.bin", size_threshold=64)
    path.write_bytes(path.read_bytes().replace(b"w.bin", b"../ab"))
    with pytest.raises(ModelPressError, match="must lie in the file's own folder"):
        load(path)


def test_products_are_named(float_graph: Path) -> None:
    assert inspect(float_graph).products == {"hidden": "hidden", "logits": "logits"}


def test_what_is_not_onnx_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "noise.onnx"
    path.write_bytes(b"not a protobuf at all")
    with pytest.raises(ModelPressError, match="not an ONNX file"):
        inspect(path)
    with pytest.raises(ModelPressError, match="does not exist"):
        inspect(tmp_path / "absent.onnx")


def test_an_empty_graph_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "empty.onnx"
    path.write_bytes(b"")
    with pytest.raises(ModelPressError, match="needs both"):
        inspect(path)
