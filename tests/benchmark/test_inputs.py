from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from modelpress.benchmark.inputs import default_shape, embedding_sizes, row_shape, synthetic
from modelpress.engines.graph import Graph, GraphInput, inspect
from modelpress.errors import ModelPressError
from tests.engines import graphs


def test_ids_stay_inside_the_embedding_and_masks_are_ones(float_graph: Path) -> None:
    arrays = synthetic(float_graph, (1, 40), items=30)
    assert embedding_sizes(float_graph) == {"input_ids": graphs.VOCABULARY}
    assert arrays["input_ids"].shape == (30, 40)
    assert arrays["input_ids"].dtype == np.int64
    assert 1 <= arrays["input_ids"].min() < arrays["input_ids"].max() < graphs.VOCABULARY
    assert arrays["attention_mask"].all()
    np.testing.assert_array_equal(arrays["input_ids"], synthetic(float_graph, (1, 40), items=30)["input_ids"])


def test_default_shape(float_graph: Path, static_graph: Path) -> None:
    assert default_shape(inspect(float_graph)) == (1, 128)
    assert default_shape(inspect(static_graph)) == (1, 16)
    image = Graph((GraphInput("x", "float32", ("n", 3, 224, 224)),), ("y",), "fp32", {}, ())
    assert default_shape(image) == (1, 3, 224, 224)


def test_shapes_that_do_not_fit(static_graph: Path) -> None:
    with pytest.raises(ModelPressError, match="fixed at 16, not 32"):
        synthetic(static_graph, (1, 32), items=1)
    with pytest.raises(ModelPressError, match=r"no size for axis 2 \('w'\) of input 'x'"):
        row_shape(GraphInput("x", "float32", ("n", 3, "w")), (1, 3))
    with pytest.raises(ModelPressError, match="first axis must be dynamic or 1"):
        row_shape(GraphInput("x", "float32", (8, 3)), (1, 3))


@pytest.mark.parametrize(
    ("value", "low", "high"),
    [
        (GraphInput("pixels", "float32", ("n", 3, 8, 8)), -6, 6),
        (GraphInput("pixels", "uint8", ("n", 8, 8, 3)), 0, 255),
        (GraphInput("token_type_ids", "int64", ("n", "s")), 0, 0),
        (GraphInput("position_ids", "int64", ("n", "s")), 0, 7),
        (GraphInput("flag", "bool", ("n",)), 1, 1),
    ],
)
def test_kinds_of_values(value: GraphInput, low: float, high: float, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = Graph((value,), ("y",), "fp32", {}, ())
    monkeypatch.setattr("modelpress.benchmark.inputs.inspect", lambda _: graph)
    monkeypatch.setattr("modelpress.benchmark.inputs.embedding_sizes", lambda _: {})
    array = synthetic(Path("any"), (1, 8), items=5)[value.name]
    assert array.dtype == value.dtype
    assert len(array) == 5
    assert low <= array.min() <= array.max() <= high
