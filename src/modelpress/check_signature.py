"""What a ``_target_`` accepts, read from its source: importing torch, Lightning or transformers would cost seconds."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from modelpress.check_source import Found, Module, absolute_name, find, imported_as, locate, statements

# Bases that add no argument of their own; following them would parse large files for nothing.
PLAIN_BASES = frozenset({"torch", "abc", "typing", "collections", "builtins", "enum"})


@dataclass(frozen=True)
class Parameter:
    """One argument; its annotation is read in the module that wrote it."""

    annotation: ast.expr | None
    required: bool
    module: Module


@dataclass(frozen=True)
class Signature:
    """Arguments by name; ``open`` when any other name is accepted too."""

    name: str
    parameters: Mapping[str, Parameter]
    open: bool = False


def signature(target: str) -> Signature:
    """Arguments of a class or function by dotted path. Raises :class:`ModelPressError` if there is no such thing."""
    found = locate(target)
    name = target.rpartition(".")[2]
    if isinstance(found.definition, ast.FunctionDef):
        return _of_function(name, found.definition, found.module, skip=0)
    if isinstance(found.definition, ast.ClassDef):
        return _of_class(found.definition, found.module) or Signature(name, {})
    return Signature(name, {}, open=True)


def class_attribute(target: str, name: str) -> object:
    """A literal class attribute (``kind``, ``forbidden_after``, ``teacher``), inherited ones included; else None."""
    found = locate(target)
    return _attribute(found, name) if isinstance(found.definition, ast.ClassDef) else None


def _attribute(found: Found, name: str) -> object:
    assert isinstance(found.definition, ast.ClassDef)
    for item in found.definition.body:
        value = _assigned(item, name)
        if value is not None:
            return _literal(value)
    for base in _bases(found.definition, found.module):
        inherited = _attribute(base, name)
        if inherited is not None:
            return inherited
    return None


def _assigned(item: ast.stmt, name: str) -> ast.expr | None:
    if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name) and item.target.id == name:
        return item.value
    if isinstance(item, ast.Assign) and any(isinstance(t, ast.Name) and t.id == name for t in item.targets):
        return item.value
    return None


def _literal(value: ast.expr) -> object:
    try:
        return ast.literal_eval(value)
    except ValueError:
        return None


def _of_class(cls: ast.ClassDef, module: Module) -> Signature | None:
    """Arguments of ``__init__``, of the dataclass fields, or of the first base that has either."""
    init = next((s for s in cls.body if isinstance(s, ast.FunctionDef) and s.name == "__init__"), None)
    if init is not None and not _passes_on(init):
        return _of_function(cls.name, init, module, skip=1)
    inherited = [found for base in _bases(cls, module) if (found := _of_base(base)) is not None]
    if init is not None:
        own = _of_function(cls.name, init, module, skip=1)
        return _joined(own, inherited[0], init) if inherited else own
    if any("dataclass" in ast.unparse(decorator) for decorator in cls.decorator_list):
        fields = {name: p for base in inherited for name, p in base.parameters.items()}
        return Signature(cls.name, {**fields, **_fields(cls, module)})
    return Signature(cls.name, inherited[0].parameters, inherited[0].open) if inherited else None


def _passes_on(init: ast.FunctionDef) -> ast.Call | None:
    """The call ``super().__init__(…, **options)`` that hands unnamed arguments to the base class."""
    if init.args.kwarg is None:
        return None
    for node in ast.walk(init):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "super().__init__" and _spreads(node, init):
            return node
    return None


def _spreads(call: ast.Call, init: ast.FunctionDef) -> bool:
    assert init.args.kwarg is not None
    name = init.args.kwarg.arg
    return any(k.arg is None and isinstance(k.value, ast.Name) and k.value.id == name for k in call.keywords)


def _joined(own: Signature, base: Signature, init: ast.FunctionDef) -> Signature:
    """Own arguments, and those of the base that ``super().__init__`` does not already fill."""
    call = _passes_on(init)
    assert call is not None
    filled = {*list(base.parameters)[: len(call.args)], *(k.arg for k in call.keywords if k.arg)}
    rest = {name: p for name, p in base.parameters.items() if name not in filled}
    return Signature(own.name, {**rest, **own.parameters}, open=base.open)


def _of_base(base: Found) -> Signature | None:
    assert isinstance(base.definition, ast.ClassDef)
    return _of_class(base.definition, base.module)


def _bases(cls: ast.ClassDef, module: Module) -> Iterator[Found]:
    for base in cls.bases:
        node = base.value if isinstance(base, ast.Subscript) else base
        if isinstance(node, ast.Name) and _origin(module, node.id) not in PLAIN_BASES:
            found = find(module, node.id)
            if found is not None and isinstance(found.definition, ast.ClassDef):
                yield found


def _origin(module: Module, name: str) -> str:
    """Top package that a name is imported from; empty if it is defined here."""
    for item in statements(module.tree.body):
        if isinstance(item, ast.ImportFrom) and imported_as(item.names, name):
            return absolute_name(item, module).partition(".")[0]
    return ""


def _fields(cls: ast.ClassDef, module: Module) -> dict[str, Parameter]:
    found: dict[str, Parameter] = {}
    for item in cls.body:
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
            text, value = ast.unparse(item.annotation), ast.unparse(item.value) if item.value else ""
            if "ClassVar" not in text and "init=False" not in value:
                found[item.target.id] = Parameter(item.annotation, item.value is None, module)
    return found


def _of_function(name: str, function: ast.FunctionDef, module: Module, skip: int) -> Signature:
    arguments = function.args
    positional = [*arguments.posonlyargs, *arguments.args]
    first_default = len(positional) - len(arguments.defaults)
    found = {a.arg: Parameter(a.annotation, i < first_default, module) for i, a in enumerate(positional) if i >= skip}
    for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        found[argument.arg] = Parameter(argument.annotation, default is None, module)
    return Signature(name, found, open=arguments.kwarg is not None)
