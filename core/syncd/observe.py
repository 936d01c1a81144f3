"""Where events go: one JSON line each, and to whoever listens in this process (progress, tests).

structlog renders, in the sink's thread; what it renders is an `Event` of the closed catalogue in
`syncd.events`. Secrets are redacted by value: what was read as a `Secret` never reaches the stream,
whatever carried it.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, Literal, TextIO

import attrs

from syncd.events import Event, Level, LogDropped
from syncd.model import Secret
from syncd.sink import Render, Sink

Listener = Callable[[Event], None]

_RANK: dict[Level, int] = {"debug": 10, "info": 20, "warning": 30, "error": 40}


# Of one text in a line, in characters: journald cuts lines at 48 KiB (journald.conf, LineMax=), and
# a queue of lines is to stay a few megabytes, whatever an upstream or a plugin says.
TEXT_MAX = 8_000


# Of one owner's tokens: two pairs and more, for a request may be on its way with the one before.
_TOKENS_MAX = 8
_HEAD = 8  # characters by which a token is found; a shorter one protects nothing


class Observer:
    """Hands every event to the log and to the listeners, in the order in which they happen."""

    def __init__(
        self,
        *,
        stream: TextIO | Sink | None = None,
        level: Level = "info",
        format: Literal["json", "text"] = "json",  # noqa: A002  # the word of the configuration
        secrets: Iterable[Secret] = (),
    ) -> None:
        """Write to `stream` (None: nowhere) what is at least of `level`."""
        self._least = _RANK[level]
        self._redact = SecretMask(secrets)
        self._listeners: list[Listener] = []
        self._sink = stream if isinstance(stream, Sink) or stream is None else Sink(stream)
        if self._sink is not None:
            # Not imported before the first line: most commands write none.
            self._lines = _Lines(format, self._redact, colors=self._sink.isatty)
            self._sink.lost = self._lost
        _quiet_libraries()

    def listen(self, listener: Listener) -> None:
        """Hand every event to `listener` too, whatever its level."""
        self._listeners.append(listener)

    def protect(self, secrets: Iterable[Secret]) -> None:
        """Redact these, too: a configuration that was read anew."""
        self._redact.add(secrets)

    def redact(self, text: str) -> str:
        """Take what is protected out of a text."""
        return self._redact.text(text)

    def keep_out(self, owner: str, secrets: Sequence[Secret]) -> None:
        """Redact the tokens of an owner, as they are now and were lately: they change by the hour.

        Called from Trio's thread, while the sink's reads: what it reads is replaced as a whole.
        """
        self._redact.keep_out(owner, secrets)

    def emit(self, event: Event) -> None:
        """Say that something happened."""
        self.tell(event)
        self.log(event)

    def tell(self, event: Event) -> None:
        """Hand an event to the listeners only: in Trio's thread, as they expect it."""
        for listener in self._listeners:
            listener(event)

    def log(self, event: Event) -> None:
        """Log an event only: from any thread, also while Trio's own stands still."""
        if self._sink is not None and _RANK[event.level] >= self._least:
            self._sink.put(self._line(event), level=event.level)

    def flush(self) -> bool:
        """Wait for the log, as `Sink.flush` does; say whether everything is written."""
        return self._sink is None or self._sink.flush()

    @property
    def dropped(self) -> int:
        """Return how many lines of the log were dropped."""
        return 0 if self._sink is None else self._sink.dropped

    def _line(self, event: Event) -> Render:
        return partial(self._lines, cut(event), datetime.now(UTC))

    def _lost(self, count: int) -> Render:
        return self._line(LogDropped(count))


def cut(event: Event) -> Event:
    """Return the event with its texts bounded; nearly always the very same."""
    long = {
        name: f"{text[:TEXT_MAX]}... ({len(text)} characters)"
        for name in type(event).__slots__  # type: ignore[attr-defined]  # of every frozen class
        if isinstance(text := getattr(event, name, None), str) and len(text) > TEXT_MAX
    }
    return attrs.evolve(event, **long) if long else event


class SecretMask:
    """Replaces the values of secrets, wherever they stand in a text."""

    def __init__(self, secrets: Iterable[Secret]) -> None:
        self._values: list[str] = []
        self._tokens: dict[str, tuple[str, ...]] = {}  # by owner, the newest first
        self._heads: dict[str, tuple[str, ...]] = {}  # all of them by how they begin
        self.add(secrets)

    def add(self, secrets: Iterable[Secret]) -> None:
        # A value of one or two characters would blacken half of every line and protects nothing.
        plain = {secret.reveal() for secret in secrets if len(secret.reveal()) > 2}
        quoted = {_in_json(value) for value in plain}
        self._values = sorted(plain | quoted | set(self._values), key=len, reverse=True)

    def keep_out(self, owner: str, secrets: Sequence[Secret]) -> None:
        """Mask the tokens of an owner, too, in place of those that it had before the last ones."""
        had = self._tokens.get(owner, ())
        new = [form for secret in secrets for form in _written(secret) if len(form) >= _HEAD]
        held = tuple(dict.fromkeys([*new, *had]))[:_TOKENS_MAX]
        if held == had:
            return
        self._tokens[owner] = held
        heads = dict(self._heads)
        for token in {*had, *held}:
            others = [each for each in heads.get(token[:_HEAD], ()) if each != token]
            there = [*others, token] if token in held else others
            heads[token[:_HEAD]] = tuple(sorted(there, key=len, reverse=True))
        self._heads = {head: tokens for head, tokens in heads.items() if tokens}

    def text(self, text: str) -> str:
        for value in self._values:
            text = text.replace(value, "***")
        return self._without_tokens(text) if self._heads else text

    def _without_tokens(self, text: str) -> str:
        """Look for tokens by their first characters: there may be thousands of them."""
        heads, at = self._heads, 0
        while at <= len(text) - _HEAD:
            for token in heads.get(text[at : at + _HEAD], ()):
                if text.startswith(token, at):
                    text = f"{text[:at]}***{text[at + len(token) :]}"
                    break
            at += 1
        return text


def _in_json(text: str) -> str:
    """Write a text as it stands inside of JSON."""
    return json.dumps(text, ensure_ascii=False)[1:-1]


def _written(secret: Secret) -> tuple[str, str]:
    return secret.reveal(), _in_json(secret.reveal())


class _Lines:
    """Makes lines of events. Called in the sink's thread alone."""

    def __init__(
        self,
        format: Literal["json", "text"],  # noqa: A002
        redact: SecretMask,
        *,
        colors: bool,
    ) -> None:
        self._format = format
        self._redact = redact
        self._colors = colors
        self._renderer: Any = None

    def __call__(self, event: Event, at: datetime) -> str:
        if self._renderer is None:
            self._renderer = _renderer(self._format, colors=self._colors)
        fields = {
            name: self._redact.text(value) if isinstance(value, str) else value
            for name, value in attrs.asdict(event).items()
        }
        fields["event"] = event.name
        fields["level"] = event.level
        fields["timestamp"] = at.isoformat(timespec="microseconds")
        return str(self._renderer(None, event.level, fields))


def _renderer(format: Literal["json", "text"], *, colors: bool) -> Any:  # noqa: A002
    # Here, since it brings rich along, and most commands write no log.
    import structlog  # noqa: PLC0415

    if format == "json":
        return structlog.processors.JSONRenderer(default=str)
    return structlog.dev.ConsoleRenderer(
        colors=colors, exception_formatter=structlog.dev.plain_traceback
    )


def _quiet_libraries() -> None:
    """Keep libraries from writing beside us: httpx logs whole URLs at INFO."""
    for name in ("httpx", "httpcore", "hypercorn", "psycopg.pool"):
        logging.getLogger(name).setLevel(logging.ERROR)


def stream_of(destination: Literal["stderr", "stdout"]) -> TextIO:
    """Return the stream that the configuration names."""
    return sys.stderr if destination == "stderr" else sys.stdout
