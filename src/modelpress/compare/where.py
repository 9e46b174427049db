"""Conditions such as ``engine=openvino``, ``metric>0.8`` or ``precision!=fp32``. Pure."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from modelpress.compare.columns import IDENTITY, OF_RUN, resolve, row_columns
from modelpress.compare.overrides import Value, as_number, spelled
from modelpress.errors import ModelPressError

FORM = re.compile(r"\s*([^=!<>\s]+)\s*(>=|<=|!=|==|=|<|>)\s*(.*?)\s*")
ORDERS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


@dataclass(frozen=True)
class Condition:
    """``wanted``: the texts of which one must be equal (``=``), none (``!=``), or the one number to compare with."""

    column: str
    sign: str
    wanted: tuple[str, ...]

    def holds(self, values: Mapping[str, Value]) -> bool:
        """Whether ``values`` fulfil it. What was not measured is neither below nor above anything."""
        value = values.get(self.column)
        if self.sign in ORDERS:
            number, bound = as_number(value), as_number(self.wanted[0])
            return number is not None and bound is not None and ORDERS[self.sign](number, bound)
        same = any(_equal(value, text) for text in self.wanted)
        return same if self.sign == "=" else not same


def parse(text: str, names: Sequence[str]) -> Condition:
    """Read one condition; ``names`` are the known columns.

    >>> parse("engine=openvino,onnxruntime", ["engine"])
    Condition(column='engine', sign='=', wanted=('openvino', 'onnxruntime'))
    """
    found = FORM.fullmatch(text)
    if found is None:
        raise ModelPressError(
            f"--where is {text!r}; write column=value, or !=, <, <=, >, >= in place of the =, e.g. 'engine=openvino' "
            "'metric>0.8'. Folders come before --where."
        )
    given, sign, wanted = found.groups()
    column = resolve(given, names, f"--where {text}: the column")
    if sign in ORDERS and as_number(wanted) is None:
        raise ModelPressError(
            f"--where {text}: {sign} compares numbers, and {wanted!r} is none. Write e.g. {given}{sign}2."
        )
    texts = (wanted,) if sign in ORDERS or wanted.startswith("[") else tuple(wanted.split(","))
    return Condition(column, "=" if sign == "==" else sign, texts)


def stages(conditions: Sequence[Condition]) -> tuple[list[Condition], list[Condition], list[Condition]]:
    """Conditions on the run (its facts and overrides), on which row, and on what was measured.

    The last judge a whole line: asking one seed at a time for ``metric>0.8`` would keep the lucky ones.
    """
    measured = set(row_columns()) - set(IDENTITY)
    of_run, of_row, of_line = [], [], []
    for condition in conditions:
        name = condition.column
        if name in IDENTITY:
            of_row.append(condition)
        elif name not in OF_RUN and (name in measured or name.startswith("metrics.")):
            of_line.append(condition)
        else:
            of_run.append(condition)
    return of_run, of_row, of_line


def _equal(value: Value, text: str) -> bool:
    number, wanted = as_number(value), as_number(text)
    if number is not None and wanted is not None:
        return number == wanted
    return spelled(value).lower() == text.lower()
