"""Slices as plugins name them: which can be kept, and told apart. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from syncd.errors import PluginError, sayable
from syncd.model import Slice
from syncd.nodes import holds_nul

NAME_MAX_BYTES = 512  # it stands in keys of the control tables, whose indexes take 2.7 kB
SETTINGS_MAX_BYTES = 64 * 1024  # as JSON; they are read with each look for work


def distinct(slices: Sequence[Slice], where: str) -> list[Slice]:
    """Return slices, each once.

    Raises: `PluginError` for one that the control tables cannot hold, and for two of one name.
    """
    known: dict[str, Slice] = {}
    for each in slices:
        if (fault := _fault(each)) is not None:
            shown = sayable(f"{each.name!r:.80}")
            raise PluginError(where, f"slice {shown}: {fault}", "mend the plugin")
        if known.setdefault(each.name, each) != each:
            said = f"there are two slices {each.name!r}, and they differ"
            raise PluginError(where, said, "mend the plugin")
    return list(known.values())


def _fault(each: Slice) -> str | None:
    if not isinstance(each.name, str):
        return f"its name is {type(each.name).__name__}, not a text"
    if each.name != sayable(each.name):
        return "its name holds what no database keeps"
    if len(each.name.encode()) > NAME_MAX_BYTES:
        return f"its name is longer than {NAME_MAX_BYTES} bytes"
    if not isinstance(each.settings, Mapping):
        return f"its settings are {type(each.settings).__name__}, not names and values"
    try:
        said = msgspec.json.encode(dict(each.settings))
    except (msgspec.MsgspecError, TypeError, ValueError, RecursionError) as error:
        return f"its settings are no JSON: {error}"
    if len(said) > SETTINGS_MAX_BYTES:
        return f"its settings are larger than {SETTINGS_MAX_BYTES} bytes"
    return "its settings hold NUL, which jsonb has not" if holds_nul(said) else None
