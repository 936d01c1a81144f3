"""The client: one per account of an instance.

It sends when the limiter lets it, follows, retries and gives up; what counts as data, as failure
and as a reason to wait is decided in `answer`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from importlib import metadata
from random import Random
from types import TracebackType
from typing import Self

import attrs
import trio

from syncd import backoff
from syncd.errors import ConfigError, Unintelligible
from syncd.events import Event, RequestRetried
from syncd.http.addresses import Allowed, Peers
from syncd.http.answer import (
    Data,
    Expected,
    Failure,
    Moved,
    Outcome,
    Reading,
    Throttling,
    Unmodified,
    is_answer,
    is_unread,
    outcome_of,
)
from syncd.http.asked import Asked
from syncd.http.authorization import Authority
from syncd.http.call import Again, Call
from syncd.http.failing import error_of
from syncd.http.fetching import FetchHttp
from syncd.http.headers import is_sendable, request_fields
from syncd.http.limiter import Sender
from syncd.http.limiters import Limiters
from syncd.http.masking import longest_first, masked, secrets_in, secrets_of
from syncd.http.origin import REDIRECTS_MAX, Origins, origin_of, path_of, query_of, where
from syncd.http.patience import Patience
from syncd.http.statistics import Statistics, Tally
from syncd.http.wire import Fault, KeptConnections, Wire
from syncd.limits import Ticket
from syncd.limits.fair import Traffic
from syncd.model import Response, Upstream
from syncd.validators import Condition

THROTTLE_PATIENCE_SECONDS = 120.0

# Between the attempts of one request; a run's own backoff takes over after the third.
RETRY_BASE_SECONDS = 0.5
RETRY_CAP_SECONDS = 10.0

# Of the running mean of latencies: about the last ten answers count.
_LATENCY_WEIGHT = 0.2


class Client:
    """Requests to one account of an upstream.

    An async context manager; leave it when no request is in flight. `name` stands in messages and
    events. `scope` stands before quota keys (default: `name`): clients of one scope share quotas of
    the same key. `clock` answers with now by the database's clock; waiting goes by Trio's.
    `private_network`: names may lead into the operator's own network. `weight`: of the account,
    where several wait for one quota. `authority` knows the credential that requests are let in by.
    """

    def __init__(
        self,
        name: str,
        upstream: Upstream,
        *,
        limiters: Limiters,
        emit: Callable[[Event], None],
        clock: Callable[[], datetime],
        random: Random,
        scope: str | None = None,
        version: str | None = None,
        throttle_patience_seconds: float = THROTTLE_PATIENCE_SECONDS,
        private_network: bool = False,
        weight: float = 1.0,
        wire: Wire | None = None,
        authority: Authority | None = None,
    ) -> None:
        """Check the upstream's declaration; nothing is connected yet.

        Raises: `ConfigError` where base URL, an origin or a header cannot be used.
        """
        self.name = name
        self._upstream = upstream
        self._emit = emit
        self._clock = clock
        self._random = random
        self._weight = weight
        self._patience_seconds = throttle_patience_seconds
        self._authority = authority
        every = (upstream.headers, *upstream.beside.values())
        self._secrets = longest_first(text for each in every for text in secrets_of(each))
        self._origins = Origins(name, upstream, secrets=self._secrets)
        called = version or metadata.version("syncd")
        headers = self._origins.headers.items()
        self._headers = {at: request_fields(name, each, version=called) for at, each in headers}
        allowed = Allowed(self._origins.hosts, private_network)
        self._wire = wire or KeptConnections(Peers(allowed))
        shared = name if scope is None else scope
        self._limiters = {
            quota.key: limiters.limiter(
                f"{name if quota.per == 'account' else shared}:{quota.key}", quota
            )
            for quota in upstream.quotas
        }
        if not self._limiters:
            raise ConfigError(name, "declares no quota", "give its upstream at least one quota")
        self._budget = backoff.RetryBudget()
        self._total = Tally()
        self._in_flight = 0
        self._latency_seconds: float | None = None

    def mask(self, text: str) -> str:
        """Return a text without the secrets of this account."""
        held = self._authority.secrets if self._authority is not None else ()
        return masked(text, longest_first(self._secrets + held))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._wire.aclose()

    @property
    def statistics(self) -> Statistics:
        return Statistics(
            requests=self._total.requests,
            retries=self._total.retries,
            throttled_seconds=self._total.throttled_seconds,
            in_flight=self._in_flight,
            latency_seconds=self._latency_seconds,
        )

    def now(self) -> datetime:
        """Return the moment, by the database's clock."""
        return self._clock()

    def for_fetch(
        self,
        *,
        conditional: bool = False,
        condition: Condition | None = None,
        traffic: Traffic = "sync",
        quota: str | None = None,
        authorized: bool = True,
    ) -> FetchHttp:
        """Return the client for one fetch; `conditional`: note the validators of its answer.

        Its first request is sent with `condition`, if that was told about the same request.
        `traffic` is the class in which its requests wait for their turn, `quota` the one that they
        spend by default. Not `authorized`: they go out without the account's credential.
        """
        http = FetchHttp(
            self, conditional=conditional, condition=condition, traffic=traffic, quota=quota
        )
        http.authority = self._authority if authorized else None
        return http

    async def ask(self, fetch: FetchHttp, asked: Asked) -> Response:
        """Get one resource on behalf of a fetch.

        Raises: as `model.Http.get`, and `NotModified` where a condition was sent and holds.
        """
        call = self._call(asked, fetch.traffic)
        if fetch.conditional:
            call.impose(fetch.offered())
        self._budget = backoff.earn(self._budget)
        try:
            while True:
                outcome = await self._let_in(call, fetch)
                match outcome:
                    case Data(status=status, headers=headers, date=date):
                        if call.notable and fetch.conditional and status == 200:
                            fetch.answered(call.told(headers, date))
                        return _response(call, outcome)
                    case Unmodified(headers=headers, date=date):
                        raise fetch.stands(date, call.told(headers, date))
                    case Throttling(status=status):
                        call.again = Again("throttled", status, trio.current_time())
                    case Moved():
                        self._follow(call, outcome)
                    case Failure(reason="unauthorized") if await _readmitted(call, fetch):
                        call.again = Again("unauthorized", outcome.status, trio.current_time())
                    case Failure():
                        await self._back_off(call, outcome)
        finally:
            fetch.pay(call.bill)
            for tally in (fetch, self._total):
                tally.throttled_seconds += call.patience.spent_seconds

    async def _let_in(self, call: Call, fetch: FetchHttp) -> Outcome:
        """Send once, by what is valid now."""
        authority = fetch.authority
        if authority is None or self._origins.is_beside(call.url):
            return await self._send(call, fetch)
        badge = await authority.badge()  # before its turn comes: renewing takes a turn of its own
        call.wear(badge)
        outcome = await self._send(call, fetch)
        if isinstance(outcome, Data | Unmodified):
            await authority.accepted(badge)
        return outcome

    def _call(self, asked: Asked, traffic: Traffic) -> Call:
        limiter = self._limiters.get(asked.quota or self._upstream.quotas[0].key)
        if limiter is None:
            known = ", ".join(self._limiters)
            raise ValueError(f"{self.name}: no quota {asked.quota!r}, only {known}")
        why = limiter.refuses(asked.costs)
        if not is_sendable("accept", asked.accept):
            why = f"accept={asked.accept!r} cannot be sent"
        if why is not None:
            raise ValueError(f"{self.name}: {why}")  # a bug of the plugin, and treated as one
        target = self._origins.target(asked.url, asked.params, asked.method)
        secrets = longest_first(self._secrets + asked.secrets + secrets_in(query_of(target)))
        place = where(self.name, target, secrets, asked.method)
        media = {"content-type": asked.media} if asked.body else {}
        return Call(
            url=target,
            where=place,
            expected=Expected(
                accept=asked.accept,
                also=asked.also,
                wire_max_bytes=self._upstream.wire_max_bytes,
                body_max_bytes=self._upstream.body_max_bytes,
                secrets=secrets,
                judged=self._upstream.judge is not None,
            ),
            headers={"accept": asked.accept} | media | self._headers[origin_of(target)],
            limiter=limiter,
            sender=Sender(self.name, traffic, origin_of(target), asked.costs, self._weight),
            patience=Patience(place, self._patience_seconds),
            method=asked.method,
            body=asked.body,
            once=asked.once,
            timeout_seconds=asked.waits(self._upstream.timeout_seconds),
        )

    async def _send(self, call: Call, fetch: FetchHttp) -> Outcome:
        """Send once, when the limiter lets it pass, and read the answer."""
        async with call.limiter.admitted(call.patience, call.sender) as ticket:
            left_at = ticket.left_at
            call.sent_at = sent_at = self._clock()
            self._note_sending(call, fetch, left_at)
            reading = Reading(call.expected, now=sent_at)
            fault = await self._exchange(call, reading, ticket)
            outcome = self._judged(call, reading, reading.outcome(fault))
            call.unread = call.once and is_unread(outcome)
            self._tell(call, ticket, outcome, known=reading.throttling)
        if is_answer(outcome):
            fetch.sent_at = min(sent_at, fetch.sent_at or sent_at)
        if isinstance(outcome, Data | Unmodified):
            self._note_latency(trio.current_time() - left_at)
        return outcome

    async def _exchange(self, call: Call, reading: Reading, ticket: Ticket) -> Fault | None:
        limiter = call.limiter

        def head(status: int, headers: Mapping[str, str]) -> float:
            wanted_seconds = reading.head(status, headers)
            told = reading.throttling
            limiter.arrived(ticket, reading.announced, refused=told is not None)
            if told is not None:
                # At once: closing the exchange takes a moment, in which others could leave.
                asked_seconds = told.asked_seconds
                told_at = ticket.left_at
                self._say(limiter.throttled(left_at=told_at, asked_seconds=asked_seconds))
            return wanted_seconds

        self._in_flight += 1
        try:
            with trio.move_on_after(call.timeout_seconds):
                return await self._wire.exchange(call.sent, head=head, chunk=reading.chunk)
        finally:
            self._in_flight -= 1
        return Fault(f"no complete answer within {call.timeout_seconds:g} s", protocol=False)

    def _judged(self, call: Call, reading: Reading, outcome: Outcome) -> Outcome:
        """Let the connector's judge look for an error in the answer."""
        judge = self._upstream.judge
        parts = reading.judgeable(outcome) if judge is not None else None
        if judge is None or parts is None:
            return outcome
        error = judge(call.response(*parts, reading.date))
        return outcome if error is None else outcome_of(error, parts[0])

    def _tell(
        self, call: Call, ticket: Ticket, outcome: Outcome, *, known: Throttling | None
    ) -> None:
        """Tell the limiter, before another leaves, what came of one, beyond what is `known`."""
        limiter, left_at, origin = call.limiter, ticket.left_at, call.sender.origin
        if is_answer(outcome):
            self._say(limiter.answered(left_at=left_at, origin=origin))
            if isinstance(outcome, Data) and self._upstream.spent is not None:
                call.paid = limiter.cost(ticket, self._upstream.spent(_response(call, outcome)))
        elif isinstance(outcome, Throttling):
            if outcome != known:
                asked_seconds = outcome.asked_seconds
                self._say(limiter.throttled(left_at=left_at, asked_seconds=asked_seconds))
            self._say(limiter.reached(left_at=left_at, origin=origin, refused=True))
        elif isinstance(outcome, Failure) and outcome.reason == "unavailable":
            status, account = outcome.status, call.sender.account
            self._say(
                limiter.failed(left_at=left_at, origin=origin, status=status, account=account)
            )

    def _say(self, events: Iterable[Event]) -> None:
        for event in events:
            self._emit(event)

    def _follow(self, call: Call, moved: Moved) -> None:
        call.redirects += 1
        why = None
        if call.redirects > REDIRECTS_MAX:
            why = f"redirected more than {REDIRECTS_MAX} times"
        elif call.method == "POST" and moved.status not in {307, 308}:  # RFC 9110 15.4
            why = f"redirected with {moved.status}, which a POST does not follow"
        if why is not None:
            raise Unintelligible(call.where, why, "compare the path with the API's documentation")
        call.url = self._origins.moved(call.url, moved.location)
        call.sender = attrs.evolve(call.sender, origin=origin_of(call.url))
        call.impose(None)  # it was told about another address
        call.mask(secrets_in(query_of(call.url)))

    async def _back_off(self, call: Call, failure: Failure) -> None:
        """Wait before another attempt.

        Raises: the failure's error, where another attempt is not worth it or not allowed.
        """
        call.failures += 1
        if not failure.again or call.failures >= backoff.REQUEST_ATTEMPTS_MAX:
            raise error_of(call, failure)
        if call.once and not failure.unsent:
            raise error_of(call, failure, "; not sent again, it may have been carried out")
        budget = backoff.spend(self._budget)
        if budget is None:
            raise error_of(call, failure, "; no retry, the upstream's retry budget is spent")
        self._budget = budget
        call.again = Again(failure.reason, failure.status, trio.current_time())
        await trio.sleep(
            backoff.full_jitter(
                call.failures,
                base_seconds=RETRY_BASE_SECONDS,
                cap_seconds=RETRY_CAP_SECONDS,
                chance=self._random.random(),
            )
        )

    def _note_sending(self, call: Call, fetch: FetchHttp, now: float) -> None:
        call.sendings, call.unread = call.sendings + 1, call.once
        again, call.again = call.again, None
        for tally in (fetch, self._total):
            tally.requests += 1
            tally.retries += again is not None
        if again is not None:
            self._emit(
                RequestRetried(
                    upstream=self.name,
                    path=masked(path_of(call.url), call.expected.secrets),
                    reason=again.reason,
                    status=again.status,
                    attempt=call.sendings,
                    wait_seconds=now - again.since,
                )
            )

    def _note_latency(self, seconds: float) -> None:
        mean = self._latency_seconds
        self._latency_seconds = (
            seconds if mean is None else mean + _LATENCY_WEIGHT * (seconds - mean)
        )


async def _readmitted(call: Call, fetch: FetchHttp) -> bool:
    """Say whether a refused request may be sent once more, with another credential."""
    if fetch.authority is None or call.badge is None or call.readmitted:
        return False
    call.readmitted = await fetch.authority.newer(call.badge) is not None
    return call.readmitted


def _response(call: Call, data: Data) -> Response:
    return call.response(data.status, data.headers, data.content, data.date)
