"""What tests look up in the folder of a trained stage."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from modelpress.models.base import Model
from modelpress.training import Arm


def accuracy(arm: Arm, model: Model) -> float:
    """On the validation split."""
    data: Any = arm.datamodule()
    right = count = 0
    with torch.no_grad():
        for batch in data.val_dataloader():
            logits = model.eval()(batch).logits
            assert logits is not None
            right += int((logits.argmax(1) == batch["labels"]).sum())
            count += len(batch["labels"])
    return right / count


def metrics(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "metrics.json").read_text())
    return found
