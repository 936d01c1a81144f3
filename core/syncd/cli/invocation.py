"""What the whole command line says, before any command does something about it."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import attrs
import click

T = TypeVar("T")


@attrs.define
class Invocation:
    """What the global options say, and what must never be printed."""

    file: Path = Path("syncd.toml")
    redact: Callable[[str], str] = str  # takes secrets out of a text, once they are known

    @property
    def width(self) -> int | None:
        """Return how wide tables may be; whoever reads from a pipe gets them whole."""
        return shutil.get_terminal_size().columns if sys.stdout.isatty() else None

    def print(self, text: str, *, err: bool = False) -> None:
        click.echo(self.redact(text), err=err)

    def print_rows(
        self,
        rows: Sequence[T],
        *,
        as_json: bool,
        table: Callable[..., str],
        none: str,
        json: Callable[[Sequence[T]], Any] = list,
    ) -> None:
        """Print rows as JSON or as a table; `none` is said where there is not one."""
        if as_json:
            self.print_json(json(rows))
        elif rows:
            self.print(table(rows, width=self.width))
        else:
            self.print(none)

    def print_json(self, value: Any) -> None:
        import msgspec  # noqa: PLC0415  # `--help` does without

        text = msgspec.json.encode(value).decode()
        self.print(msgspec.json.format(text, indent=2))
