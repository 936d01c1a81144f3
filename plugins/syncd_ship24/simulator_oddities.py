"""What the simulated upstream does that is allowed, or happens, and is rare: off until switched on.

Public sources call only an item's status and input required, list codes as examples, and differ on
whether a quota's end is told of the whole or of each item.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import attrs

NEVER_SECONDS = math.inf


@attrs.define
class Oddities:
    """What is odd by now; each may be changed at any time.

    `bare`: items of a bulk say their status and input, and nothing more. `codes`: by tracking
    number, the error that its item is. `quota_by_item`: a quota at its end is said of each item,
    inside a 207. `inputs`: by tracking number, what stands in place of the input. `pages`: statuses
    of the next calls, each answered by an HTML page. `silent`: so many calls are carried out and
    never answered. `ahead`: by how much messages say to have been generated too late. `pod`: a
    message of the topic ``tracking/pod`` follows a parcel's arrival; what it holds is not
    documented, and here it holds no event.
    """

    bare: bool = False
    codes: dict[str, str] = attrs.field(factory=dict)
    quota_by_item: bool = False
    inputs: dict[str, Any] = attrs.field(factory=dict)
    pages: deque[int] = attrs.field(factory=deque)
    silent: int = 0
    ahead: timedelta = timedelta()
    pod: bool = False

    def seconds(self, seconds: float) -> float:
        """Return for how long the next answer is on its way."""
        if self.silent:
            self.silent -= 1
            return NEVER_SECONDS
        return seconds

    def code(self, number: Any) -> str:
        """Return the code of the error that an item is; empty where it is none."""
        return self.codes.get(number, "") if isinstance(number, str) else ""

    def item(self, said: Mapping[str, Any], number: Any) -> dict[str, Any]:
        """Return an item as it is told."""
        kept = {"itemStatus", "inputData"} if self.bare else said.keys()
        told = {name: value for name, value in said.items() if name in kept}
        if isinstance(number, str) and number in self.inputs:
            told["inputData"] = self.inputs[number]
        return told
