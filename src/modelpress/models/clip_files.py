"""What lies beside the weights of a dual encoder: its architecture and its preprocessing. Torch-free."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from modelpress.errors import ModelPressError
from modelpress.models import open_clip_names

OPEN_CLIP_CONFIG, OWN_CONFIG = "open_clip_config.json", "config.json"


def read_config(path: Path) -> dict[str, Any]:
    """The architecture that lies beside weights. Raises :class:`ModelPressError` if there is none."""
    folder = path if path.is_dir() else path.parent
    for name in (OPEN_CLIP_CONFIG, OWN_CONFIG):
        if (folder / name).is_file():
            found: dict[str, Any] = json.loads((folder / name).read_text(encoding="utf-8"))
            found = found.get("model_cfg", found)
            if all(key in found for key in open_clip_names.REQUIRED):
                text = found["text_cfg"]
                if text.get("hf_model_name") and (folder / text["hf_model_name"]).is_dir():
                    text["hf_model_name"] = str(folder / text["hf_model_name"])
                return found
    raise ModelPressError(
        f"{folder} has no {OPEN_CLIP_CONFIG}: say what the weights in {path} are of, "
        "model.architecture=<name of open_clip's>."
    )


def preprocess_beside(path: str | None) -> dict[str, Any]:
    """The preprocessing that lies beside weights."""
    folder = Path(path).expanduser() if path else None
    if folder is None or not (folder / OPEN_CLIP_CONFIG).is_file():
        return {}
    found: dict[str, Any] = json.loads((folder / OPEN_CLIP_CONFIG).read_text(encoding="utf-8")).get(
        "preprocess_cfg", {}
    )
    return found
