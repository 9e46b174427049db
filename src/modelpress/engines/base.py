"""The Engine contract. Nothing here imports a runtime: each engine imports its own, inside its methods."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[Any]]


class Unsupported(Exception):
    """This machine or runtime cannot do it; the row is ``null`` with this reason. Not a failure of the run."""


@dataclass(frozen=True)
class Artifact:
    """What one stage offers to engines: an ONNX file, and the trained network's folder for PyTorch rows.

    ``lengths``: length -> number of training items, for engines that are built for ranges of shapes and ask for it.
    """

    onnx: Path
    model: Path | None = None
    tower: str = "main"
    lengths: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Hardware:
    """Facts about the target (``conf/hardware``). ``threads=None``: as many as the process may use."""

    name: str = "cpu"
    accelerator: str = "cpu"
    devices: int = 1
    precision: str = "auto"  # training: auto | 32-true | bf16-mixed | 16-mixed
    threads: int | None = None
    kernel_multiple: int = 16
    engines: tuple[str, ...] = ("onnxruntime", "openvino", "torch", "torch_compile", "torchao")
    strategy: str = "auto"


@dataclass(frozen=True)
class Plan:
    """A built engine on disk and how to open it, as JSON so that a fresh process can do so."""

    engine: str  # name, e.g. "openvino"
    target: str  # dotted path of the Engine class
    precision: str  # asked for: fp32 | bf16 | fp16 | int8
    file: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    tower: str = "main"  # which of the model's graphs it runs
    parts: tuple[Plan, ...] = ()  # of a pair of towers: their own plans

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Plan:
        return cls.of(json.loads(text))

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> Plan:
        """From what ``asdict`` gave."""
        return cls(**{**fields, "parts": tuple(cls.of(part) for part in fields.get("parts", ()))})

    def single(self) -> tuple[Plan, ...]:
        """The plans that have a file of their own: its parts, or itself."""
        return self.parts or (self,)


class Session:
    """An opened engine. ``precision`` is the *effective* one, read back from the runtime."""

    precision: str
    kernels_kept: bool | None = None  # of a runtime that compiles as it opens: whether an earlier opening's were used

    def run(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """One blocking inference."""
        raise NotImplementedError

    def answers(self, requests: Iterable[Arrays]) -> Iterator[dict[str, NDArray[Any]]]:
        """The answers to many requests, in their order. An engine with several streams keeps as many in flight."""
        return map(self.run, requests)

    def details(self) -> dict[str, Any]:
        """Runtime facts for the report (threads, execution providers, layer precisions)."""
        return {}

    def device_ms(self) -> dict[str, float]:
        """Where the last :meth:`run` spent its time on an accelerator, ms; empty on CPUs.

        ``compute``: kernels alone, inputs and outputs on the device; ``h2d`` and ``d2h``: copies to and from it.
        """
        return {}

    def warmed(self) -> None:
        """Called once every shape has been met: the time to keep what a runtime compiles as it meets them."""

    def close(self) -> None: ...


class Engine:
    """``build`` runs in the parent (may use any library), ``open`` in a fresh worker (this runtime only)."""

    name: ClassVar[str]
    extension: ClassVar[str]
    runtimes: ClassVar[tuple[str, ...]] = ()  # modules that ``open`` imports; the worker times their import
    code: ClassVar[tuple[str, ...]] = ()  # further modules of ours that decide what ``build`` makes
    wants_lengths: bool = False  # whether ``build`` reads :attr:`Artifact.lengths`

    def __init__(self, precisions: Sequence[str] = ("fp32",)) -> None:
        self.precisions = tuple(precisions)

    def build(self, artifact: Artifact, hardware: Hardware, folder: Path) -> list[Plan]:
        """One plan per precision. Raises :class:`Unsupported` with the reason."""
        raise NotImplementedError

    def surroundings(self) -> dict[str, Any]:
        """What else decides what :meth:`build` makes (an optional runtime's version, the GPU): part of its key."""
        return {}

    @classmethod
    def open(cls, plan: Plan) -> Session:
        raise NotImplementedError


def softmax(logits: NDArray[Any]) -> NDArray[np.float64]:
    """Row-wise softmax in float64."""
    shifted = np.exp(np.asarray(logits, np.float64) - np.max(logits, axis=-1, keepdims=True))
    probabilities: NDArray[np.float64] = shifted / shifted.sum(axis=-1, keepdims=True)
    return probabilities
