"""Whole runs against an upstream that lies, breaks off, floods, refuses, or says wait."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import msgspec
import pytest
import trio
from job_world import KEY, Answer, Asked, World, world
from starlette.types import Receive, Scope, Send

from syncd.events import (
    CursorFailed,
    LimitLocked,
    PartitionParked,
    RecordsQuarantined,
    RequestRetried,
    RunFinished,
    RunStarted,
)
from syncd.http import Client
from syncd.store import parking
from syncd.store.hops import Connection
from syncd.verdicts import Result, exit_code
from syncd_cars import plugin
from syncd_cars.simulator import Fault, FaultKind
from syncd_cars.simulator_serving import serve

CARS, PER_PAGE, PAGES = 150, 25, 6
BAD_PAGE = 4
CLEAR_LINE = re.compile(r"[a-zA-Z][^\n]*: [^\n]+; [^\n]+")  # where: what happened; what to do


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a request take a quarter of a second where the connector allows a minute."""
    real = plugin.upstream

    def upstream(settings: Any, account: Any) -> Any:
        return attrs.evolve(real(settings, account), timeout_seconds=0.25)

    monkeypatch.setattr(plugin, "CONNECTOR", attrs.evolve(plugin.CONNECTOR, upstream=upstream))


async def run(there: World, **options: Any) -> Result:
    (result,) = await there.run(**({"per_page": PER_PAGE} | options))
    return result


async def healed(there: World, **options: Any) -> None:
    """Let the upstream be well again, and prove that the next run loses nothing."""
    before = there.committed()
    there.simulator.faults.disarm()
    there.simulator.script = None
    there.let_waits_pass()

    result = await run(there, **options)

    assert (result.verdict, result.message) == ("complete", "")
    assert there.told(RunStarted)[0].resumed
    assert there.differences() == {}
    assert all(old <= new for old, new in zip(before, there.committed(), strict=True))


def asked_for(there: World, page: int) -> int:
    return sum(query["page"] == str(page) for _, query in there.log())


# an empty page


def emptied(there: World, *, page: int, names_next: bool) -> Callable[[Asked], Answer | None]:
    """Answer one page without records the first time, as a page past the end would be."""

    def script(asked: Asked) -> Answer | None:
        if asked.page != page or asked.time > 1:
            return None
        genuine = there.simulator.genuine(asked)
        genuine["data"] = []
        genuine["links"]["next"] = f"{there.base_url}/cars?page={page + 1}" if names_next else None
        return Answer.json(genuine)

    return script


@pytest.mark.parametrize("totals", [False, True])
@pytest.mark.parametrize("names_next", [False, True])
async def test_an_empty_page_in_the_middle_is_never_taken_for_the_end(
    dsn: str, names_next: bool, totals: bool
) -> None:
    async with world(dsn, cars=CARS) as there:
        there.simulator.script = emptied(there, page=3, names_next=names_next)

        result = await run(there, totals=totals)

        assert (result.verdict, result.message) == ("complete", "")
        assert asked_for(there, 3) >= 2
        assert there.differences() == {}


@pytest.mark.parametrize("in_flight", [1, 2, 4])
@pytest.mark.parametrize("page", [1, 3])
async def test_an_empty_page_is_no_end_however_few_are_in_flight(
    dsn: str, page: int, in_flight: int
) -> None:
    async with world(dsn, cars=CARS) as there:
        there.simulator.script = emptied(there, page=page, names_next=False)

        result = await run(there, in_flight=in_flight)

        assert result.verdict == "complete"
        assert there.differences() == {}


async def test_a_page_that_stays_empty_keeps_its_pass_open(dsn: str) -> None:
    async with world(dsn, cars=CARS) as there:
        there.simulator.arm(Fault(kind=FaultKind.EMPTY_PAGE, page=3, times=None))

        result = await run(there, wait_seconds=0.1)

        assert (result.verdict, exit_code([result])) == ("waiting", 3)
        assert "no records, though page" in result.message
        assert len(there.committed()[0]) == CARS - PER_PAGE


async def test_a_run_that_goes_on_behind_the_end_marker_comes_to_an_end(dsn: str) -> None:
    async with world(dsn, cars=CARS) as there:
        there.simulator.arm(Fault(kind=FaultKind.HTML, page=3, times=None))
        assert (await run(there, wait_seconds=0.1)).verdict == "waiting"

        with trio.fail_after(30):
            await healed(there)


# answers that are no pages


@attrs.frozen
class Bad:
    """Something that an upstream may send in place of a page, and the least that is said of it."""

    said: str
    fault: Fault | None = None
    answer: Answer | None = None

    def befall(self, there: World, page: int) -> None:
        if self.fault is not None:
            there.simulator.arm(msgspec.structs.replace(self.fault, page=page, times=None))
            return
        answer = self.answer
        there.simulator.script = lambda asked: answer if asked.page == page else None


DEEP = b'{"data":' + b"[" * 10**5 + b"]" * 10**5 + b',"links":{"next":null}}'

UNINTELLIGIBLE = {
    "html": Bad("text/html", Fault(kind=FaultKind.HTML)),
    "half_json": Bad("the body ends too early", Fault(kind=FaultKind.HALF_JSON)),
    "broken_json": Bad("JSON is malformed", Fault(kind=FaultKind.BROKEN_JSON)),
    "cut_body": Bad("peer closed connection", Fault(kind=FaultKind.CUT_BODY)),
    "gzip_bomb": Bad("over", Fault(kind=FaultKind.GZIP_BOMB, size_bytes=2**28)),
    "another_shape": Bad("missing required field", answer=Answer.json({"message": "hello"})),
    "not_found": Bad("answered 404", answer=Answer.json({"message": "Not Found"}, 404)),
    "no_content": Bad("answered 204", answer=Answer(b"", 204)),
    "empty_body": Bad("the body is empty", answer=Answer(b"")),
    "too_deep": Bad("nested too deeply", answer=Answer(DEEP)),
    "latin_1": Bad(
        "not UTF-8", answer=Answer(b"{}", content_type="application/json;charset=latin1")
    ),
}


@pytest.mark.parametrize("name", UNINTELLIGIBLE)
async def test_an_answer_that_is_no_page_keeps_its_cursor_and_costs_no_other_page(
    dsn: str, name: str
) -> None:
    bad = UNINTELLIGIBLE[name]
    async with world(dsn, cars=CARS) as there:
        bad.befall(there, BAD_PAGE)

        result = await run(there, wait_seconds=0.1)

        assert (result.verdict, exit_code([result])) == ("waiting", 3)
        assert bad.said in result.message
        failed = there.told(CursorFailed)[0]
        assert failed.cursor == f"page {BAD_PAGE}"
        assert failed.retry_in_seconds is not None
        assert CLEAR_LINE.fullmatch(failed.error), failed.error
        assert KEY not in result.message + failed.error
        assert len(there.committed()[0]) == CARS - PER_PAGE
        await healed(there)


async def test_broken_json_once_is_asked_for_again_and_nothing_is_lost(dsn: str) -> None:
    async with world(dsn, cars=CARS) as there:
        there.simulator.arm(Fault(kind=FaultKind.BROKEN_JSON, page=3))

        result = await run(there)

        assert result.verdict == "complete"
        assert asked_for(there, 3) == 2
        assert there.differences() == {}


async def test_a_body_cut_off_once_is_asked_for_again_within_its_request(dsn: str) -> None:
    async with world(dsn, cars=CARS) as there:
        there.simulator.arm(Fault(kind=FaultKind.CUT_BODY, page=3))

        result = await run(there)

        assert result.verdict == "complete"
        (retried,) = there.told(RequestRetried)
        assert (retried.reason, retried.status, retried.attempt) == ("unintelligible", 200, 2)
        assert (retried.upstream, retried.path) == ("cars", "/cars")
        assert 0 <= retried.wait_seconds < 5
        assert there.told(CursorFailed) == []
        assert there.told(RunFinished)[0].retries == 1
        assert there.differences() == {}


def peak_bytes() -> int:
    """Return the most memory this process had resident since the mark was reset."""
    status = Path("/proc/self/status").read_text()
    (kilobytes,) = re.findall(r"VmHWM:\s+(\d+) kB", status)
    return int(kilobytes) * 1024


def reset_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")  # proc(5): resets the high-water mark


async def test_a_body_of_two_gigabytes_is_cut_early_and_costs_no_memory(dsn: str) -> None:
    async with world(dsn, cars=CARS) as there:
        there.simulator.arm(Fault(kind=FaultKind.HUGE_BODY, page=BAD_PAGE, times=None))
        reset_peak()
        before = peak_bytes()

        with trio.fail_after(30):
            result = await run(there, wait_seconds=0.1)

        assert peak_bytes() - before < 150 * 2**20
        assert result.verdict == "waiting"
        assert re.search(r"the body is over \d+ bytes on the wire", result.message)
        assert there.told(RequestRetried) == [], "asking again at once would bring the same"
        await healed(there)


# answers that do not come


UNAVAILABLE = {
    "drip": Bad("no complete answer within 0.25 s", Fault(kind=FaultKind.DRIP, delay_seconds=0.05)),
    "stall": Bad("no complete answer within 0.25 s", Fault(kind=FaultKind.STALL)),
    "error": Bad("answered 503", Fault(kind=FaultKind.SERVER_ERROR)),
}


@pytest.mark.parametrize("name", UNAVAILABLE)
@pytest.mark.usefixtures("impatient")
async def test_a_page_that_does_not_come_is_tried_three_times_and_costs_no_other_page(
    dsn: str, name: str
) -> None:
    bad = UNAVAILABLE[name]
    async with world(dsn, cars=CARS) as there:
        bad.befall(there, BAD_PAGE)

        result = await run(there, wait_seconds=0.1)

        assert exit_code([result]) in {3, 69}
        assert bad.said in result.message
        failed = there.told(CursorFailed)[0]
        assert "(3 attempts)" in failed.error
        assert CLEAR_LINE.fullmatch(failed.error), failed.error
        retried = there.told(RequestRetried)
        assert {each.reason for each in retried} == {"unavailable"}
        assert [each.attempt for each in retried[:2]] == [2, 3]
        assert len(there.committed()[0]) == CARS - PER_PAGE
        await healed(there)


@pytest.mark.usefixtures("impatient")
async def test_an_upstream_that_goes_down_ends_the_run_and_keeps_what_was_committed(
    dsn: str,
) -> None:
    async with world(dsn, cars=CARS) as there:
        there.simulator.arm(Fault(kind=FaultKind.SERVER_ERROR, request=4, times=None))

        result = await run(there)

        assert (result.verdict, exit_code([result])) == ("unavailable", 69)
        assert CLEAR_LINE.fullmatch(result.message), result.message
        assert "answered 503" in result.message
        assert 0 < len(there.committed()[0]) <= 3 * PER_PAGE
        await healed(there)


async def test_a_burst_of_server_errors_is_sat_out(dsn: str) -> None:
    async with world(dsn, cars=CARS) as there:
        burst = there.simulator.arm(
            Fault(kind=FaultKind.SERVER_ERROR, request=3, times=2, status=502)
        )

        result = await run(there)

        assert burst.spent
        assert result.verdict == "complete"
        assert {each.status for each in there.told(RequestRetried)} == {502}
        assert there.differences() == {}


async def test_an_upstream_that_nobody_serves_is_unavailable(dsn: str) -> None:
    async with world(dsn, cars=CARS) as there:
        result = await run(there, base_url=await closed_port())

        assert (result.verdict, exit_code([result])) == ("unavailable", 69)
        assert CLEAR_LINE.fullmatch(result.message), result.message
        await healed(there)


async def closed_port() -> str:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    await listener.aclose()
    return f"http://127.0.0.1:{port}"


async def test_a_look_up_that_fails_is_the_jobs_result_and_no_run_begins(dsn: str) -> None:
    async with world(dsn, cars=CARS) as there:
        there.simulator.arm(
            Fault(kind=FaultKind.SERVER_ERROR, path="/manufacturers/cars", times=None)
        )

        result = await run(there, priority_brands=["Audi"])

        assert (result.verdict, exit_code([result])) == ("unavailable", 69)
        assert CLEAR_LINE.fullmatch(result.message), result.message
        assert there.told(RunStarted) == []
        there.simulator.faults.disarm()
        results = await there.run(priority_brands=["Audi"])
        assert exit_code(results) == 0
        assert there.differences() == {}


# too many requests


@pytest.mark.parametrize("seed", [0, 1], ids=["announced_first", "unannounced_first"])
async def test_a_run_of_refusals_loses_no_page_and_its_waits_are_kept(dsn: str, seed: int) -> None:
    async with world(dsn, cars=CARS, seed=seed) as there:
        there.simulator.arm(Fault(kind=FaultKind.TOO_MANY_REQUESTS, request=3, times=2))

        result = await run(there, in_flight=1)

        assert result.verdict == "complete"
        assert there.differences() == {}
        log = [entry for entry, _ in there.log()]
        refused = [n for n, entry in enumerate(log) if entry.status == 429]
        announced = [n % 2 == seed for n in range(2)]  # every other one names a second
        waits = [log[n + 1].at - log[n].at for n in refused]
        assert len(waits) == 2
        assert all(wait >= 1 for wait, told in zip(waits, announced, strict=True) if told)
        locked = there.told(LimitLocked)
        assert [each.announced for each in locked] == announced
        assert there.told(RunFinished)[0].throttled_seconds >= sum(announced)
        assert {(each.reason, each.status) for each in there.told(RequestRetried)} == {
            ("throttled", 429)
        }


async def test_no_request_leaves_before_the_announced_moment_whoever_was_refused(dsn: str) -> None:
    async with world(dsn, cars=300) as there:
        there.simulator.arm(Fault(kind=FaultKind.TOO_MANY_REQUESTS, request=5))

        result = await run(there, in_flight=4)

        assert result.verdict == "complete"
        log = [entry for entry, _ in there.log()]
        (refusal,) = [entry for entry in log if entry.status == 429]
        within = [entry for entry in log if refusal.at < entry.at < refusal.at + 1]
        assert len(within) <= 3, "only what was in flight already"


async def test_a_wait_longer_than_is_worth_it_ends_the_run_as_throttled(dsn: str) -> None:
    """Three requests in ten minutes, and `Retry-After` says so."""
    async with world(dsn, cars=CARS, rate=1 / 600, burst=3) as there:
        result = await run(there, in_flight=1)

        assert (result.verdict, exit_code([result])) == ("throttled", 75)
        assert CLEAR_LINE.fullmatch(result.message), result.message
        assert re.search(r"throttled for (59\d|600) s more", result.message)
        assert len(there.log()) == 4
        assert len(there.committed()[0]) == 3 * PER_PAGE
        due = "SELECT extract(epoch FROM due_at - now()) AS seconds FROM syncd.partition"
        assert 500 < there.query(due)[0]["seconds"] <= 601


async def test_endless_refusals_end_the_run_when_patience_is_spent(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    defaults = dict(Client.__init__.__kwdefaults__ or {}) | {"throttle_patience_seconds": 1.5}
    monkeypatch.setattr(Client.__init__, "__kwdefaults__", defaults)
    async with world(dsn, cars=CARS) as there:
        there.simulator.arm(Fault(kind=FaultKind.TOO_MANY_REQUESTS, page=BAD_PAGE, times=None))

        result = await run(there, in_flight=1)

        assert (result.verdict, exit_code([result])) == ("throttled", 75)
        assert CLEAR_LINE.fullmatch(result.message), result.message
        assert len(there.committed()[0]) == (BAD_PAGE - 1) * PER_PAGE
        await healed(there)


# a refused key


async def test_a_refused_key_parks_the_account_until_it_is_resumed(
    dsn: str, connection: Connection
) -> None:
    async with world(dsn, cars=CARS) as there:
        await run(there, per_page=PER_PAGE)
        before = there.committed()

        result = await run(there, key="another-key")

        assert (result.verdict, exit_code([result])) == ("failed", 1)
        assert "the credential is refused (401)" in result.message
        (parked,) = there.told(PartitionParked)
        assert CLEAR_LINE.fullmatch(parked.reason), parked.reason
        assert "another-key" not in f"{result.message}{parked.reason}"
        assert there.committed() == before

        there.simulator.counts.reset()
        again = await run(there)
        assert again.verdict == "failed"
        assert "syncd resume cars" in again.message
        assert there.log() == []

        assert parking.resume(connection, "cars", None) == 1
        connection.commit()
        assert (await run(there)).verdict == "complete"
        assert there.differences() == {}


async def test_a_key_that_is_refused_in_a_look_up_parks_the_account(dsn: str) -> None:
    async with world(dsn, cars=CARS) as there:
        result = await run(there, key="another-key", priority_brands=["Audi"])

        assert (result.verdict, exit_code([result])) == ("failed", 1)
        (parked,) = there.told(PartitionParked)
        assert "the credential is refused (401)" in parked.reason
        assert there.simulator.counts.requests == 1


async def test_a_parked_account_is_not_asked_for_its_partitions(dsn: str) -> None:
    async with world(dsn, cars=CARS) as there:
        await run(there, key="another-key")
        assert there.told(PartitionParked)
        there.simulator.counts.reset()

        result = await run(there, priority_brands=["Audi"])

        assert result.verdict == "failed"
        assert there.simulator.counts.requests == 0


# elsewhere


@attrs.define
class Elsewhere:
    """A second origin that notes what it is sent."""

    public_url: str = ""
    headers: list[dict[bytes, bytes]] = attrs.field(factory=list)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            while (await receive())["type"] != "lifespan.shutdown":
                await send({"type": "lifespan.startup.complete"})
            await send({"type": "lifespan.shutdown.complete"})
            return
        self.headers.append(dict(scope["headers"]))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b'{"data":[],"links":{"next":null}}'})


@asynccontextmanager
async def elsewhere() -> AsyncIterator[Elsewhere]:
    other = Elsewhere()
    async with serve(other):  # type: ignore[arg-type]  # any application with a public address
        yield other


async def test_a_redirect_to_another_origin_is_refused_and_the_key_never_goes_there(
    dsn: str,
) -> None:
    async with elsewhere() as other, world(dsn, cars=CARS) as there:
        location = f"{other.public_url}/cars?page={BAD_PAGE}"
        there.simulator.arm(
            Fault(kind=FaultKind.REDIRECT, page=BAD_PAGE, times=None, location=location)
        )

        result = await run(there, wait_seconds=0.1)

        assert result.verdict == "waiting"
        assert "the redirect leads to" in result.message
        assert other.headers == []
        assert len(there.committed()[0]) == CARS - PER_PAGE
        await healed(there)
        assert other.headers == []


async def test_next_links_to_another_origin_are_not_followed(dsn: str) -> None:
    async with elsewhere() as other, world(dsn, cars=CARS) as there:

        def leads_away(asked: Asked) -> Answer:
            page = there.simulator.genuine(asked)
            if page["links"]["next"]:
                page["links"]["next"] = f"{other.public_url}/cars?page={asked.page + 1}"
            return Answer.json(page)

        there.simulator.script = leads_away
        result = await run(there)

        assert result.verdict == "complete"
        assert there.differences() == {}
        assert other.headers == []


# records


async def test_an_untidy_record_costs_itself_and_no_other(dsn: str) -> None:
    domain = {"id": 3, "name": "copart_com"}
    kept = [
        {"id": 3, "year": 2**62},
        {"id": 6, "engine": {"name": "x" * 10**6}, "lots": [lot_at(domain, 6, bid="NaN")]},
        {"id": 7, "lots": [lot_at(domain, 7, updated_at="9999-12-31T23:59:59-12:00")]},
        {"id": 8, "lots": [lot_at(domain, 8, sale_date="0000-00-00 00:00:00")]},
    ]
    set_aside = [
        {"id": 1, "title": "nul \x00", "lots": []},
        {"id": 2, "year": 2**70},
        {"id": "5", "lots": []},
        {"id": None},
        [],
    ]
    with_bad_lots = [
        {"id": 9, "lots": [lot_at(domain, 9, bid=10**14)]},
        {"id": 10, "lots": {"0": lot_at(domain, 10)}},
        {"id": 11, "lots": [lot_at(None, 11)]},
    ]
    async with world(dsn, cars=CARS) as there:

        def among_others(asked: Asked) -> Answer | None:
            if asked.page != 2:
                return None
            page = there.simulator.genuine(asked)
            page["data"] += kept + set_aside + with_bad_lots
            return Answer.json(page)

        there.simulator.script = among_others
        result = await run(there)

        assert (result.verdict, result.message) == ("complete", "")
        cars, lots = {(3,), (6,), (7,), (8,), (9,), (10,), (11,)}, {(3, "6"), (3, "7"), (3, "8")}
        assert there.differences().keys() == cars | lots
        rows = there.query("SELECT stream, reason, message FROM syncd.quarantine")
        assert sorted((row["stream"], row["reason"]) for row in rows) == [
            *[("cars", "decode")] * 3,
            *[("cars", "dump")] * 2,
            *[("lots", "key")] * 2,
            ("lots", "refused"),
        ]
        assert all(row["message"] for row in rows)
        told = there.told(RecordsQuarantined)
        assert sum(each.count for each in told) == len(rows)
        assert {(each.stream, each.reason) for each in told} == {
            (row["stream"], row["reason"]) for row in rows
        }


def lot_at(domain: Any, number: int, **fields: Any) -> dict[str, Any]:
    return {"lot": number, "domain": domain} | fields
