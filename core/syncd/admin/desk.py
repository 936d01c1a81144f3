"""Who answers at a route: the plugins of the present configuration, and the database behind them.

A request runs under the configuration in whose time it came. How much is under way at once is
bounded, and whoever comes above that is asked to come again: senders of events do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import attrs
import trio
from starlette.requests import Request
from starlette.responses import Response

from syncd.admin.inbox import Inbox, Outcome, UnknownAccount
from syncd.admin.requests import Declined, body_of
from syncd.contract import refuse_unfit_answer
from syncd.daemon import Process
from syncd.errors import PluginError, StoreError, SyncdError
from syncd.events import RouteReceived, RouteRefused
from syncd.http.headers import is_sendable
from syncd.model import Route, RouteAnswer, RouteRequest

REQUESTS_MAX = 64  # at once, bodies included: 64 MiB of these at most, by default
WRITERS_MAX = 4  # of them at once in the database, or half of its connections: syncs need some
_SERVERS = {"connection", "content-length", "transfer-encoding"}  # RFC 9112: the server's to say
ANSWER_SECONDS = 10.0  # senders of events wait about as long (GitHub's webhooks: 10 s)
RETRY_SECONDS = 10  # after which one who cannot be heard now may come again
TELL_AGAIN_SECONDS = 10.0  # between two words about the same refusal
REACHED_SECONDS = 30.0  # the scheduler asks the database every second, or every five where it fails

Table = Mapping[tuple[str, str], Mapping[str, "Served"]]  # by instance and path, then by method


@attrs.frozen
class Served:
    """A route of one instance, and where what it brings is written."""

    route: Route
    inbox: Inbox

    @property
    def name(self) -> str:
        return f"{self.route.method} {self.route.path}"


def table_of(process: Process) -> Table:
    """Ask the plugins of a configuration what they serve.

    Raises: `HookError`.
    """
    table: dict[tuple[str, str], dict[str, Served]] = {}
    for name, instance in process.config.instances.items():
        inbox = Inbox(process, instance)
        for route in process.plugins.routes(instance):
            table.setdefault((name, route.path), {})[route.method] = Served(route, inbox)
    return table


class Desk:
    """Answers requests to the routes of plugins."""

    def __init__(self, process: Process, table: Table) -> None:
        self._process = process
        self._table = table
        self._under_way = 0
        self._idle = trio.Event()
        self._idle.set()
        writers = max(1, min(WRITERS_MAX, process.hops.pool_max // 2))
        self._writers = trio.CapacityLimiter(writers)
        self._refusals: dict[tuple[str, str, int], tuple[float, int]] = {}  # told at, unsaid since
        self.open = False  # whether the first configuration is kept

    @property
    def routes(self) -> int:
        return sum(len(methods) for methods in self._table.values())

    def take_over(self, table: Table) -> None:
        """Serve another configuration's routes; what is under way goes on."""
        self._table = table

    async def empty(self) -> None:
        """Wait until nothing is under way."""
        await self._idle.wait()

    @property
    def hindrance(self) -> str | None:
        """Return why the process is not ready; `None` where it is."""
        hops = self._process.hops
        if self._process.draining.is_set():
            return "it stops"
        if not self.open:
            return "it starts"
        if hops.away or trio.current_time() - hops.reached_at > REACHED_SECONDS:
            return "the database is away"
        return None

    # --- A request ------------------------------------------------------------------------------

    async def answer(self, instance: str, path: str, request: Request) -> Response:
        """Answer a request to a route; whatever goes wrong costs this one alone."""
        methods = self._table.get((instance, path))
        if methods is None:
            return Declined(404, "there is no such route").response()
        served = methods.get(request.method)
        if served is None:
            allowed = {"allow": ", ".join(sorted(methods))}
            return Declined(405, "not by this method", headers=allowed).response()
        try:
            with self._counted():
                return await self._answered(served, path, request)
        except Declined as declined:
            self._tell(instance, served, declined.status, declined.reason)
            return declined.response()

    @contextmanager
    def _counted(self) -> Iterator[None]:
        if self._process.draining.is_set():
            raise _come_again("the daemon stops", closes=True)
        if self._under_way >= REQUESTS_MAX:
            raise _come_again(f"{REQUESTS_MAX} requests are under way", closes=True)
        self._under_way += 1
        self._idle = trio.Event() if self._under_way == 1 else self._idle
        try:
            yield
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._idle.set()

    async def _answered(self, served: Served, path: str, request: Request) -> Response:
        """Have a request handled, and what it brought written, in time.

        Raises: `Declined`.
        """
        process = self._process
        started, received_at = trio.current_time(), process.clock.now()
        body = await body_of(request, most_bytes=process.config.admin.body_max_bytes)
        asked = RouteRequest(
            request.method,
            path,
            dict(request.query_params),
            dict(request.headers),
            body,
            received_at=received_at,
        )
        try:
            with trio.fail_after(ANSWER_SECONDS):
                answer = await self._handled(served, asked)
                response = _response(answer)
                outcome = Outcome()
                if answer.status < 400:
                    async with self._writers:
                        outcome = await served.inbox.take(answer, served.name, received_at)
        except UnknownAccount as unknown:
            raise Declined(404, f"there is no account {unknown}", "no such account") from None
        except trio.TooSlowError:
            raise _come_again(f"it took over {ANSWER_SECONDS:.0f} s") from None
        except StoreError as error:
            raise _come_again(str(error)) from error
        except PluginError as error:
            raise Declined(500, str(error), "it could not be handled") from error
        except SyncdError as error:
            raise _come_again(str(error)) from error
        if answer.status >= 400:
            instance = served.inbox.instance.name
            self._tell(instance, served, answer.status, "the plugin refused it")
        else:
            seconds = round(trio.current_time() - started, 4)
            self._process.emit(_received(served, answer, outcome, seconds))
        return response

    async def _handled(self, served: Served, asked: RouteRequest) -> RouteAnswer:
        """Call the handler, in a thread.

        Raises: `PluginError`.
        """
        instance = served.inbox.instance
        where = f"{instance.name}: route {served.name}"
        settings, lane = instance.settings, served.inbox.thread_lane
        answer: Any = await self._process.threads.run(
            lane, where, served.route.handler, settings, asked
        )
        if not isinstance(answer, RouteAnswer):
            what = f"its handler answered with {type(answer).__name__}, not a RouteAnswer"
            raise PluginError(where, what, "mend the plugin")
        refuse_unfit_answer(answer, served.inbox.streams, where)
        return answer

    def _tell(self, instance: str, served: Served, status: int, reason: str) -> None:
        """Say that a request was refused, of many alike one in a while: anybody may send them."""
        now, key = trio.current_time(), (instance, served.name, status)
        told_at, unsaid = self._refusals.get(key, (-TELL_AGAIN_SECONDS, 0))
        if now - told_at < TELL_AGAIN_SECONDS:
            self._refusals[key] = (told_at, unsaid + 1)
            return
        self._refusals[key] = (now, 0)
        self._process.emit(RouteRefused(instance, served.name, status, reason, unsaid + 1))


def _come_again(reason: str, *, closes: bool = False) -> Declined:
    return Declined(503, reason, "not now; come again", RETRY_SECONDS, closes)


def _response(answer: RouteAnswer) -> Response:
    """Return what a handler wants to be said; made before anything is written, for it may fail.

    Raises: `PluginError`.
    """
    body = b"" if answer.status in {204, 304} else answer.body  # they have none (RFC 9110 6.4.1)
    try:
        headers = dict(answer.headers)
        if odd := [n for n in headers if n.lower() in _SERVERS or not is_sendable(n, headers[n])]:
            said = f"headers that an answer cannot have: {odd!r:.80}"
            raise PluginError("routes", said, "mend the plugin")
        return Response(body, answer.status, headers)
    except (AttributeError, TypeError, ValueError) as error:  # a plugin's values
        raise PluginError("routes", f"no HTTP answer: {error}", "mend the plugin") from error


def _received(served: Served, answer: RouteAnswer, outcome: Outcome, seconds: float) -> Any:
    return RouteReceived(
        instance=served.inbox.instance.name,
        account=answer.account,
        route=served.name,
        status=answer.status,
        repeated=outcome.repeated,
        records=outcome.records,
        quarantined=outcome.quarantined,
        duration_seconds=seconds,
        **outcome.written.counts,
    )
