from __future__ import annotations

import pytest

from modelpress.engines.base import Unsupported
from modelpress.engines.precision import NAMES, effective, require_cpu
from modelpress.report.record import PRECISIONS


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ({"bf16": 34}, "bf16"),
        ({"int8": 26, "fp32": 8}, "int8"),
        ({"int8": 4, "fp32": 4}, "int8"),
        ({"int8": 4, "bf16": 5, "fp32": 2}, "mixed"),
        ({}, "fp32"),
    ],
)
def test_effective_is_what_most_layers_run_in(layers: dict[str, int], expected: str) -> None:
    assert effective(layers) == expected


def test_every_name_is_in_the_closed_list() -> None:
    assert set(NAMES.values()) <= set(PRECISIONS)


def test_require_cpu() -> None:
    require_cpu("cpu", "openvino")
    with pytest.raises(Unsupported, match="accelerator is 'cuda'"):
        require_cpu("cuda", "openvino")
