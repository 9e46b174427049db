"""The portable quantized graph as TensorRT's strongly typed networks want it. The first step keeps the numbers.

TensorRT 10.12 to 11.4 and TensorRT-RTX 1.7 take an INT8 constant only right before a DequantizeLinear ("Quantized
constant is only allowed before DQ"): a table of embeddings is dequantized first and gathered from then. Its file stays
INT8: the engine of a 20,000 x 128 table is as small as the table.
"""

from __future__ import annotations

import onnx
from onnx import NodeProto, helper

from modelpress.export.graph_view import OURS, GraphView, rewrite


def lower(proto: onnx.ModelProto) -> None:
    """Rewrite ``proto`` in place."""
    view = GraphView(proto)
    replaced: dict[int, list[NodeProto]] = {}
    removed: list[NodeProto] = []
    for gather in proto.graph.node:
        rows = view.only_reader(gather.output[0]) if gather.op_type == "Gather" else None
        if rows is None or rows.op_type != "DequantizeLinear" or gather.input[0] not in view.tensors:
            continue
        replaced[id(rows)] = _dequantized_first(gather, rows, rank=len(view.tensors[gather.input[0]].dims))
        removed.append(gather)
    rewrite(proto, replaced, removed)


def _dequantized_first(gather: NodeProto, rows: NodeProto, rank: int) -> list[NodeProto]:
    """DequantizeLinear of the whole table along its columns, then Gather."""
    table = f"{OURS}{rows.output[0]}/table"
    whole = helper.make_node(
        "DequantizeLinear", [gather.input[0], *rows.input[1:]], [table], name=rows.name, axis=rank - 1
    )
    taken = NodeProto()
    taken.CopyFrom(gather)
    taken.input[0], taken.output[0] = table, rows.output[0]
    return [whole, taken]
