"""A stand-in for an endpoint of a language model: it extracts by patterns, always alike.

It counts what it was asked and what that would have cost, and fails as real ones do where a test
tells it to.
"""

from __future__ import annotations

import math
import re
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any, Literal, TypeAlias

import msgspec

from syncd.testing import Reply
from syncd_front.extraction import numbers_in, order_near, orders_in
from syncd_front.simulator_answers import Call
from syncd_front.simulator_limits import Window

COMPLETIONS = "/chat/completions"
MODELS = "/models"

Fault: TypeAlias = Literal[
    "busy",
    "busy, says not how long",
    "slow down",
    "used up",
    "without credit",
    "overloaded",
    "broken",
    "cut",
    "refusal",
    "filtered",
    "garbled",
    "too long",
    "slow",
    "tells no usage",
]

# Status, code, type, header fields.
_ERRORS: Mapping[str, tuple[int, str, str, Mapping[str, str]]] = {
    "busy": (429, "rate_limit_exceeded", "requests", {"retry-after": "1"}),
    "busy, says not how long": (429, "rate_limit_exceeded", "tokens", {}),
    "slow down": (429, "slow_down", "rate_limit_error", {}),
    "used up": (429, "insufficient_quota", "insufficient_quota", {}),
    "without credit": (429, "credit_balance_exhausted", "billing_error", {}),
    "overloaded": (503, "server_is_overloaded", "service_unavailable_error", {}),
    "broken": (500, "server_error", "server_error", {}),
    "too long": (400, "context_length_exceeded", "invalid_request_error", {}),
}

SLOW_SECONDS = 30.0


class Model:
    """The endpoint. `also`: numbers that it names in every answer, right or wrong.

    `copies_badly`: it names each number cut, with another digit, and with the word behind it.
    `tells_limits`: as OpenAI does, and other endpoints do not.

    `faults` are what the next calls end with, `faulty` what those end with whose text says so.
    """

    def __init__(
        self,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        key: str = "sk-demo",
        model: str = "gpt-4o-mini",
        requests: int | None = None,
        tokens: int | None = None,
        also: Sequence[str] = (),
        copies_badly: bool = False,
        tells_limits: bool = True,
        seconds: float = 0.0,
    ) -> None:
        self.calls = 0  # that were answered by the model, and so are paid for
        self.tokens = 0
        self.asked: Counter[str] = Counter()  # how often each text was paid for
        self.faults: deque[Fault] = deque()
        self.faulty: dict[str, Fault] = {}
        self.also = also
        self.reserved = 0  # tokens that counted against the limit, be they used or not
        self.refused = 0  # for a limit that a caller did not keep to
        self._copies_badly = copies_badly
        self._tells_limits = tells_limits
        self._now = now
        self._key = key
        self._model = model
        self._requests = None if requests is None else Window(requests, 60.0)
        self._tokens = None if tokens is None else Window(tokens, 60.0)
        self._seconds = seconds

    def answer(self, call: Call) -> Reply:
        """Answer one request."""
        if call.headers.get("authorization") != f"Bearer {self._key}":
            return self._failed(401, "invalid_api_key", "invalid_request_error")
        if call.path == MODELS:
            return self._reply(200, {"object": "list", "data": [{"id": self._model}]})
        if call.path != COMPLETIONS or call.method != "POST":
            return self._failed(404, "not_found", "invalid_request_error")
        body = msgspec.json.decode(call.body)
        if body["model"] != self._model:
            return self._failed(404, "model_not_found", "invalid_request_error")
        if not _is_strict(body["response_format"]["json_schema"]):
            return self._failed(400, "invalid_schema", "invalid_request_error")
        return self._completed(body)

    def _completed(self, body: Any) -> Reply:
        text = body["messages"][-1]["content"]
        prompt = math.ceil(sum(len(each["content"]) for each in body["messages"]) / 4)
        busy = self._admit(prompt + body["max_completion_tokens"])
        if busy is not None:
            return busy
        fault = self._fault(text)
        if fault is not None and fault in _ERRORS:
            status, code, kind, fields = _ERRORS[fault]
            return self._failed(status, code, kind, fields)
        self.calls += 1
        self.asked[text] += 1
        content = msgspec.json.encode({"shipments": self._extracted(text)}).decode()
        used = math.ceil(len(content) / 4)
        cut = used > body["max_completion_tokens"] or fault == "cut"
        if cut:
            content, used = content[: len(content) // 2], body["max_completion_tokens"]
        if fault == "garbled":
            content = '{"shipments": [{"number": 7}]}'
        self.tokens += prompt + used
        refusal = "I cannot help with that." if fault == "refusal" else None
        reason = "length" if cut else "content_filter" if fault == "filtered" else "stop"
        hidden = refusal is not None or fault == "filtered"
        message = {"role": "assistant", "refusal": refusal, "content": None if hidden else content}
        seconds = SLOW_SECONDS if fault == "slow" else self._seconds
        return self._reply(
            200,
            {
                "id": f"chatcmpl-{self.calls}",
                "object": "chat.completion",
                "created": int(self._at),
                "model": f"{self._model}-2024-07-18",
                "choices": [
                    {"index": 0, "logprobs": None, "finish_reason": reason, "message": message}
                ],
                "usage": None if fault == "tells no usage" else _usage(prompt, used),
            },
            seconds=seconds,
        )

    def _fault(self, text: str) -> Fault | None:
        if self.faults:
            return self.faults.popleft()
        return next((fault for word, fault in self.faulty.items() if word in text), None)

    def _extracted(self, text: str) -> list[dict[str, Any]]:
        orders = orders_in(text)
        named = [(each.number, each.form.carrier, each.at) for each in numbers_in(text)]
        if self._copies_badly:
            named = [(number, "other", at) for number, at in _bad_copies(text)]
        named += [(number, "ups", len(text)) for number in self.also]
        return [
            {
                "tracking_number": number,
                "carrier": carrier,
                "po_number": order_near(orders, at),
                "shipped_date": None,
                "estimated_delivery": None,
                "origin": None,
                "destination": None,
                "confidence": 0.98,
            }
            for number, carrier, at in named
        ]

    # --- Limits -----------------------------------------------------------------------------------

    def _admit(self, tokens: int) -> Reply | None:
        now = self._at
        if self._requests is not None and not self._requests.room(now):
            return self._busy("requests", self._requests.frees_in(now))
        if self._tokens is not None and not self._tokens.room(now, tokens):
            return self._busy("tokens", self._tokens.frees_in(now))
        if self._requests is not None:
            self._requests.take(now)
        if self._tokens is not None:
            self._tokens.take(now, tokens)
        self.reserved += tokens
        return None

    def _busy(self, kind: str, seconds: float) -> Reply:
        self.refused += 1
        fields = {"retry-after": str(max(math.ceil(seconds), 1))}
        return self._failed(429, "rate_limit_exceeded", kind, fields)

    def _limits(self) -> Mapping[str, str]:
        now, fields = self._at, {}
        for unit, window in (("requests", self._requests), ("tokens", self._tokens)):
            if window is not None and self._tells_limits:
                fields[f"x-ratelimit-limit-{unit}"] = str(window.most)
                fields[f"x-ratelimit-remaining-{unit}"] = str(window.most - window.used(now))
                fields[f"x-ratelimit-reset-{unit}"] = _go(window.frees_in(now))
        return fields

    @property
    def _at(self) -> float:
        return self._now().timestamp()

    # --- Writing ----------------------------------------------------------------------------------

    def _failed(
        self, status: int, code: str, kind: str, fields: Mapping[str, str] | None = None
    ) -> Reply:
        said = code.replace("_", " ").capitalize()
        error = {"message": said, "type": kind, "param": None, "code": code}
        return self._reply(status, {"error": error}, fields)

    def _reply(
        self,
        status: int,
        value: Any,
        fields: Mapping[str, str] | None = None,
        *,
        seconds: float = 0.0,
    ) -> Reply:
        now = self._now().astimezone(UTC)
        headers = {
            "content-type": "application/json",
            "date": format_datetime(now, usegmt=True),
            "x-request-id": f"req-{self.calls}",
            **self._limits(),
            **(fields or {}),
        }
        return Reply(status, msgspec.json.encode(value), headers, seconds)


def _usage(prompt: int, used: int) -> Mapping[str, int]:
    return {"prompt_tokens": prompt, "completion_tokens": used, "total_tokens": prompt + used}


_COPIED = re.compile(r"(?P<number>(?=\w*\d)[0-9A-Z]{8,})(?:\s+(?P<after>[A-Za-z]+))?")


def _bad_copies(text: str) -> list[tuple[str, int]]:
    """Return long words with a digit, cut at either end, misread, and joined to what follows."""
    copies: list[tuple[str, int]] = []
    for match in _COPIED.finditer(text):
        number, at = match["number"], match.start()
        misread = f"{number[:-1]}{'1' if number[-1] == '0' else '0'}"
        bad = [number[:-3], number[3:], misread, f"{number}{(match['after'] or 'X').upper()}"]
        copies += [(each, at) for each in bad]
    return copies


def _is_strict(schema: Any) -> bool:
    """Say whether a schema keeps to what `strict` demands: all keys required, and no others."""

    def strict(value: Any) -> bool:
        if value.get("type") == "object":
            properties = value.get("properties", {})
            own = value.get("additionalProperties") is False
            return (
                own
                and set(value.get("required", ())) == set(properties)
                and all(strict(each) for each in properties.values())
            )
        return strict(value["items"]) if value.get("type") == "array" else True

    return bool(schema.get("strict")) and strict(schema["schema"])


def _go(seconds: float) -> str:
    """Write a duration as Go does: 120ms, 1s, 6m0s."""
    if seconds < 1.0:
        return f"{int(seconds * 1000)}ms"
    minutes, rest = divmod(math.ceil(seconds), 60)
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"
