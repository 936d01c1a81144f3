"""What the whole command line says, before any command does something about it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import attrs


@attrs.define
class Invocation:
    """What the global options say, and what must never be printed."""

    file: Path = Path("syncd.toml")
    redact: Callable[[str], str] = str  # takes secrets out of a text, once they are known
