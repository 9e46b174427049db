"""Exports take seconds, so each is made once per session."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.models.conftest import tiny, tokenizer_folder

__all__ = ["tokenizer_folder"]
INPUT_NAMES = ["input_ids", "attention_mask", "token_type_ids"]


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory, tokenizer_folder: Path) -> Callable[..., tuple[Any, Path]]:
    """A tiny classifier and its ONNX file, by model type and option."""
    made: dict[tuple[str, bool], tuple[Any, Path]] = {}

    def get(model_type: str = "bert", cls_only: bool = True) -> tuple[Any, Path]:
        from modelpress.export.onnx import export
        from modelpress.models.classifier import TextClassifier

        key = (model_type, cls_only)
        if key not in made:
            model = TextClassifier(
                tiny(model_type, labels=2, num_hidden_layers=2)
                if model_type != "distilbert"
                else tiny(model_type, labels=2),
                ["bad", "good"],
                tokenizer_folder,
                cls_only_last_layer=cls_only,
            )
            model.train()
            model.capture(frozenset({"attentions", "hidden_states"}))  # an export must not be disturbed by either
            folder = tmp_path_factory.mktemp("export")
            made[key] = model, export(model, folder)["main"]
        return made[key]

    return get
