"""A progress bar that is redrawn between measurements only: a redrawing thread would disturb them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType


class Steps:
    """Kinds of steps with their expected seconds -> one bar with the time that is left."""

    def __init__(self, expected: Mapping[str, tuple[int, float]]) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        console = Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TextColumn("left"))
        self._seconds = {kind: seconds for kind, (_, seconds) in expected.items()}
        self._bar = Progress(
            *columns,
            TimeRemainingColumn(),
            console=console,
            auto_refresh=False,
            transient=True,
            disable=not console.is_terminal,
        )
        total = sum(count * seconds for count, seconds in expected.values())
        self._task = self._bar.add_task("benchmark", total=total)

    def __enter__(self) -> Steps:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    @contextmanager
    def step(self, kind: str, text: str) -> Iterator[None]:
        """Show ``text`` while the body runs, then move on by the expected seconds of its kind."""
        self._bar.update(self._task, description=text, refresh=True)
        yield
        self._bar.update(self._task, advance=self._seconds[kind])
