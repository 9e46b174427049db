"""run.py with a clock: ``python -m bench.first_step FILE …`` writes when jobs and their first training steps began.

One JSON list of ``[what, seconds since the process started]`` with ``job`` and ``step``; bench.sweep reads it.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import psutil


class Clock:
    """Notes moments and writes them at once, so that nothing is lost if the process dies."""

    def __init__(self, file: Path) -> None:
        self.file, self.moments, self.stepped = file, list[tuple[str, float]](), True

    def note(self, what: str) -> None:
        self.moments.append((what, time.time() - psutil.Process().create_time()))
        self.file.write_text(json.dumps(self.moments))

    def job(self, run: Any) -> Any:
        """Hydra's task function, noted."""

        def noted(cfg: Any) -> Any:
            self.note("job")
            self.stepped = False
            self._watch()
            return run(cfg)

        return noted

    def _watch(self) -> None:
        """Note the first training step of the job; the import is part of what a job costs."""
        from modelpress.technique import Technique

        step = Technique.training_step
        if getattr(step, "noted", False):
            return

        def noted(technique: Any, *arguments: Any) -> Any:
            if not self.stepped:
                self.stepped = True
                self.note("step")
            return step(technique, *arguments)

        noted.noted = True  # type: ignore[attr-defined]
        Technique.training_step = noted  # type: ignore[method-assign]


def main() -> int:
    """Run the command behind FILE."""
    from modelpress import launch

    clock = Clock(Path(sys.argv.pop(1)))
    launch.job = clock.job(launch.job)
    return int(launch.main(program="python run.py") or 0)


if __name__ == "__main__":
    sys.exit(main())
