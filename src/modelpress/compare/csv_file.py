"""The comparison as a csv file: every column that any line has, full precision, one line per line of the table."""

from __future__ import annotations

import csv
import io

from modelpress.compare.overrides import Value
from modelpress.compare.table import Comparison


def render(comparison: Comparison) -> str:
    """Text of the file. ``<column>_sd`` holds the spread over seeds; an empty cell was not measured."""
    keys = list(dict.fromkeys(key for line in comparison.lines for key in line.values))
    spreads = [key for key in keys if any(key in line.spreads for line in comparison.lines)]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["front", "seeds", *keys, *(f"{key}_sd" for key in spreads), "reason"])
    for line in comparison.lines:
        values = [_plain(line.values.get(key)) for key in keys]
        sds = [_plain(line.spreads.get(key)) for key in spreads]
        writer.writerow([int(line.front), len(line.runs), *values, *sds, line.runs[0].reason if not line.rows else ""])
    return text.getvalue()


def _plain(value: Value) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else repr(value) if isinstance(value, float) else str(value)
