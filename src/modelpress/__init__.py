"""ModelPress: distil, prune, quantize and press networks into engines, and say whether it paid.

Importing this package pulls no heavy library; ``modelpress.compress`` is resolved on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from modelpress.api import compress as compress

__version__ = "0.1.0"
__all__ = ["__version__", "compress"]


def __getattr__(name: str) -> Any:
    if name == "compress":
        from modelpress.api import compress

        return compress
    raise AttributeError(f"module 'modelpress' has no attribute {name!r}")
