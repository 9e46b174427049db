"""Find a class or function by its dotted path in source files, without importing anything below the top package."""

from __future__ import annotations

import ast
import difflib
import importlib.util
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from modelpress.errors import ModelPressError

Definition = ast.ClassDef | ast.FunctionDef


@dataclass(frozen=True)
class Module:
    """One parsed source file."""

    name: str
    path: Path
    tree: ast.Module

    @property
    def package(self) -> str:
        """The package that relative imports of this module start from."""
        return self.name if self.path.name == "__init__.py" else self.name.rpartition(".")[0]


@dataclass(frozen=True)
class Found:
    """A class or function and the module that defines it; ``definition`` is None where source cannot tell."""

    module: Module
    definition: Definition | None


def locate(target: str) -> Found:
    """Find a definition by its dotted path, through re-exports. Nothing below the top package is imported."""
    module, name = _split(target)
    found = find(module, name)
    if found is not None:
        return found
    if find(module, "__getattr__") is not None:  # names made on demand: source cannot deny them
        return Found(module, None)
    raise ModelPressError(f"{target}: {module.name} has no {name!r}.{_nearest(name, _public(module))}")


def _split(target: str) -> tuple[Module, str]:
    module_name, _, name = target.rpartition(".")
    module = load(module_name) if module_name else None
    if module is None or not name:
        raise ModelPressError(_no_module(target, module_name))
    return module, name


def _no_module(target: str, module_name: str) -> str:
    package, _, last = module_name.rpartition(".")
    if not package:
        return f"{target} is not a dotted path to an installed class or function."
    parent = load(package)
    if parent is None:
        top = module_name.partition(".")[0]
        return f"{target}: there is no module {package!r}." + ("" if load(top) else f" Is {top!r} installed?")
    beside = {path.stem for path in parent.path.parent.glob("[!_]*.py")} if parent.path.name == "__init__.py" else set()
    return f"{target}: there is no module {module_name!r}.{_nearest(last, beside)}"


def _nearest(given: str, names: Iterable[str]) -> str:
    listed = sorted(names)
    near = difflib.get_close_matches(given, listed, n=1)
    return f" Did you mean {near[0]!r}?" if near else f" It has: {', '.join(listed[:20])}." if listed else ""


@cache
def load(name: str) -> Module | None:
    """Parse a module's source file without importing it; None if there is none."""
    path = _source(name)
    return Module(name, path, ast.parse(path.read_bytes())) if path is not None else None


def _source(name: str) -> Path | None:
    top, *rest = name.split(".")
    try:
        spec = importlib.util.find_spec(top)
    except (ValueError, ImportError):
        return None
    if spec is None:
        return None
    path, folders = spec.origin, [Path(p) for p in spec.submodule_search_locations or ()]
    for part in rest:
        packages = [folder / part / "__init__.py" for folder in folders]
        files = [*packages, *(folder / f"{part}.py" for folder in folders)]
        path = next((str(file) for file in files if file.is_file()), None)
        folders = [folder / part for folder in folders]
    return Path(path) if path is not None and path.endswith(".py") else None


@cache
def find(module: Module, name: str) -> Found | None:
    """The class or function that ``name`` means in a module."""
    for item in statements(module.tree.body):
        if isinstance(item, Definition) and item.name == name:
            return Found(module, item)
        if isinstance(item, ast.ImportFrom) and (alias := imported_as(item.names, name)):
            return _find_in(absolute_name(item, module), alias.name, module)
    stars = (s for s in statements(module.tree.body) if isinstance(s, ast.ImportFrom) and imported_as(s.names, "*"))
    return next((found for s in stars if (found := _find_in(absolute_name(s, module), name, module))), None)


def _find_in(source_name: str, name: str, asker: Module) -> Found | None:
    source = load(source_name)
    return find(source, name) if source is not None and source is not asker else None


def imported_as(names: list[ast.alias], name: str) -> ast.alias | None:
    """The item of an import statement that binds ``name``."""
    return next((alias for alias in names if (alias.asname or alias.name) == name), None)


def absolute_name(item: ast.ImportFrom, module: Module) -> str:
    """Full name of the module in ``from … import``, relative ones included."""
    if not item.level:
        return item.module or ""
    parents = module.package.split(".")
    base = ".".join(parents[: len(parents) - item.level + 1])
    return f"{base}.{item.module}" if item.module else base


def statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Top-level statements, those inside if/try included."""
    for item in body:
        yield item
        if isinstance(item, ast.If):
            yield from statements(item.body + item.orelse)
        elif isinstance(item, ast.Try):
            yield from statements(item.body + [s for h in item.handlers for s in h.body] + item.orelse)


def _public(module: Module) -> set[str]:
    return {s.name for s in statements(module.tree.body) if isinstance(s, Definition) and not s.name.startswith("_")}
