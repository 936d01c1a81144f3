"""What an operator points at: partitions, records that were set aside, effects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs


def pattern_of(glob: str | None) -> str:
    r"""Return what LIKE compares with: `*` stands for any text, `?` for one character."""
    if glob is None:
        return "%"
    literal = glob.replace("\\", r"\\").replace("%", r"\%").replace("_", r"\_")
    return literal.replace("*", "%").replace("?", "_")


@attrs.frozen
class Selection:
    """Partitions whose names fit; what is `None` fits all, and a slice of ``""`` the whole feed."""

    instance: str | None = None
    account: str | None = None
    feed: str | None = None
    slice: str | None = None

    def parameters(self) -> dict[str, Any]:
        return {name: pattern_of(glob) for name, glob in attrs.asdict(self).items()}

    def __str__(self) -> str:
        """Return it as it is typed."""
        given = {name: glob for name, glob in attrs.asdict(self).items() if glob is not None}
        return " ".join(f"--{name} {glob!r}" for name, glob in given.items()) or "everything"


@attrs.frozen
class Aside:
    """Records in quarantine whose places and reasons fit; `ids` narrows the choice to these."""

    instance: str | None = None
    account: str | None = None
    stream: str | None = None
    reason: str | None = None
    ids: Sequence[int] = ()

    def parameters(self) -> dict[str, Any]:
        names = {
            name: pattern_of(getattr(self, name))
            for name in ("instance", "account", "stream", "reason")
        }
        return {**names, "ids": list(self.ids) or None}


@attrs.frozen
class Outgoing:
    """Effects whose addressees, kinds, keys and states fit; `ids` narrows the choice to these."""

    instance: str | None = None
    account: str | None = None
    kind: str | None = None
    key: str | None = None
    states: Sequence[str] = ()
    ids: Sequence[int] = ()

    def parameters(self) -> dict[str, Any]:
        names = {
            name: pattern_of(getattr(self, name)) for name in ("instance", "account", "kind", "key")
        }
        return {**names, "states": list(self.states) or None, "ids": list(self.ids) or None}
