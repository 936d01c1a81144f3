"""Where events go: one JSON line each, and to whoever listens in this process (progress, tests).

structlog renders; what it renders is an `Event` of the closed catalogue in `syncd.events`. Secrets
are redacted by value: what was read as a `Secret` never reaches the stream, whatever carried it.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, TextIO

import attrs

from syncd.events import Event, Level
from syncd.model import Secret

if TYPE_CHECKING:
    import structlog

Listener = Callable[[Event], None]

_RANK: dict[Level, int] = {"debug": 10, "info": 20, "warning": 30, "error": 40}


class Observer:
    """Hands every event to the log and to the listeners, in the order in which they happen."""

    def __init__(
        self,
        *,
        stream: TextIO | None = None,
        level: Level = "info",
        format: Literal["json", "text"] = "json",  # noqa: A002  # the word of the configuration
        secrets: Iterable[Secret] = (),
    ) -> None:
        """Write to `stream` (None: nowhere) what is at least of `level`."""
        self._least = _RANK[level]
        self._listeners: list[Listener] = []
        self._redact = Redaction(secrets)
        self._log = None if stream is None else _logger(stream, format, self._redact)
        _quiet_libraries()

    def listen(self, listener: Listener) -> None:
        """Hand every event to `listener` too, whatever its level."""
        self._listeners.append(listener)

    def protect(self, secrets: Iterable[Secret]) -> None:
        """Redact these, too: a configuration that was read anew."""
        self._redact.add(secrets)

    def emit(self, event: Event) -> None:
        """Say that something happened."""
        for listener in self._listeners:
            listener(event)
        if self._log is not None and _RANK[event.level] >= self._least:
            fields = attrs.asdict(event)
            getattr(self._log, event.level)(event.name, **fields)


class Redaction:
    """Replaces the values of secrets, wherever they stand in a text."""

    def __init__(self, secrets: Iterable[Secret]) -> None:
        self._values: list[str] = []
        self.add(secrets)

    def add(self, secrets: Iterable[Secret]) -> None:
        # A value of one or two characters would blacken half of every line and protects nothing.
        plain = {secret.reveal() for secret in secrets if len(secret.reveal()) > 2}
        quoted = {json.dumps(value, ensure_ascii=False)[1:-1] for value in plain}  # inside of JSON
        self._values = sorted(plain | quoted | set(self._values), key=len, reverse=True)

    def text(self, text: str) -> str:
        for value in self._values:
            text = text.replace(value, "***")
        return text

    def __call__(self, _: Any, __: str, fields: structlog.typing.EventDict) -> Any:
        for name, value in fields.items():
            if isinstance(value, str):
                fields[name] = self.text(value)
        return fields


def _stamp(_: Any, __: str, fields: structlog.typing.EventDict) -> structlog.typing.EventDict:
    fields["timestamp"] = datetime.now(UTC).isoformat(timespec="microseconds")
    return fields


def _logger(stream: TextIO, format: Literal["json", "text"], redact: Redaction) -> Any:  # noqa: A002
    # Here, since it brings rich along, and most commands write no log.
    import structlog  # noqa: PLC0415

    render: Any
    if format == "json":
        render = structlog.processors.JSONRenderer(default=str)
    else:
        render = structlog.dev.ConsoleRenderer(
            colors=stream.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    return structlog.wrap_logger(
        structlog.PrintLogger(stream),
        processors=[structlog.processors.add_log_level, _stamp, redact, render],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG),
    )


def _quiet_libraries() -> None:
    """Keep libraries from writing beside us: httpx logs whole URLs at INFO."""
    for name in ("httpx", "httpcore", "hypercorn", "psycopg.pool"):
        logging.getLogger(name).setLevel(logging.ERROR)


def stream_of(destination: Literal["stderr", "stdout"]) -> TextIO:
    """Return the stream that the configuration names."""
    return sys.stderr if destination == "stderr" else sys.stdout
