"""A stand-in for AuctionsAPI (the classic car feed), served over real HTTP.

It keeps to what public sources tell of that API: pages of `/cars`, `/archived-lots` and
`/manufacturers/cars` in Laravel's shape, a key in `x-api-key`, a rate limit. Beyond that it moves
(cars change, are inserted at the head, are archived), misbehaves where a test tells it to, and
counts. It can be a process of its own:

    python -m syncd_cars.simulator --port 0 --cars 190000 --api-key demo --rate 50
"""

from __future__ import annotations

import hmac
import time
from collections.abc import Callable
from email.utils import format_datetime

from starlette.types import Receive, Scope, Send

from syncd_cars import simulator_pages as pages
from syncd_cars.inventory import Inventory, Slice
from syncd_cars.simulator_answers import Reply, misbehave, status_of, until_gone
from syncd_cars.simulator_control import PREFIX, Control
from syncd_cars.simulator_counts import Counts, PageKey, TokenBucket
from syncd_cars.simulator_faults import ArmedFault, Fault, FaultKind, FaultScript
from syncd_cars.simulator_pages import Question, Refusal

__all__ = ["ArmedFault", "Fault", "FaultKind", "Inventory", "Simulator"]


class Simulator:
    """An ASGI application that answers for the upstream.

    `rate` and `burst` are the token bucket's (None admits all), `clock` its monotonic seconds.
    `public_url` begins the links in pages; left empty, whoever serves the simulator sets it.
    `control` opens `/_simulator/...` to those who have the key. `seed` decides whether the first
    429 carries `Retry-After` (the even ones do); they alternate.
    """

    def __init__(
        self,
        inventory: Inventory,
        *,
        api_key: str,
        rate: float | None = None,
        burst: int = 1,
        seed: int = 0,
        public_url: str = "",
        next_keeps_query: bool = False,
        control: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.inventory = inventory
        self.counts = Counts(clock)
        self.faults = FaultScript()
        self.public_url = public_url
        self._key = api_key.encode()
        self._bucket = TokenBucket(rate, burst, clock)
        self._next_keeps_query = next_keeps_query
        self._refusals = seed
        self._control = Control(inventory, self.counts, self.faults) if control else None

    def arm(self, fault: Fault) -> ArmedFault:
        """Let `fault` happen; the answer counts how often it did."""
        return self.faults.arm(fault)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request (ASGI)."""
        if scope["type"] == "lifespan":
            await _live(receive, send)
            return
        if scope["type"] != "http":
            return
        reply = Reply(send, date=format_datetime(self.inventory.now(), usegmt=True))
        if self._control and scope["path"].startswith(PREFIX):
            await self._steer(self._control, scope, receive, reply)
            return
        with self.counts.request():
            await self._answer(scope, receive, reply)

    async def _steer(self, control: Control, scope: Scope, receive: Receive, reply: Reply) -> None:
        if not self._has_key(scope):
            await reply.whole(401, pages.UNAUTHENTICATED.body())
            return
        name = scope["path"].removeprefix(PREFIX)
        query = scope["query_string"].decode("ascii", "replace")
        body = await _body(receive)
        status, answer = control.answer(scope["method"], name, query=query, body=body)
        await reply.whole(status, answer)

    async def _answer(self, scope: Scope, receive: Receive, reply: Reply) -> None:
        query = scope["query_string"].decode("ascii", "replace")
        verdict = self._judge(scope, query)
        if isinstance(verdict, Refusal):
            self.counts.answered(scope["path"], query, verdict.status)
            await reply.whole(verdict.status, verdict.body(), headers=self._retry_after(verdict))
            return
        question = verdict
        fault = self.faults.due(question.path, question.page)
        status = status_of(fault) if fault else 200
        self.counts.answered(question.path, query, status)
        if fault is None:
            await reply.whole(200, self._page(question))
            self.counts.pages_served[_key(question)] += 1
        elif fault.kind is FaultKind.EMPTY_PAGE:
            await reply.whole(200, self._write(question, Slice(rows=b"", count=0, total=0)))
        elif fault.kind is FaultKind.TOO_MANY_REQUESTS:
            refusal = pages.TOO_MANY_REQUESTS
            await reply.whole(429, refusal.body(), headers=self._retry_after(refusal))
        else:
            befalling = fault
            await until_gone(
                receive, lambda: misbehave(reply, befalling, lambda: self._page(question))
            )

    def _judge(self, scope: Scope, query: str) -> Question | Refusal:
        """Decide, in the order of the upstream's own gates, whether a request gets a page."""
        if not self._has_key(scope):
            return pages.UNAUTHENTICATED
        if not self._bucket.admits():
            return pages.TOO_MANY_REQUESTS
        question = pages.understand(scope["path"], query)
        if isinstance(question, Question) and scope["method"] != "GET":
            return pages.METHOD_NOT_ALLOWED
        return question

    def _has_key(self, scope: Scope) -> bool:
        given: bytes = dict(scope["headers"]).get(b"x-api-key", b"")
        return hmac.compare_digest(given, self._key)

    def _retry_after(self, refusal: Refusal) -> list[tuple[str, str]]:
        """Name the wait in every other 429: users of the API see both."""
        if refusal is not pages.TOO_MANY_REQUESTS:
            return []
        self._refusals += 1
        seconds = self._bucket.retry_after_seconds()
        return [("retry-after", str(seconds))] if self._refusals % 2 else []

    def _page(self, question: Question) -> bytes:
        return self._write(question, pages.rows_for(question, self.inventory))

    def _write(self, question: Question, rows: Slice) -> bytes:
        return pages.page_of(
            question, rows, public_url=self.public_url, next_keeps_query=self._next_keeps_query
        )


def _key(question: Question) -> PageKey:
    return PageKey(
        question.path,
        question.page,
        question.per_page,
        question.minutes,
        tuple(sorted(question.manufacturer_ids or ())),
    )


async def _body(receive: Receive) -> bytes:
    parts = []
    while (message := await receive())["type"] == "http.request":
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            break
    return b"".join(parts)


async def _live(receive: Receive, send: Send) -> None:
    """Start and stop with the server: there is nothing to prepare or to give back."""
    while (await receive())["type"] == "lifespan.startup":
        await send({"type": "lifespan.startup.complete"})
    await send({"type": "lifespan.shutdown.complete"})


if __name__ == "__main__":
    from syncd_cars.simulator_serving import main

    main()
