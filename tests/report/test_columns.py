"""Columns that only some reports have."""

from __future__ import annotations

import copy

from modelpress.report.columns import columns
from modelpress.report.record import Report


def test_compressed_size_is_shown_where_a_row_is_sparse(report: Report) -> None:
    assert "compressed_mb" not in {column.key for column in columns(report)}
    sparse = copy.deepcopy(report)
    sparse.rows[-1].sparsity = 0.7
    sparse.rows[-1].details["compressed_mb"] = 31.26
    (shown,) = (column for column in columns(sparse) if column.key == "compressed_mb")
    assert shown.text(sparse.rows[-1]) == "31.3"
    assert shown.text(sparse.rows[0]) is None
