"""Whether a plain config value fits an annotation, judged from source. Doubtful cases pass: constructors decide."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from typing import Any

from modelpress.check_source import Module, absolute_name, imported_as, load, statements

SEQUENCES = frozenset({"list", "List", "Sequence", "Iterable", "Collection", "tuple", "Tuple", "set", "frozenset"})
MAPPINGS = frozenset({"dict", "Dict", "Mapping", "MutableMapping"})


def _is_number(value: object, kinds: tuple[type, ...]) -> bool:
    return isinstance(value, kinds) and not isinstance(value, bool)


SIMPLE: Mapping[str, Callable[[object], bool]] = {
    "int": lambda value: _is_number(value, (int,)),
    "float": lambda value: _is_number(value, (int, float)),
    "bool": lambda value: isinstance(value, bool),
    "str": lambda value: isinstance(value, str),
    "Path": lambda value: isinstance(value, str),
    "None": lambda value: value is None,
    **{name: lambda value: isinstance(value, list) for name in SEQUENCES},
    **{name: lambda value: isinstance(value, dict) for name in MAPPINGS},
}


def fits(value: object, annotation: ast.expr | None, module: Module) -> bool:
    """True unless the value clearly contradicts the annotation."""
    if annotation is None or (isinstance(value, dict) and "_target_" in value):
        return True
    if isinstance(annotation, ast.Constant):
        return _fits_constant(value, annotation.value, module)
    if isinstance(annotation, ast.BinOp):
        return fits(value, annotation.left, module) or fits(value, annotation.right, module)
    if isinstance(annotation, ast.Subscript):
        return _fits_generic(value, annotation, module)
    name = _name(annotation)
    if name in SIMPLE:
        return SIMPLE[name](value)
    alias = _alias_of(name, module)
    return fits(value, alias[0], alias[1]) if alias is not None else True


def _fits_constant(value: object, constant: object, module: Module) -> bool:
    if isinstance(constant, str):  # an annotation written as a string
        return fits(value, ast.parse(constant, mode="eval").body, module)
    return value is None if constant is None else True


def _fits_generic(value: object, annotation: ast.Subscript, module: Module) -> bool:
    name, inner = _name(annotation.value), annotation.slice
    items = inner.elts if isinstance(inner, ast.Tuple) else [inner]
    if name == "Literal":
        return any(_same(value, ast.literal_eval(item)) for item in items)
    if name == "Optional":
        return value is None or fits(value, inner, module)
    if name == "Union":
        return any(fits(value, item, module) for item in items)
    if name == "Annotated":
        return fits(value, items[0], module)
    if name in SEQUENCES:
        return isinstance(value, list) and all(fits(item, items[0], module) for item in value)
    if name in MAPPINGS:
        return isinstance(value, dict) and all(fits(item, items[-1], module) for item in value.values())
    return True


def _same(value: object, literal: object) -> bool:
    return type(value) is type(literal) and value == literal


def _name(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def _alias_of(name: str, module: Module) -> tuple[ast.expr, Module] | None:
    """``Spec = str | list[int]`` in this module, or imported from another."""
    for item in statements(module.tree.body):
        if isinstance(item, ast.Assign) and any(_name(target) == name for target in item.targets):
            return item.value, module
        if isinstance(item, ast.ImportFrom) and (alias := imported_as(item.names, name)):
            source = load(absolute_name(item, module)) if absolute_name(item, module).startswith("modelpress") else None
            return _alias_of(alias.name, source) if source is not None and source is not module else None
    return None


def spell(annotation: ast.expr | None) -> str:
    """The annotation as the user would read it."""
    text: Any = ast.unparse(annotation) if annotation is not None else "anything"
    return str(text).replace("'", "")
