"""Values as people write them: durations, sizes, variables, names; pure functions of text."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Annotated, Any, Final, Literal, TypeAlias

import attrs


@attrs.frozen
class Unit:
    """Marks a number that is written as text with a unit: a duration (seconds) or a size (bytes).

    A field ``timeout_seconds: Duration`` is the key ``timeout``, ``body_max_bytes: Size`` is
    ``body_max``.
    """

    of: Literal["duration", "size"]

    @property
    def suffix(self) -> str:
        return "_seconds" if self.of == "duration" else "_bytes"


Duration: TypeAlias = Annotated[float, Unit("duration")]
Size: TypeAlias = Annotated[int, Unit("size")]

# --- Durations and sizes -------------------------------------------------------------------------

_NUMBER: Final = r"[0-9]+(?:\.[0-9]+)?"
_MILLISECONDS: Final = {
    "w": 604_800_000,
    "d": 86_400_000,
    "h": 3_600_000,
    "m": 60_000,
    "s": 1_000,
    "ms": 1,
}
DURATION_PATTERN: Final = "(?!$)" + "".join(f"(?:{_NUMBER}{unit})?" for unit in _MILLISECONDS)
_DURATION_PART: Final = re.compile(rf"({_NUMBER})(ms|[wdhms])")
# A century: nobody means more, and dates that far ahead stay within datetime and timestamptz.
DURATION_MAX_SECONDS: Final = 100 * 365.25 * 86_400

_BYTES: Final = {
    **{f"{prefix}iB": 2 ** (10 * n) for n, prefix in enumerate("KMGT", start=1)},
    **{f"{prefix}B": 10 ** (3 * n) for n, prefix in enumerate("kMGT", start=1)},
    "B": 1,
}
SIZE_PATTERN: Final = rf"{_NUMBER}(?:{'|'.join(_BYTES)})"
_SIZE: Final = re.compile(rf"({_NUMBER})({'|'.join(_BYTES)})")
SIZE_MAX_BYTES: Final = 2**50  # 1 PiB: far above any memory or disk a daemon is given


class Unwanted(ValueError):
    """A value was understood and is not wanted; the text says what is, and never repeats it."""


def duration_seconds(text: str) -> float:
    """Read ``"1h30m"``: whole or decimal numbers, units w, d, h, m, s, ms, largest first.

    Raises: `Unwanted` where the text is anything else, or more than a century.
    """
    if not re.fullmatch(DURATION_PATTERN, text):
        raise Unwanted('wanted a duration such as "30s", "6h" or "1h30m"')
    parts = _DURATION_PART.findall(text)
    milliseconds = sum(Decimal(number) * _MILLISECONDS[unit] for number, unit in parts)
    if milliseconds > Decimal(DURATION_MAX_SECONDS) * 1000:
        raise Unwanted("wanted a duration of less than a century")
    return float(milliseconds / 1000)


def duration_text(seconds: float) -> str:
    """Write seconds as `duration_seconds` reads them back, exactly."""
    left = Decimal(repr(seconds)) * 1000  # repr: the shortest text that is this very float
    parts = []
    for unit, milliseconds in _MILLISECONDS.items():
        if unit in {"w", "ms"}:
            continue
        count, left = divmod(left, milliseconds)
        if count:
            parts.append(f"{count:f}{unit}")
    if left:
        parts.append(f"{left.normalize():f}ms")
    return "".join(parts) or "0s"


def size_bytes(text: str) -> int:
    """Read ``"64MiB"``: a number with B, kB, MB, GB, TB (1000) or KiB, MiB, GiB, TiB (1024).

    Raises: `Unwanted` where the text is anything else, no whole number of bytes, or above 1 PiB.
    """
    match = _SIZE.fullmatch(text)
    if not match:
        raise Unwanted('wanted a size such as "64MiB" or "500kB"')
    count = Decimal(match[1]) * _BYTES[match[2]]
    if count > SIZE_MAX_BYTES:
        raise Unwanted("wanted a size of at most 1024TiB")
    if count != int(count):
        raise Unwanted("wanted a whole number of bytes")
    return int(count)


def size_text(size: int) -> str:
    """Write bytes as `size_bytes` reads them back, in the largest binary unit that is exact."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if size and size % _BYTES[unit] == 0:
            return f"{size // _BYTES[unit]}{unit}"
    return f"{size}B"


# --- Variables -----------------------------------------------------------------------------------

_VARIABLE: Final = re.compile(r"\$\$\{|\$\{([A-Za-z_][A-Za-z0-9_]*)\}|\$\{")


@attrs.frozen
class Interpolated:
    """A text with its variables filled in, and what was met on the way."""

    text: str = attrs.field(repr=False)
    used: tuple[str, ...] = attrs.field(repr=False)  # the values that were filled in
    missing: tuple[str, ...]  # names of variables that are not set
    malformed: bool  # "${" that begins no variable


def interpolate(text: str, environment: Mapping[str, str]) -> Interpolated:
    """Fill in ``${NAME}``; ``$${`` stands for the characters ``${``, a lone ``$`` for itself."""
    used: list[str] = []
    missing: list[str] = []
    malformed = False

    def filled(match: re.Match[str]) -> str:
        nonlocal malformed
        name = match[1]
        if name in environment:
            used.append(environment[name])
            return environment[name]
        if name is not None:
            missing.append(name)
        elif match[0] == "${":
            malformed = True
        return "${"

    result = _VARIABLE.sub(filled, text)
    return Interpolated(result, tuple(used), tuple(dict.fromkeys(missing)), malformed)


# --- Bounds --------------------------------------------------------------------------------------


@attrs.frozen
class Range:
    """A validator: from `least` to `most`, both included; `None` (not set) passes."""

    least: float
    most: float
    least_text: str
    most_text: str

    def __call__(self, _instance: object, _attribute: object, value: float | None) -> None:
        if value is not None and not self.least <= value <= self.most:
            raise Unwanted(f"wanted {self.least_text} to {self.most_text}")


def between(least: float, most: float) -> Range:
    """Bound a number; both ends are allowed."""
    return Range(least, most, str(least), str(most))


def counting(least: int, most: int) -> Callable[[Any, Any, int | None], None]:
    """Bound a count that may be left out; both ends are allowed."""
    return Range(least, most, str(least), str(most))


def lasting(least: str, most: str) -> Range:
    """Bound a `Duration`; both ends are allowed and written as in the file."""
    return Range(duration_seconds(least), duration_seconds(most), least, most)


def sized(least: str, most: str) -> Callable[[Any, Any, int | None], None]:
    """Bound a `Size`; both ends are allowed and written as in the file."""
    return Range(size_bytes(least), size_bytes(most), least, most)


# --- Showing -------------------------------------------------------------------------------------

_BARE_KEY: Final = re.compile(r"[A-Za-z0-9_-]+")
_USERINFO: Final = re.compile(r"(?<=://)\S*@")  # to the last "@": a password may hold anything
_QUERY: Final = re.compile(r"(://[^\s?]*)\?\S*")
_SHOWN_MAX: Final = 60  # characters: enough to find the place, short enough for a line


def dotted(*parts: str) -> str:
    """Join the parts of a key as TOML writes them; a part that is no bare key is quoted."""
    return ".".join(p if _BARE_KEY.fullmatch(p) else _quoted(p) for p in parts)


def _quoted(part: str) -> str:
    return json.dumps(part, ensure_ascii=not part.isprintable())  # no escapes for a terminal


def shown(value: Any) -> str:
    """Describe a value for the operator, on one line; tables and arrays are named, not opened.

    Credentials and query of a URL are left out, even where the field is not a secret's.
    """
    match value:
        case bool():
            return str(value).lower()
        case str():
            text = _QUERY.sub(r"\1?***", _USERINFO.sub("***@", value))
            cut = text if len(text) <= _SHOWN_MAX else text[: _SHOWN_MAX - 3] + "..."
            return repr(cut)
        case float():
            return f"the number {value}"
        case int():  # Python refuses to write one of more than 4300 digits
            return f"the number {value}" if abs(value) < 2**63 else "a huge number"
        case _:
            return sort_of(value)


def sort_of(value: Any) -> str:
    """Name the sort of a TOML value, and nothing of the value itself."""
    match value:
        case bool():
            return "a boolean"
        case str():
            return "text"
        case int() | float():
            return "a number"
        case Mapping():
            return "a table"
        case list():
            return "an array"
        case _:
            return "a date or time"


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Find the known word that was probably meant, whatever its case."""
    words = list(known)
    lower = {w.lower(): w for w in words}
    close = difflib.get_close_matches(word.lower(), lower, n=1)
    return lower[close[0]] if close else None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Suggest the nearest known word, as `` (did you mean 'cars'?)``; empty where none is near."""
    near = nearest(word, known)
    return f" (did you mean {near!r}?)" if near is not None else ""
