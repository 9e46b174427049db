"""Finding definitions in source: re-exports, star imports, modules that make names on demand, and what is not there."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from modelpress.check_source import find, load, locate
from modelpress.errors import ModelPressError

FILES = {
    "__init__.py": "from .parts import Child as Renamed\nfrom presssource.stars import *\n",
    "parts.py": "raise RuntimeError('imported')\nclass Base: ...\nclass Child(Base): ...\n",
    "stars.py": "try:\n    from .parts import Base\nexcept ImportError:\n    Base = None\ndef shine(): ...\n",
    "lazy.py": "def __getattr__(name): ...\n",
    "loop.py": "from .loop import Itself\n",
    "deep/__init__.py": "from ..parts import Base as Above\nfrom . import inner\n",
    "deep/inner.py": "if True:\n    def function(): ...\n",
}


@pytest.fixture(autouse=True)
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package whose ``parts`` must never be imported."""
    for name, text in FILES.items():
        path = tmp_path / "presssource" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    load.cache_clear()
    find.cache_clear()


@pytest.mark.parametrize(
    ("target", "module", "name"),
    [
        ("presssource.parts.Child", "presssource.parts", "Child"),
        ("presssource.Renamed", "presssource.parts", "Child"),
        ("presssource.shine", "presssource.stars", "shine"),
        ("presssource.Base", "presssource.parts", "Base"),
        ("presssource.deep.Above", "presssource.parts", "Base"),
        ("presssource.deep.inner.function", "presssource.deep.inner", "function"),
    ],
)
def test_found(target: str, module: str, name: str) -> None:
    found = locate(target)
    assert found.definition is not None
    assert (found.module.name, found.definition.name) == (module, name)
    assert "presssource" not in sys.modules


def test_names_made_on_demand_cannot_be_denied() -> None:
    assert locate("presssource.lazy.Whatever").definition is None


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("presssource.parts.Chld", "presssource.parts has no 'Chld'. Did you mean 'Child'?"),
        ("presssource.parts.zzz", "presssource.parts has no 'zzz'. It has: Base, Child."),
        ("presssource.part.Child", "there is no module 'presssource.part'. Did you mean 'parts'?"),
        ("presssource.zzz.zzz.Child", "there is no module 'presssource.zzz'"),
        ("presssource.loop.Itself", "presssource.loop has no 'Itself'"),
        ("not_installed_at_all.models.Child", "Is 'not_installed_at_all' installed?"),
        ("not_installed_at_all.Child", "not a dotted path"),
        ("Child", "not a dotted path"),
        ("", "not a dotted path"),
    ],
)
def test_not_found(target: str, message: str) -> None:
    with pytest.raises(ModelPressError, match=re.escape(message)):
        locate(target)
