"""PyTorch's own dynamic INT8 as reference rows: torchao on the trained network. Opt-in, and an extra.

Weights INT8 per channel, activations INT8 per token at run time, both symmetric; Linear layers only. It is what a user
gets from PyTorch without exporting anything. Torch is imported only when a plan is opened.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from modelpress.engines.base import Artifact, Engine, Hardware, Plan, Session, Unsupported
from modelpress.engines.precision import effective
from modelpress.engines.torch import Torch, TorchCompile, TorchSession, refuse_on_gpu
from modelpress.errors import one_of

PRECISIONS = ("int8",)
NUMERICS = "numerics.json"  # beside the weights of a network that ModelPress has quantized or converted
HOW = "pip install 'modelpress[torchao]'"


class TorchAo(Torch):
    """Quantizes when a plan is opened: the file is that of the FP32 network, and so is its size on disk.

    With ``compile`` the quantized network goes through ``torch.compile``, as torchao's authors advise.
    """

    name = "torchao"

    def __init__(self, precisions: Sequence[str] = PRECISIONS, compile: bool = False) -> None:
        Engine.__init__(self, [one_of("engine.torchao.precisions", given, PRECISIONS) for given in precisions])
        self.compile = compile

    def build(self, artifact: Artifact, hardware: Hardware, folder: Path) -> list[Plan]:
        """One plan, like eager PyTorch's. Unsupported without torchao, and for networks quantized already."""
        if importlib.util.find_spec("torchao") is None:
            raise Unsupported(f"torchao is not installed; {HOW}")
        if artifact.model is not None and (artifact.model / NUMERICS).is_file():
            raise Unsupported("this network has numbers of its own already; torchao is a reference for the float one")
        owner = TorchCompile() if self.compile else Torch()
        [plan] = owner.build(artifact, hardware, folder)  # Unsupported without a compiler where one is needed
        target = f"{__name__}.{type(self).__qualname__}"
        settings = {**plan.settings, "compile": self.compile}
        return [replace(plan, engine=self.name, target=target, precision=PRECISIONS[0], settings=settings)]

    @classmethod
    def open(cls, plan: Plan) -> Session:
        """Load the network, quantize its Linear layers, compile it if asked for."""
        import torch

        try:
            from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_
        except ImportError as error:
            raise Unsupported(f"torchao cannot be imported ({error}); {HOW}") from error
        from modelpress.models.base import load

        if plan.settings["device"] == "cuda":
            refuse_on_gpu(plan.precision)
        torch.set_num_threads(plan.settings["threads"])
        network = load(Path(plan.file)).to(plan.settings["device"]).eval()
        network.capture(frozenset())
        quantize_(network, Int8DynamicActivationInt8WeightConfig())
        owner = TorchCompile if plan.settings["compile"] else Torch
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(Path(plan.file).parent / "inductor")  # as TorchCompile does
        return TorchAoSession(owner.prepare(network, plan), network)


class TorchAoSession(TorchSession):
    """As PyTorch's; the precision is that of most Linear layers, read back from their weights."""

    def __init__(self, call: Any, network: Any) -> None:
        super().__init__(call, network)
        self.work = linear_precisions(network)
        self.precision = effective(self.work)

    def details(self) -> dict[str, Any]:
        """As PyTorch's, with torchao's version and what the Linear layers hold."""
        from importlib.metadata import version

        facts = super().details()
        return {**facts, "runtime": f"torchao {version('torchao')}, {facts['runtime']}", "working_layers": self.work}


def linear_precisions(network: Any) -> dict[str, int]:
    """How many Linear layers hold INT8 and how many float weights."""
    from torch import nn
    from torchao.utils import TorchAOBaseTensor

    weights = [layer.weight for layer in network.modules() if isinstance(layer, nn.Linear)]
    quantized = sum(isinstance(weight, TorchAOBaseTensor) for weight in weights)
    return {"int8": quantized, "fp32": len(weights) - quantized}
