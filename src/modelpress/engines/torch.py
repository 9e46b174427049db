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
from modelpress.engines.driver import BF16_FROM, probe
from modelpress.engines.files import link_tree
from modelpress.engines.precision import NAMES
from modelpress.errors import ModelPressError, one_of

PRECISIONS = ("fp32", "tf32", "bf16", "fp16")  # fp32: strict, also on GPUs
COMPILERS = ("c++", "g++", "clang++", "icpx")


class Torch(Engine):
    """Eager PyTorch on the trained network itself, on the CPU or on CUDA's first device.

    bf16 and fp16 convert all weights (no autocast: it casts at every call).
    """

    name = "torch"
    extension = ""
    runtimes = ("torch",)
    code = ("modelpress.engines.torch", "modelpress.engines.torch_cuda")

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

        on_gpu = plan.settings["device"] == "cuda"
        refuse_on_gpu(plan.precision) if on_gpu else refuse_on_cpu(plan.precision)
        torch.set_num_threads(plan.settings["threads"])
        kind = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(plan.precision, torch.float32)
        network = load(Path(plan.file)).to(plan.settings["device"], kind).eval()
        network.capture(frozenset())
        if on_gpu:
            from modelpress.engines.torch_cuda import CudaSession, set_fp32_products

            set_fp32_products(plan.precision)
            return CudaSession(cls.prepare(network, plan), network)
        return TorchSession(cls.prepare(network, plan), network)

    @classmethod
    def prepare(cls, network: Any, plan: Plan) -> Any:
        """What is called for each request; eager calls the network itself."""
        return network


class TorchCompile(Torch):
    """``torch.compile`` with dynamic shapes, so that a new length is not a new compilation."""

    name = "torch_compile"

    def build(self, artifact: Artifact, hardware: Hardware, folder: Path) -> list[Plan]:
        """As eager; Unsupported without a C++ compiler or, on GPUs, Triton."""
        self.refuse(hardware)
        return super().build(artifact, hardware, folder)

    @staticmethod
    def refuse(hardware: Hardware) -> None:
        """Raise Unsupported where something that compiles is missing."""
        why = cannot_compile(hardware.accelerator)
        if why is not None:
            raise Unsupported(why)

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
        with self.torch.inference_mode():
            return self.arrays(self.call(self.placed(inputs)))

    def placed(self, inputs: Arrays) -> dict[str, Any]:
        """The inputs as tensors of the network's device and precision."""
        batch = {name: self.torch.from_numpy(array).to(self.device) for name, array in inputs.items()}
        return {k: v.to(self.kind) if v.is_floating_point() else v for k, v in batch.items()}

    def arrays(self, output: Any) -> dict[str, Any]:
        """Logits or embeddings as float32 arrays."""
        found = {f"{tower}_embeddings": tensor for tower, tensor in (output.embeddings or {}).items()}
        return {name: tensor.float().cpu().numpy() for name, tensor in (found or {"logits": output.logits}).items()}

    def details(self) -> dict[str, Any]:
        """Version, threads and device."""
        return {
            "runtime": f"torch {self.torch.__version__}",
            "threads": self.torch.get_num_threads(),
            "device": str(self.device),
        }


def refuse_on_cpu(precision: str) -> None:
    """Raise Unsupported for what processors, or this one, cannot do."""
    if precision in ("tf32", "fp16"):
        raise Unsupported(f"{precision} is for NVIDIA GPUs; PyTorch on a CPU runs fp32 and bf16")
    if precision == "bf16" and not has_bf16():
        raise Unsupported("this processor has no bf16 instructions")


def refuse_on_gpu(precision: str) -> None:
    """Raise Unsupported for a GPU that torch does not find, or that lacks the precision."""
    import torch

    if not torch.cuda.is_available():
        why = probe().reason or f"this torch is built for {torch.version.cuda or 'CPUs only'}"
        raise Unsupported(f"hardware.accelerator is 'cuda', but torch finds no CUDA device: {why}")
    if precision in ("tf32", "bf16") and torch.cuda.get_device_capability() < BF16_FROM:
        raise Unsupported(f"{torch.cuda.get_device_name()} has no {precision} arithmetic; use fp16")


def cannot_compile(accelerator: str) -> str | None:
    """What ``torch.compile`` lacks here to compile for ``cpu`` or ``cuda``; ``None``: nothing."""
    if compiler() is None:
        return f"torch.compile needs a C++ compiler; none of {', '.join(COMPILERS)} is on the PATH"
    if accelerator == "cuda" and importlib.util.find_spec("triton") is None:
        return "torch.compile needs triton on GPUs, which is not installed: pip install triton"
    return None


def compiler() -> str | None:
    """The C++ compiler that torch.compile would find: $CXX or one on the PATH."""
    named = os.environ.get("CXX")
    found = [shutil.which(name) for name in ([named] if named else COMPILERS)]
    return next(filter(None, found), None)
