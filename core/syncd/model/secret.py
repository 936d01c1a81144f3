"""What must not be seen."""

from __future__ import annotations

import attrs


@attrs.frozen(repr=False)
class Secret:
    """A value that never appears in any output; `reveal` hands it to the client that needs it."""

    _value: str

    def reveal(self) -> str:
        return self._value

    def __repr__(self) -> str:
        return "Secret('***')"

    __str__ = __repr__
