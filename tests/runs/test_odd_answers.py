"""What a plugin answers costs its own partition, lane or request, and is told as its fault."""

from __future__ import annotations

import math
import os
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import attrs
import courier
import msgspec
import psycopg
import pytest
import stranger
import token_office
import trio
from counter import Counter, counter
from courier import parcel
from processes import seen
from stranger import LETTER, PARCEL, Stranger, Told, ran
from token_office import TokenOffice, World, install

from syncd import (
    AsyncTransform,
    Delivered,
    Done,
    Effect,
    Later,
    Quota,
    Record,
    Retry,
    RouteAnswer,
    SlidingWindow,
    SyncdError,
    Throttled,
    Transform,
    Unavailable,
    Upstream,
    WithEffects,
    Writer,
    Written,
    background,
)
from syncd.daemon import Process
from syncd.errors import ConfigError, HookError, LeaseLost, PluginError, RecordError
from syncd.events import (
    ConfigRejected,
    EffectLaneDamped,
    RecordsQuarantined,
    RouteRefused,
    RunFinished,
    TaskFailed,
)
from syncd.jobs import run_job
from syncd.plugins import Plugins
from syncd.serving import serve

NAN, INF = math.nan, math.inf
HUGE = pytest.param(10**400, id="beyond floats")
MEND = "mend the plugin"


def cost_it_alone(told: Told, *, says: str = MEND) -> None:
    """Check that the bad slice alone failed, by the fault of its plugin."""
    assert told.of("good").verdict == "complete"
    assert told.of("bad").verdict != "complete"
    assert says in told.of("bad").message


# --- Sessions -------------------------------------------------------------------------------------


def ending(seconds: float) -> Any:
    @asynccontextmanager
    async def session() -> AsyncIterator[None]:
        with trio.move_on_after(seconds):  # it means to bound something, and cuts all that runs
            yield

    return session


async def test_a_session_that_cuts_what_runs_in_it_is_told(dsn: str, tmp_path: Path) -> None:
    async def waits(_: Any) -> None:
        await trio.sleep_forever()

    with pytest.raises(PluginError, match="lifespan"):
        await ran(Stranger(waits, session=ending(0.5)), tmp_path, dsn)


# --- Errors ---------------------------------------------------------------------------------------


class Mute(Unavailable):
    def __str__(self) -> str:
        raise ValueError("on purpose")


class Bare(Throttled):
    def __init__(self) -> None:
        pass


def throttled(seconds: Any) -> Callable[[], Exception]:
    return lambda: Throttled("GET /x", "busy", retry_after_seconds=seconds)


ODD_ERRORS: dict[str, Callable[[], Exception]] = {
    "of the core's own": lambda: SyncdError("GET /x", "strange"),
    "of a configuration": lambda: ConfigError("GET /x", "strange"),
    "of a record": lambda: RecordError("GET /x", "strange"),
    "of a lost lease": lambda: LeaseLost("GET /x", "strange"),
    "that says nothing": lambda: Mute("GET /x", "strange"),
    "without parts": Bare,
}


@pytest.mark.parametrize("error", ODD_ERRORS.values(), ids=ODD_ERRORS)
async def test_an_error_that_a_fetch_must_not_raise_costs_its_partition_alone(
    error: Callable[[], Exception], dsn: str, tmp_path: Path
) -> None:
    async def raises(_: Any) -> None:
        raise error()

    cost_it_alone(await ran(Stranger(raises), tmp_path, dsn))


@pytest.mark.parametrize("seconds", [NAN, HUGE])
async def test_a_run_is_given_back_whatever_seconds_a_fetch_was_throttled_for(
    seconds: Any, dsn: str, tmp_path: Path
) -> None:
    async def raises(_: Any) -> None:
        error = throttled(seconds)()
        raise error

    told = await ran(Stranger(raises), tmp_path, dsn)
    assert told.of("good").verdict == "complete"
    statuses = {each.partition: each.status for each in told.said(RunFinished)}
    assert statuses["stranger.things[bad]"] != "lost"


# --- Quotas, and what a connector finds in answers ------------------------------------------------

TOKENS = (SlidingWindow(1000, 60), SlidingWindow(1000, 60, unit="tokens"))
COUNTED = {"quotas": (Quota("all", windows=TOKENS),)}


async def asks(ctx: Any) -> None:
    await ctx.http.get("/bad", cost={"tokens": 1})


@pytest.mark.parametrize("cost", [{"tokens": NAN}, {"tokens": -5}])
async def test_a_cost_that_is_no_number_costs_its_request_alone(
    cost: Any, dsn: str, tmp_path: Path
) -> None:
    async def asks(ctx: Any) -> None:
        await ctx.http.get("/bad", cost=cost)

    plugin = Stranger(asks, upstream=COUNTED, asks={"tokens": 1})
    cost_it_alone(await ran(plugin, tmp_path, dsn))


@pytest.mark.parametrize("cost", [NAN, -5])
async def test_an_answer_that_cost_no_number_costs_its_request_alone(
    cost: Any, dsn: str, tmp_path: Path
) -> None:
    def spent(response: Any) -> Any:
        return {"tokens": cost} if response.url.endswith("/bad") else {}

    plugin = Stranger(asks, upstream={**COUNTED, "spent": spent}, asks={"tokens": 1})
    cost_it_alone(await ran(plugin, tmp_path, dsn))


@pytest.mark.parametrize("seconds", [INF, -1.0])
async def test_a_lock_of_no_seconds_that_a_judge_finds_costs_its_request_alone(
    seconds: float, dsn: str, tmp_path: Path
) -> None:
    def judge(response: Any) -> Any:
        return throttled(seconds)() if response.url.endswith("/bad") else None

    async def asks(ctx: Any) -> None:
        await ctx.http.get("/bad")

    told = Told()
    await ran(Stranger(asks, upstream={"judge": judge}), tmp_path, dsn, told=told)
    cost_it_alone(told)
    assert len(told.asked) < 100, "it is asked again and again"


ODD_UPSTREAMS: dict[str, Callable[[Any, Any], Any]] = {
    "none": lambda _, __: None,
    "an error": lambda _, __: 1 / 0,
    "no quotas": lambda s, _: Upstream(s.base_url, quotas=None),  # type: ignore[arg-type]
    "a quota of another name": lambda s, _: Upstream(s.base_url, (Quota("other"),)),
    "part of a slot": lambda s, _: Upstream(
        s.base_url,
        (Quota("all", concurrency=1.5),),  # type: ignore[arg-type]
    ),
    "windows without end": lambda s, _: Upstream(
        s.base_url,
        (Quota("all", SlidingWindow(INF, 60)),),  # type: ignore[arg-type]
    ),
    "a header of nothing": lambda s, _: Upstream(
        s.base_url,
        (Quota("all"),),
        {"a": None},  # type: ignore[dict-item]
    ),
}


@pytest.mark.parametrize("upstream", ODD_UPSTREAMS.values(), ids=ODD_UPSTREAMS)
async def test_an_upstream_that_is_none_is_its_plugins_fault(
    upstream: Any, dsn: str, tmp_path: Path
) -> None:
    with pytest.raises(SyncdError, match="stranger"):  # as one line, and no traceback
        await ran(Stranger(declares={"upstream": upstream}), tmp_path, dsn)


async def test_an_upstream_that_is_none_after_a_reload_leaves_the_daemon_as_it_was(
    dsn: str, tmp_path: Path
) -> None:
    lies = False

    def upstream(settings: Any, _: Any) -> Any:
        return None if lies else Upstream(settings.base_url, quotas=(Quota("all"),))

    told = Told()

    async def reload(process: Process) -> None:
        nonlocal lies
        await seen("work", lambda: told.said(RunFinished))
        lies = True
        os.kill(os.getpid(), signal.SIGHUP)
        await seen("its refusal", lambda: told.said(ConfigRejected))
        before = len(told.said(RunFinished))
        others = lambda: "saboteur" in str(told.said(RunFinished)[before:])  # noqa: E731
        await seen("work of the other connector", others)
        process.drain("the test is over")

    async def main(process: Process) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(reload, process)
            await serve(process, lambda: (process.config, process.plugins))

    await ran(Stranger(declares={"upstream": upstream}), tmp_path, dsn, main, told=told)
    assert len(told.said(ConfigRejected)) == 1


# --- What is made of rows -------------------------------------------------------------------------

COUNTS: list[dict[str, Any]] = [
    {"inserted": "1"},
    {"updated": None},
    {"unchanged": NAN},
    {"stale": 2**63},
    {"inserted": [1]},
    {"inserted": -5},
]


@pytest.mark.parametrize("counts", COUNTS, ids=repr)
async def test_counts_that_are_none_cost_their_partition_alone(
    counts: dict[str, Any], dsn: str, tmp_path: Path
) -> None:
    def write(_: Any, rows: Sequence[Any]) -> Written:
        return Written(**counts) if rows[0].bad else Written(inserted=len(rows))

    told = await ran(Stranger(writes=Writer(write)), tmp_path, dsn)
    cost_it_alone(told)
    assert "write of stream things" in told.of("bad").message


@pytest.mark.parametrize("does", ["commit", "rollback", "close"])
async def test_a_writer_that_ends_the_transaction_costs_its_partition_alone(
    does: str, dsn: str, tmp_path: Path
) -> None:
    def write(connection: Any, rows: Sequence[Any]) -> Written:
        if rows[0].bad:
            getattr(connection, does)()
        return Written(inserted=len(rows))

    cost_it_alone(await ran(Stranger(writes=Writer(write)), tmp_path, dsn))


def parcel_of(row: Any, **odd: Any) -> Effect:
    return attrs.evolve(Effect("stranger.parcel", f"k{row.id}", {}), **odd)


ODD_EFFECTS: dict[str, dict[str, Any]] = {
    "a delay in words": {"delay_seconds": "5"},
    "no delay": {"delay_seconds": None},
    "bytes of no JSON": {"payload": msgspec.Raw(b"{bad")},
    "a number beyond numbers": {"payload": msgspec.Raw(b"[1e999999999]")},
}


async def delivered(_: Any, effects: Sequence[Any]) -> Any:
    return {each.id: Delivered() for each in effects}


@pytest.mark.parametrize("odd", ODD_EFFECTS.values(), ids=ODD_EFFECTS)
async def test_an_odd_effect_of_a_writer_costs_its_partition_alone(
    odd: dict[str, Any], dsn: str, tmp_path: Path
) -> None:
    def write(_: Any, rows: Sequence[Any]) -> Written:
        effects = [parcel_of(row, **odd) for row in rows if row.bad]
        return Written(inserted=len(rows), effects=effects)

    plugin = Stranger(
        writes=Writer(write, effects=(PARCEL.name,)),
        declares={"effects": (PARCEL,)},
        delivers={PARCEL.name: delivered},
    )
    cost_it_alone(await ran(plugin, tmp_path, dsn))


def unlike(row: Any, **odd: Any) -> Any:
    return WithEffects(row, [parcel_of(row, **odd)]) if row.bad else row


@pytest.mark.parametrize("odd", [*ODD_EFFECTS.values(), None], ids=[*ODD_EFFECTS, "no effects"])
async def test_an_odd_effect_of_a_record_sets_it_aside(
    odd: dict[str, Any] | None, dsn: str, tmp_path: Path
) -> None:
    def caused(row: Any) -> Any:
        if odd is None:
            return WithEffects(row, None) if row.bad else row  # type: ignore[arg-type]
        return unlike(row, **odd)

    plugin = Stranger(
        transforms=[Transform("caused", 1, caused, effects=(PARCEL.name,))],
        declares={"effects": (PARCEL,)},
        delivers={PARCEL.name: delivered},
    )
    told = await ran(plugin, tmp_path, dsn)
    assert {each.verdict for each in told.results} == {"complete"}
    assert sum(each.count for each in told.said(RecordsQuarantined)) == stranger.PAGES


@pytest.mark.parametrize("seconds", ["5", [1]])
async def test_an_answer_of_odd_seconds_costs_its_partition_alone(
    seconds: Any, dsn: str, tmp_path: Path
) -> None:
    async def ask(_: Any, rows: Sequence[Any]) -> Sequence[Any]:
        return [Later("busy", seconds) if row.bad else Done(row) for row in rows]

    cost_it_alone(await ran(Stranger(transforms=[AsyncTransform("ask", 1, ask)]), tmp_path, dsn))


# --- Deliveries -----------------------------------------------------------------------------------


def delivering(deliver: Any, kind: Any = PARCEL) -> Stranger:
    def caused(row: Any) -> Any:
        name = kind.name if row.bad else LETTER.name
        return WithEffects(row, [Effect(name, f"k{row.id}", {})])

    return Stranger(
        transforms=[Transform("caused", 1, caused, effects=(kind.name, LETTER.name))],
        declares={"effects": (kind, LETTER)},
        delivers={kind.name: deliver, LETTER.name: delivered},
    )


async def lived(plugin: Stranger, folder: Path, dsn: str) -> Told:
    """Walk once, and deliver until something failed."""
    told = Told()

    async def main(process: Process) -> Any:
        async with background.opened(process) as lanes, trio.open_nursery() as nursery:
            nursery.start_soon(lanes.run)
            job = process.config.jobs["things"]
            results = await run_job(process, job, mode="full", wait_seconds=1.0)
            await seen("a failure", lambda: told.said(EffectLaneDamped))
            lanes.retire()
        return results

    return await ran(plugin, folder, dsn, main, told=told)


def errors(dsn: str) -> list[str]:
    with psycopg.connect(dsn) as connection:
        found = connection.execute(
            "SELECT coalesce(last_error, '') FROM syncd.effect WHERE kind = 'stranger.parcel'"
        ).fetchall()
    assert found
    return [error for (error,) in found]


@pytest.mark.parametrize("seconds", ["60", None, NAN, HUGE])
async def test_odd_seconds_of_a_delivery_cost_its_lane_alone(
    seconds: Any, dsn: str, tmp_path: Path
) -> None:
    async def deliver(_: Any, __: Sequence[Any]) -> Any:
        error = throttled(seconds)()
        raise error

    told = await lived(delivering(deliver), tmp_path, dsn)
    assert not told.said(TaskFailed)
    assert all(MEND in error for error in errors(dsn))


async def test_a_wait_of_true_is_no_wait(dsn: str, tmp_path: Path) -> None:
    async def deliver(_: Any, effects: Sequence[Any]) -> Any:
        return {each.id: Retry("busy", seconds=True) for each in effects}

    await lived(delivering(deliver), tmp_path, dsn)
    assert all(MEND in error for error in errors(dsn))


async def test_a_kind_that_cannot_be_delivered_is_refused(dsn: str, tmp_path: Path) -> None:
    plugin = delivering(delivered, attrs.evolve(PARCEL, concurrency="4"))  # type: ignore[arg-type]
    with pytest.raises(HookError, match=r"stranger\.parcel: concurrency is '4'"):
        await lived(plugin, tmp_path, dsn)


# --- Routes ---------------------------------------------------------------------------------------

GOOD = [Record(msgspec.Raw(msgspec.json.encode(parcel(1, "sent"))))]
ODD_ANSWERS: dict[str, dict[str, Any]] = {
    "no status": {"status": None},
    "a status in words": {"status": "200"},
    "half an event": {"event_id": "\ud800", "records": {"parcels": GOOD}},
    "an event without a text": {"event_id": 7, "records": {"parcels": GOOD}},
    "no records": {"records": None},
    "a number of records": {"records": 7},
    "records that pass by": {"records": {"parcels": iter(GOOD)}},
    "text for records": {"records": {"parcels": "{}"}},
    "a header of two lines": {"headers": {"a": "b\r\nc: d"}},
    "a header with a blank": {"headers": {"a b": "c"}},
}


@pytest.mark.parametrize("odd", ODD_ANSWERS.values(), ids=ODD_ANSWERS)
async def test_an_odd_answer_of_a_route_is_told_as_its_plugins_fault(
    odd: dict[str, Any], dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(courier, "received", lambda _, __: RouteAnswer(**odd))
    async with counter(dsn, tmp_path / "syncd.toml") as here:
        answer = await here.post()

        assert (answer.status_code, answer.text) == (500, '{"error":"it could not be handled"}')
        assert [MEND in each.reason for each in here.told(RouteRefused)] == [True]
        await no_parcel_is_there(here)


async def no_parcel_is_there(here: Counter) -> None:
    (known,) = here.rows("SELECT to_regclass('courier.parcels') AS name")
    assert known["name"] is None or not here.states()


# --- Credentials ----------------------------------------------------------------------------------

NAIVE = datetime(2030, 1, 1)  # noqa: DTZ001
ODD_CREDENTIALS: dict[str, tuple[dict[str, Any], str]] = {
    "a moment of no zone": ({"access_expires_at": NAIVE}, ""),
    "another moment in words": ({"refresh_expires_at": "soon"}, ""),
    "a token in plain": (
        {"access_token": "abc"},
        "no Secret for its access_token",
    ),
}


@pytest.fixture
def office(
    dsn: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> World:
    """Two accounts, whose connector commands find installed."""
    install(tmp_path, monkeypatch)
    return World(dsn, TokenOffice("good", "bad"), tmp_path, capsys)


@pytest.mark.parametrize(
    ("answer", "said"),
    [(7, MEND), (None, MEND), ("\ud800", "\\ud800"), (SystemExit(3), MEND)],
    ids=repr,
)
async def test_an_odd_answer_to_a_check_is_a_finding(
    answer: Any, said: str, office: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def ask(_: Any) -> Any:
        if isinstance(answer, BaseException):
            raise answer
        return answer

    monkeypatch.setattr(Plugins, "check", lambda _, __: ask)
    with trio.fail_after(stranger.SECONDS):
        async with office.office.serve() as office.base_url:
            await trio.to_thread.run_sync(office.bring, office.office.csv())
            told = await trio.to_thread.run_sync(office.syncd, "check")

    assert told.out.count(said) == 2


@pytest.mark.parametrize(("odd", "said"), ODD_CREDENTIALS.values(), ids=ODD_CREDENTIALS)
async def test_good_tokens_are_used_whatever_stands_beside_them_and_others_are_the_plugins_fault(
    odd: dict[str, Any], said: str, office: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = token_office.renewed

    async def renewed(ctx: Any, old: Any) -> Any:
        new = await real(ctx, old)
        return attrs.evolve(new, **odd) if ctx.account.name == "bad" else new

    monkeypatch.setattr(token_office, "renewed", renewed)
    with trio.fail_after(stranger.SECONDS):
        async with office.office.serve() as office.base_url:
            csv = office.office.csv(good_for_seconds=0.0)
            await trio.to_thread.run_sync(office.bring, csv)
            results = await office.run()

    assert results["stamps.stamps[good]"].verdict == "complete"
    bad = results["stamps.stamps[bad]"]
    assert (bad.verdict == "complete") == (not said)
    assert said in bad.message
