"""One reading of a configuration: what it may look at, and everything that it found wrong."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import quote

import attrs

from syncd.config.files import SECRET_MAX_BYTES, content
from syncd.config.values import Unwanted, interpolate, shown, sort_of
from syncd.errors import Problem
from syncd.model import Secret


class _Invalid(enum.Enum):
    INVALID = "invalid"


Invalid = Literal[_Invalid.INVALID]
INVALID: Final = _Invalid.INVALID  # in the place of a value whose problem is already listed


@attrs.define
class Reading:
    """Collects problems and warnings, so that all of them are reported at once.

    Problems show values as they are written in the file, so that what came out of a variable or
    a secret is never shown; messages of foreign code are withheld where they repeat such a value.

    `literal`: values stand for themselves, since they come from elsewhere than the file: whoever
    may write them is not to read this process's variables, or files, through them.
    """

    folder: Path
    environment: Mapping[str, str] = attrs.field(repr=False)
    literal: bool = attrs.field(default=False, kw_only=True)
    problems: list[Problem] = attrs.field(factory=list)
    warnings: list[str] = attrs.field(factory=list)
    inline_secrets: list[str] = attrs.field(factory=list)  # keys of secrets that stand in the file
    _sensitive: set[str] = attrs.field(factory=set, repr=False)

    def problem(self, key: str, what: str) -> Invalid:
        self.problems.append(Problem(key, what))
        return INVALID

    def unwanted(self, key: str, value: Any, wanted: str) -> Invalid:
        return self.problem(key, f"found {shown(value)}, {wanted}")

    def text(self, value: str, key: str) -> str | Invalid:
        """Fill in the variables of a text; each one that is missing is a problem."""
        if self.literal:
            return self.problem(key, "a NUL character in it") if "\0" in value else value
        done = interpolate(value, self.environment)
        self._sensitive.update(filter(None, done.used))
        if done.malformed:
            self.problem(key, "'${' begins no variable; write ${NAME}, or $${ for the characters")
        for name in done.missing:
            self.problem(key, f"the environment variable {name} is not set")
        if not _encodable(done.text):
            self.problem(key, "a variable in it is not UTF-8")
        elif not done.malformed and not done.missing:
            return done.text
        return INVALID

    def secret(self, value: Any, key: str) -> Secret | Invalid:
        """Read a secret: a text, or ``{ file = "path" }``; its value is never shown."""
        match value:
            case str():
                text = self.text(value, key)
                if not self.literal and not interpolate(value, {}).missing:  # it names no variable
                    self.inline_secrets.append(key)
            case {"file": str(file), **rest} if not rest and not self.literal:
                text = self._secret_file(file, f"{key}.file")
            case _:
                wanted = "wanted text" if self.literal else 'wanted text or { file = "path" }'
                return self.problem(key, f"found {sort_of(value)}, {wanted}")
        if text is INVALID:
            return INVALID
        self._sensitive.add(text)
        if not text.strip():
            return self.problem(key, "the secret is empty")
        return Secret(text)

    def _secret_file(self, file: str, key: str) -> str | Invalid:
        path = self.path(file, key)
        if path is INVALID:
            return INVALID
        try:
            found = content(path, most_bytes=SECRET_MAX_BYTES)
            text = found.data.decode()
        except (OSError, ValueError) as exc:  # ValueError: not UTF-8, or a NUL in the path
            why = (exc.strerror or "").lower() if isinstance(exc, OSError) else "not UTF-8 text"
            return self.problem(key, f"the secret's file {shown(file)} cannot be read: {why}")
        if found.world_readable:
            self.warnings.append(
                f"{key}: every user may read the secret's file {shown(file)}; chmod 600 it"
            )
        return text[:-2] if text.endswith("\r\n") else text.removesuffix("\n")

    def path(self, value: str, key: str) -> Path | Invalid:
        """Place a path relative to the file's folder."""
        text = self.text(value, key)
        if text is INVALID:
            return INVALID
        if not text or "\0" in text:
            return self.unwanted(key, value, "wanted a path")
        if text.startswith("~"):
            return self.unwanted(key, value, "'~' is not expanded; write ${HOME}")
        return self.folder / text

    def foreign(self, call: Callable[[], Any], key: str, *, found: str = "") -> Any | Invalid:
        """Call a settings class's own code; what it refuses becomes a problem of `key`.

        `found` tells what stands in the file, where that may be shown.

        Any exception counts: a plugin's validator is foreign code, whose fault must be named like
        every other problem, and whose traceback could carry a secret.
        """
        try:
            return call()
        except Unwanted as exc:
            what = f"found {found}, {exc}" if found else str(exc)
        except Exception as exc:  # noqa: BLE001 - foreign code, see above
            # attrs puts the message first, and the attribute and the value behind it
            said = str(exc.args[0]) if exc.args else ""
            kind = "" if isinstance(exc, ValueError | TypeError) else f"{type(exc).__name__}: "
            what = f"refused: {kind}{said or type(exc).__name__}"
            if self._repeats_a_secret(what):
                what = "refused (the reason is withheld: it repeats a secret or a variable)"
        return self.problem(key, what)

    def _repeats_a_secret(self, message: str) -> bool:
        forms = (form for s in self._sensitive for form in (s, repr(s)[1:-1], quote(s, safe="")))
        return any(form and form in message for form in forms)


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # a variable of bytes that are not UTF-8
        return False
    return True
