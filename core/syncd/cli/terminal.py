"""A terminal: the live table at its foot, and lines above it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console, RenderableType
from rich.live import Live
from rich.text import Text

from syncd.cli.board import Board
from syncd.cli.drawing import drawn
from syncd.events import Level

REFRESHES_PER_SECOND = 4  # of the table: its numbers change once a second

_STYLES: dict[Level, str] = {"warning": "yellow", "error": "red"}


class Terminal:
    """Writes to standard error, or to a console of rich's."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True, highlight=False)

    @contextmanager
    def showing(self, board: Callable[[], Board]) -> Iterator[None]:
        """Show the live table of what `board` returns while the block runs."""

        def draw() -> RenderableType:
            # Half of the terminal: above the table there must be room for what goes wrong.
            return drawn(board(), rows_max=max(1, self._console.height // 2))

        with Live(
            console=self._console,
            get_renderable=draw,
            refresh_per_second=REFRESHES_PER_SECOND,
            transient=True,  # the summary says it all once more
        ):
            yield

    def write(self, line: str, level: Level) -> None:
        """Write a line above the table."""
        self._console.print(Text(line, style=_STYLES.get(level, "")))
