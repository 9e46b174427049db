"""Both towers as graphs: dynamic batch, and sequence where padding does not matter, in both runtimes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from modelpress.engines.openvino_core import core
from modelpress.export.onnx import export, longest_sequence
from tests import tinyclip

NETWORKS: dict[str, Callable[[Path], Any]] = {
    "transformers of open_clip": lambda folder: tinyclip.config(quick_gelu=True),
    "convolutions and BERT": lambda folder: tinyclip.bert(folder / "bert", vision_cfg=tinyclip.cnn()["vision_cfg"]),
    "padded texts": lambda folder: tinyclip.config(text={"no_causal_mask": True, "pool_type": "last"}),
}


@pytest.mark.parametrize("kind", NETWORKS)
def test_graphs_answer_like_the_network_in_both_runtimes(kind: str, tmp_path: Path) -> None:
    import onnxruntime

    model = tinyclip.dual(tmp_path / "tokenizer", NETWORKS[kind](tmp_path))
    files = export(model, tmp_path / "onnx")
    assert {name: file.name for name, file in files.items()} == {"image": "image.onnx", "text": "text.onnx"}
    lengths = (12,) if model.preprocess["pad"] else (2, 9, 12)
    for tower, file in files.items():
        session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
        compiled = core().compile_model(str(file), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        name = session.get_inputs()[0].name
        for rows, length in zip((1, 3, 2), lengths, strict=False):
            batch = tinyclip.batch(rows, length)
            with torch.no_grad():
                wanted = model({name: batch[name]}).embeddings[tower]
            for found in (session.run(None, {name: batch[name].numpy()})[0], compiled({name: batch[name].numpy()})[0]):
                torch.testing.assert_close(torch.from_numpy(found), wanted, atol=1e-4, rtol=0)


def test_the_longest_text_is_that_of_the_tower(tmp_path: Path) -> None:
    image, text = tinyclip.dual(tmp_path).towers()
    assert longest_sequence(text.module) == 12
    assert dict(text.dynamic_axes["input_ids"]) == {0: "batch", 1: "sequence"}
    assert dict(image.dynamic_axes["pixel_values"]) == {0: "batch"}
    padded = tinyclip.dual(tmp_path / "padded", tinyclip.config(text={"no_causal_mask": True, "pool_type": "last"}))
    assert dict(padded.towers()[1].dynamic_axes["input_ids"]) == {0: "batch"}
    assert padded.example()["input_ids"].shape == (2, 12)
