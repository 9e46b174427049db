"""PyTorch reference rows: eager and ``torch.compile``. Opt-in; torch is imported only when a plan is opened."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from modelpress.benchmark.machine import default_threads, has_bf16
from modelpress.engines.base import Arrays, Artifact, Engine, Hardware, Plan, Session, Unsupported
from modelpress.engines.files import link_tree
from modelpress.engines.precision import NAMES
from modelpress.errors import ModelPressError, one_of

PRECISIONS = ("fp32", "bf16")
COMPILERS = ("c++", "g++", "clang++", "icpx")


class Torch(Engine):
    """Eager PyTorch on the trained network itself. bf16 converts all weights (no autocast: it casts at every call)."""

    name = "torch"
    extension = ""
    runtimes = ("torch",)

    def __init__(self, precisions: Sequence[str] = ("fp32",)) -> None:
        super().__init__([one_of(f"engine.{self.name}.precisions", given, PRECISIONS) for given in precisions])

    def build(self, artifact: Artifact, hardware: Hardware, folder: Path) -> list[Plan]:
        """Nothing is built: the plan is the folder of the trained network, linked into ``folder``."""
        if artifact.model is None:
            raise Unsupported("this stage keeps no PyTorch network, only an ONNX file")
        if not (artifact.model / "modelpress.json").is_file():
            raise ModelPressError(f"{artifact.model} holds no saved network (modelpress.json is missing).")
        target = f"{__name__}.{type(self).__qualname__}"
        file = link_tree(artifact.model, folder / "model")
        settings = {
            "threads": hardware.threads or default_threads(),
            "device": hardware.accelerator,
        }
        return [Plan(self.name, target, precision, str(file), settings) for precision in self.precisions]

    @classmethod
    def open(cls, plan: Plan) -> Session:
        """Load the network, set threads, device and precision."""
        import torch

        from modelpress.models.base import load

        if plan.settings["device"] == "cuda" and not torch.cuda.is_available():
            raise Unsupported("hardware.accelerator is 'cuda', but torch finds no CUDA device")
        if plan.precision == "bf16" and plan.settings["device"] == "cpu" and not has_bf16():
            raise Unsupported("this processor has no bf16 instructions")
        torch.set_num_threads(plan.settings["threads"])
        kind = {"fp32": torch.float32, "bf16": torch.bfloat16}[plan.precision]
        network = load(Path(plan.file)).to(plan.settings["device"], kind).eval()
        network.capture(frozenset())
        return TorchSession(cls.prepare(network, plan), network)

    @classmethod
    def prepare(cls, network: Any, plan: Plan) -> Any:
        """What is called for each request; eager calls the network itself."""
        return network


class TorchCompile(Torch):
    """``torch.compile`` with dynamic shapes, so that a new length is not a new compilation."""

    name = "torch_compile"

    def build(self, artifact: Artifact, hardware: Hardware, folder: Path) -> list[Plan]:
        """As eager; Unsupported without a C++ compiler (CPU) or Triton (GPU)."""
        if hardware.accelerator == "cpu" and compiler() is None:
            raise Unsupported(f"torch.compile needs a C++ compiler; none of {', '.join(COMPILERS)} is on the PATH")
        if hardware.accelerator == "cuda" and importlib.util.find_spec("triton") is None:
            raise Unsupported("torch.compile needs triton on GPUs, which is not installed")
        return super().build(artifact, hardware, folder)

    @classmethod
    def open(cls, plan: Plan) -> Session:
        """As eager; inductor's cache lies next to the plan, so that cold starts do not depend on earlier runs."""
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(Path(plan.file).parent / "inductor")  # read at compilation
        return super().open(plan)

    @classmethod
    def prepare(cls, network: Any, plan: Plan) -> Any:
        """The compiled network; compilation happens at the first request."""
        import torch

        return torch.compile(network, dynamic=True)


class TorchSession(Session):
    """Calls the network under inference mode; NumPy in, NumPy (float32) out."""

    def __init__(self, call: Any, network: Any) -> None:
        import torch

        parameter = next(network.parameters())
        self.call = call
        self.device = parameter.device
        self.kind = parameter.dtype
        self.precision = NAMES[str(parameter.dtype).removeprefix("torch.")]
        self.torch = torch

    def run(self, inputs: Arrays) -> dict[str, Any]:
        """The logits of one batch, or its embeddings; floating-point inputs are cast to the network's precision."""
        torch = self.torch
        batch = {name: torch.from_numpy(array).to(self.device) for name, array in inputs.items()}
        batch = {k: v.to(self.kind) if v.is_floating_point() else v for k, v in batch.items()}
        with torch.inference_mode():
            output = self.call(batch)
        found = {f"{tower}_embeddings": tensor for tower, tensor in (output.embeddings or {}).items()}
        return {name: tensor.float().cpu().numpy() for name, tensor in (found or {"logits": output.logits}).items()}

    def details(self) -> dict[str, Any]:
        """Version, threads and device."""
        return {
            "runtime": f"torch {self.torch.__version__}",
            "threads": self.torch.get_num_threads(),
            "device": str(self.device),
        }


def compiler() -> str | None:
    """The C++ compiler that torch.compile would find: $CXX or one on the PATH."""
    named = os.environ.get("CXX")
    found = [shutil.which(name) for name in ([named] if named else COMPILERS)]
    return next(filter(None, found), None)
