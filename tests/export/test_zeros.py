"""Zeros counted on files: behind casts and integers, without tables, and what compression makes of them."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from modelpress.export import zeros
from modelpress.export.check import inspect


def sparse(shape: tuple[int, ...], share: float, dtype: Any = np.float32) -> np.ndarray:
    """Ones, of which exactly ``share`` are zero."""
    array = np.ones(int(np.prod(shape)), dtype)
    array[: round(share * array.size)] = 0
    return array.reshape(shape)


def write(path: Path) -> Path:
    """Half a table is zero, 75 % of an INT8 matrix behind two nodes, 25 % of a float one, and a whole bias."""
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["x"]),
        helper.make_node("DequantizeLinear", ["integers", "scale", "zero"], ["float"], axis=0),
        helper.make_node("Transpose", ["float"], ["turned"], perm=[1, 0]),
        helper.make_node("MatMul", ["x", "turned"], ["y"]),
        helper.make_node("MatMul", ["y", "matrix"], ["z"]),
        helper.make_node("Add", ["z", "bias"], ["s"]),
        helper.make_node("MatMul", ["s", "matrix"], ["out"]),
    ]
    weights = {
        "table": sparse((100, 8), 0.5),
        "integers": sparse((8, 8), 0.75, np.int8),
        "scale": np.ones(8, np.float32),
        "zero": np.zeros(8, np.int8),
        "matrix": sparse((8, 8), 0.25),
        "bias": np.zeros(8, np.float32),
    }
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, ["n"])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["n", 8])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


def test_only_what_products_read_is_counted_each_once(tmp_path: Path) -> None:
    path = write(tmp_path / "m.onnx")
    found = zeros.product_weights(onnx.load(path))
    assert [(array.shape, array.dtype) for array in found] == [((8, 8), np.int8), ((8, 8), np.float32)]
    facts = inspect(path)
    assert facts["sparsity"] == pytest.approx(0.5)
    assert facts["sparsity_file"] == pytest.approx((400 + 48 + 16) / (800 + 128))


def test_a_file_without_products_has_no_sparsity() -> None:
    assert zeros.share([]) == 0.0


def test_compression_is_zlibs(tmp_path: Path) -> None:
    """A file of several chunks; 90 % zeros shrink it, noise does not."""
    noise = np.random.default_rng(0).standard_normal(600_000).astype(np.float32)
    dense, pruned = tmp_path / "dense", tmp_path / "pruned"
    dense.write_bytes(noise.tobytes())
    pruned.write_bytes((noise * (np.random.default_rng(1).random(600_000) < 0.1)).astype(np.float32).tobytes())
    assert zeros.compressed_mb(pruned) == pytest.approx(len(zlib.compress(pruned.read_bytes(), 6)) / 1e6, rel=1e-3)
    assert zeros.compressed_mb(pruned) < 0.3 * zeros.compressed_mb(dense)
    assert zeros.compressed_mb(dense) > 0.9 * 2.4
