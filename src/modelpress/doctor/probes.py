"""One engine tried for real, in a process of its own: ``python -m modelpress.doctor.probes NAME`` prints JSON.

A runtime that crashes takes this process with it and nothing else.
"""

from __future__ import annotations

import importlib
import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from modelpress.engines.base import Artifact, Hardware, Unsupported
from modelpress.errors import first_line, not_installed

WIDTH = 16  # of the tiny network: a multiple of what every kernel wants
CPU, GPU = Hardware(threads=1), Hardware(name="cuda", accelerator="cuda", threads=1)


@dataclass(frozen=True)
class Finding:
    """Why an engine cannot be built or run here, and what to do; ``None``: it can."""

    no_build: str | None = None
    no_run: str | None = None


def of_engine(target: str, hardware: Hardware) -> Finding:
    """Build a tiny ONNX graph with the real engine and ask it one question."""
    module, _, name = f"modelpress.engines.{target}".rpartition(".")
    with tempfile.TemporaryDirectory() as place:
        try:
            engine: Any = getattr(importlib.import_module(module), name)
            plan = engine().build(Artifact(tiny(Path(place))), hardware, Path(place) / "engine")[0]
        except Unsupported as reason:
            return Finding(str(reason), str(reason))
        except ModuleNotFoundError as error:
            return Finding(*2 * [not_installed(str(error.name))])
        except Exception as error:  # each runtime has its own
            return Finding(first_line(error), first_line(error))
        try:
            session = engine.open(plan)
            session.run(question())
        except Unsupported as reason:
            return Finding(None, str(reason))
        except Exception as error:
            return Finding(None, first_line(error))
    return Finding()


def of_torch(hardware: Hardware, compiled: bool = False) -> Finding:
    """One product of two matrices, and whether what torch.compile needs is there."""
    try:
        import torch

        from modelpress.engines.torch import TorchCompile, refuse_on_gpu

        if compiled:
            TorchCompile.refuse(hardware)
        if hardware.accelerator == "cuda":
            refuse_on_gpu("fp32")
        matrix = torch.ones(WIDTH, WIDTH, device=hardware.accelerator)
        assert float((matrix @ matrix).sum()) == WIDTH**3
    except (ImportError, Unsupported) as reason:
        return Finding(None, str(reason))
    return Finding()


def of_torchao() -> Finding:
    """Whether it can be imported."""
    from modelpress.engines.torchao import HOW

    try:
        import torchao  # noqa: F401
    except ImportError as error:
        return Finding(None, f"torchao cannot be imported ({error}); {HOW}")
    return Finding()


PROBES: dict[str, Callable[[], Finding]] = {
    "onnxruntime": partial(of_engine, "onnxruntime.OnnxRuntime", CPU),
    "openvino": partial(of_engine, "openvino.OpenVino", CPU),
    "torch": partial(of_torch, CPU),
    "torch_compile": partial(of_torch, CPU, compiled=True),
    "torchao": of_torchao,
    "onnxruntime_cuda": partial(of_engine, "onnxruntime_cuda.OnnxRuntimeCuda", GPU),
    "onnxruntime_tensorrt": partial(of_engine, "onnxruntime_cuda.OnnxRuntimeTensorRt", GPU),
    "tensorrt": partial(of_engine, "tensorrt.TensorRT", GPU),
    "tensorrt_rtx": partial(of_engine, "tensorrt.TensorRTRtx", GPU),
    "torch on cuda": partial(of_torch, GPU),
    "torch_compile on cuda": partial(of_torch, GPU, compiled=True),
}


def tiny(folder: Path) -> Path:
    """``x @ w`` with a dynamic batch, float32, as an ONNX file in ``folder``."""
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weight = numpy_helper.from_array(np.eye(WIDTH, dtype=np.float32), "w")
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", WIDTH]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "tiny", ends[:1], ends[1:], [weight])
    file = folder / "tiny.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), str(file))
    return file


def question() -> dict[str, Any]:
    """Inputs of :func:`tiny`."""
    import numpy as np

    return {"x": np.ones((1, WIDTH), np.float32)}


if __name__ == "__main__":
    found = asdict(PROBES[sys.argv[1]]())
    print("\n" + json.dumps(found))
