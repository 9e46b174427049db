"""``python -m modelpress`` is the ``modelpress`` command."""

from __future__ import annotations

import sys

from modelpress.cli import main

if __name__ == "__main__":
    sys.exit(main())
