"""Signatures read from source against Python's own ``inspect``."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import pytest
from hydra.utils import get_object

from modelpress.check_signature import class_attribute, signature

LIGHT = [
    "modelpress.optimizer.OptimizerConfig",
    "modelpress.engines.base.Hardware",
    "modelpress.engines.base.Engine",
    "modelpress.models.text.TextModel",
    "modelpress.benchmark.session.Settings",
    "modelpress.store.Entry",
    "modelpress.errors.one_of",
    "logging.FileHandler",
]


@pytest.mark.parametrize("target", LIGHT)
def test_agrees_with_inspect(target: str) -> None:
    real = inspect.signature(get_object(target))
    found = signature(target)
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    expected = {name: p.default is p.empty for name, p in real.parameters.items() if p.kind not in kinds}
    assert {name: p.required for name, p in found.parameters.items()} == expected


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A package with every way of passing arguments on, and a module that must never be imported."""
    folder = tmp_path / "presstest"
    folder.mkdir()
    (folder / "__init__.py").write_text("from .parts import Child as Renamed\nfrom presstest.parts import *\n")
    (folder / "parts.py").write_text(PARTS)
    monkeypatch.syspath_prepend(tmp_path)
    return "presstest"


PARTS = """
raise RuntimeError("imported")
from dataclasses import dataclass, field
from typing import ClassVar
try:
    from presstest.missing import Nothing
except ImportError:
    Nothing = None

class Base:
    kind = "base"
    forbidden_after: ClassVar[tuple[str, ...]] = ("prune", "qat")
    def __init__(self, name: str, width: int = 1) -> None: ...

class Child(Base):
    kind: str = "child"

class Passing(Base):
    def __init__(self, path, **options): super().__init__("fixed", **options)

class Open(Base):
    def __init__(self, path, **options): self.options = options

@dataclass
class Record:
    first: int
    second: float = 0.5
    shared: ClassVar[int] = 3
    made: int = field(default=0, init=False)

@dataclass
class Longer(Record):
    third: str = ""

if True:
    def function(a, /, b, *, c, d=1): ...

class Empty: ...
"""


def _arguments(target: str) -> dict[str, bool]:
    return {name: p.required for name, p in signature(target).parameters.items()}


@pytest.mark.parametrize(
    ("name", "expected", "accepts_more"),
    [
        ("parts.Base", {"name": True, "width": False}, False),
        ("parts.Child", {"name": True, "width": False}, False),
        ("Renamed", {"name": True, "width": False}, False),
        ("Longer", {"first": True, "second": False, "third": False}, False),
        ("parts.Record", {"first": True, "second": False}, False),
        ("parts.Passing", {"width": False, "path": True}, False),
        ("parts.Open", {"path": True}, True),
        ("parts.function", {"a": True, "b": True, "c": True, "d": False}, False),
        ("parts.Empty", {}, False),
    ],
)
def test_reads_without_importing(package: str, name: str, expected: dict[str, bool], accepts_more: bool) -> None:
    assert _arguments(f"{package}.{name}") == expected
    assert signature(f"{package}.{name}").open is accepts_more


def test_class_attributes_are_inherited(package: str) -> None:
    assert class_attribute(f"{package}.parts.Child", "kind") == "child"
    assert class_attribute(f"{package}.parts.Child", "forbidden_after") == ("prune", "qat")
    assert class_attribute(f"{package}.parts.Child", "absent") is None
    assert class_attribute(f"{package}.parts.function", "kind") is None


def test_lightning_is_read_but_not_imported() -> None:
    code = (
        "import sys; from modelpress.check_signature import signature;"
        "found: object = signature('lightning.pytorch.Trainer').parameters;"
        "print('max_epochs' in found, 'lightning' in sys.modules, 'torch' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["True", "False", "False"]
