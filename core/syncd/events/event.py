"""What every event is."""

from __future__ import annotations

from typing import ClassVar, Literal

import attrs

Level = Literal["debug", "info", "warning", "error"]


@attrs.frozen
class Event:
    """One thing that happened."""

    name: ClassVar[str]
    level: ClassVar[Level] = "info"
