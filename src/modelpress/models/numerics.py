"""In which numbers a finished network is to run. Torch-free; travels beside the weights and inside the ONNX file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Numerics:
    """``kind``: int8, fp16 or bf16. ``details``: JSON; for a 16-bit kind see :mod:`modelpress.transforms.precision`."""

    kind: str
    details: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """One line; the same text for the same numbers, since it enters cache keys."""
        return json.dumps({"kind": self.kind, **self.details}, sort_keys=True, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Numerics:
        """What :meth:`to_json` wrote."""
        record: dict[str, Any] = json.loads(text)
        return cls(record.pop("kind"), record)
