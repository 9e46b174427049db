"""What every model shares: the form of its output, counting parameters, opening a saved folder."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from modelpress.models.base import Batch, Model, Output, load, parameter_count


class Saved(Model):
    """Opened by name from a folder."""

    labels: list[str] = ["a", "b"]  # noqa: RUF012  (as in the contract)

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder, self.scale = folder, nn.Parameter(torch.ones(2))

    @classmethod
    def load(cls, folder: Path) -> Saved:
        return cls(folder)


def test_an_output_holds_only_what_was_asked_for() -> None:
    empty = Output()
    assert (empty.logits, empty.hidden_states, empty.attentions, empty.embeddings) == (None, None, None, None)


def test_shared_parameters_count_once() -> None:
    embedding, head = nn.Embedding(10, 4), nn.Linear(4, 10)
    assert parameter_count(nn.ModuleList([embedding, head])) == 40 + 40 + 10
    head.weight = embedding.weight
    assert parameter_count(nn.ModuleList([embedding, head])) == 40 + 10
    assert parameter_count(nn.ReLU()) == 0


def test_a_saved_folder_names_its_class(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "users_code", SimpleNamespace(Saved=Saved))
    (tmp_path / "modelpress.json").write_text(json.dumps({"class": "users_code.Saved"}))
    opened = load(tmp_path)
    assert isinstance(opened, Saved)
    assert opened.folder == tmp_path
    assert opened.scale.device.type == "cpu"


CALLS = [lambda m: m({}), lambda m: m.example(), lambda m: m.towers(), lambda m: m.save(Path())]


@pytest.mark.parametrize("call", CALLS, ids=["forward", "example", "towers", "save"])
def test_a_model_that_keeps_no_promise_says_so(call: Callable[[Model], object]) -> None:
    with pytest.raises(NotImplementedError):
        call(Model())


def test_forward_may_be_called_as_a_function() -> None:
    class Constant(Model):
        def forward(self, batch: Batch) -> Output:
            return Output(logits=batch["x"] * 2)

    logits = Constant()({"x": torch.ones(1, 2)}).logits
    assert logits is not None
    assert logits.tolist() == [[2.0, 2.0]]
