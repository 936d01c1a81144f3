"""What upstreams tell the daemon by themselves: heard once, written once, and nobody is let in."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path

import attrs
import courier
import httpx
import pytest
import trio
from counter import TOKEN, Counter, answered, configured, counter, head, structured
from courier import BEARER, parcel
from fault_proxy import faulty
from processes import DEADLINE_SECONDS, Program, Programs, seen
from traps import Step

from syncd.admin import desk, requests
from syncd.admin.opening import opened
from syncd.errors import ConfigError, InvalidConfig, Unavailable
from syncd.events import (
    AdminListening,
    ConfigRejected,
    ConfigReloaded,
    DrainStarted,
    RecordsQuarantined,
    RouteReceived,
    RouteRefused,
)
from syncd.store import events
from syncd.store.hops import Connection


async def until(
    what: str, status: int, ask: Callable[[], Awaitable[httpx.Response]]
) -> httpx.Response:
    """Ask again until the answer has a status."""
    answer = await ask()
    with trio.move_on_after(DEADLINE_SECONDS):
        while answer.status_code != status:
            answer = await ask()
    assert answer.status_code == status, what
    return answer


async def test_what_an_event_brings_is_committed_before_it_is_answered_and_only_once(
    dsn: str, tmp_path: Path
) -> None:
    async with counter(dsn, tmp_path / "syncd.toml") as here:
        answer = await here.post(event_id="a", parcels=[parcel(1, "sent"), parcel(2, "sent")])
        assert (answer.status_code, answer.json()) == (200, {"heard": True})
        assert answer.headers["content-type"] == "application/json"
        assert here.states() == {1: "sent", 2: "sent"}

        later = parcel(1, "arrived", "2026-03-02T00:00:00Z")
        again = await here.post(event_id="a", parcels=[later])
        assert (again.status_code, again.json()) == (200, {"heard": True})
        assert here.states() == {1: "sent", 2: "sent"}, "an event of that id was heard"

        assert (await here.post(event_id="b", parcels=[later])).status_code == 200
        assert here.states() == {1: "arrived", 2: "sent"}

        lagging = parcel(1, "on its way", "2026-03-01T12:00:00Z")
        assert (await here.post(event_id="c", parcels=[lagging])).status_code == 200
        assert here.states() == {1: "arrived", 2: "sent"}, "events need not come in their order"

        assert (await here.post(parcels=[later])).status_code == 200, "an id is not needed"
        said = here.told(RouteReceived)
        counts = [(e.inserted, e.updated, e.unchanged, e.stale, e.repeated) for e in said]
        assert counts == [
            (2, 0, 0, 0, False),
            (0, 0, 0, 0, True),
            (0, 1, 0, 0, False),
            (0, 0, 0, 1, False),
            (0, 0, 1, 0, False),
        ]
        ids = here.rows("SELECT instance, event_id FROM syncd.event ORDER BY event_id")
        assert [tuple(row.values()) for row in ids] == [("courier", n) for n in "abc"]


async def test_an_event_that_comes_many_times_at_once_is_written_once(
    dsn: str, tmp_path: Path
) -> None:
    statuses: list[int] = []
    async with counter(dsn, tmp_path / "syncd.toml") as here:

        async def send(number: int) -> None:
            answer = await here.post(event_id="same", parcels=[parcel(number, "sent")])
            statuses.append(answer.status_code)

        async with trio.open_nursery() as nursery:
            for number in range(12):
                nursery.start_soon(send, number)
        assert statuses == [200] * 12
        assert len(here.states()) == 1
        assert sum(not event.repeated for event in here.told(RouteReceived)) == 1


async def test_a_bad_record_is_set_aside_and_its_event_counts_as_heard(
    dsn: str, tmp_path: Path
) -> None:
    async with counter(dsn, tmp_path / "syncd.toml") as here:
        bad = {"id": "none", "state": "sent", "updated_at": "2026-03-01T00:00:00Z"}
        answer = await here.post(event_id="a", parcels=[bad, parcel(2, "sent")])
        assert answer.status_code == 200
        assert here.states() == {2: "sent"}
        (aside,) = here.rows("SELECT * FROM syncd.quarantine")
        assert (aside["instance"], aside["account"], aside["stream"], aside["reason"]) == (
            "courier",
            "default",
            "parcels",
            "decode",
        )
        assert aside["cursor"] == '[["POST /webhook","a"],null]'
        assert [event.count for event in here.told(RecordsQuarantined)] == [1]
        again = await here.post(event_id="a", parcels=[bad])
        assert again.status_code == 200
        (aside,) = here.rows("SELECT repeats FROM syncd.quarantine")
        assert aside["repeats"] == 0


async def test_nobody_is_let_in_and_no_handler_harms_another(
    dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desk, "ANSWER_SECONDS", 1.0)
    async with counter(dsn, tmp_path / "syncd.toml") as here:
        wrong = BEARER[:-1] + "x"
        assert (await here.post(bearer=wrong, parcels=[parcel(1, "sent")])).status_code == 401
        assert (await here.ask("POST", "/plugins/courier/webhook")).status_code == 401
        for do in ("raise", "lie"):
            answer = await here.post(do=do)
            assert (answer.status_code, answer.json()) == (
                500,
                {"error": "it could not be handled"},
            )
        hung = await here.post(do="hang")
        assert (hung.status_code, hung.headers["retry-after"]) == (503, "10")
        courier.HUNG.set()
        assert (await here.post(account="nobody")).status_code == 404
        assert (await here.post(stream="letters", parcels=[{}])).status_code == 500
        assert (await here.post(status=999)).status_code == 500
        assert (await here.post(status=422, parcels=[parcel(1, "sent")])).status_code == 422

        hello = await here.ask("GET", "/plugins/courier/hello?a=1&a=2")
        assert (hello.status_code, hello.text) == (202, "GET /hello {'a': '2'}")
        assert (await here.ask("GET", "/plugins/courier/webhook")).headers["allow"] == "POST"
        for path in ("/plugins/courier", "/plugins/courier/other", "/plugins/other/webhook", "/"):
            assert (await here.ask("POST", path)).status_code == 404, path
        (known,) = here.rows("SELECT to_regclass('courier.parcels') AS name")
        assert known["name"] is None, "nothing was written"

        refused = [(event.status, event.reason) for event in here.told(RouteRefused)]
        assert [status for status, _ in refused] == [401, 500, 503, 404, 422]
        assert "RuntimeError" in refused[1][1]
        assert "it took over 1 s" in refused[2][1]
    assert "route.refused" in here.log.getvalue()
    assert BEARER not in here.log.getvalue()
    assert wrong not in here.log.getvalue()


async def test_a_body_that_is_too_large_or_too_slow_is_not_waited_for(
    dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    admin = 'listen = "127.0.0.1:0"\nbody_max = "1KiB"'
    async with counter(dsn, tmp_path / "syncd.toml", admin=admin) as here:
        announced = await here.ask("POST", "/plugins/courier/webhook", content=b"x" * 2048)
        assert announced.status_code == 413

        async def chunks() -> AsyncIterator[bytes]:
            for _ in range(3):
                yield b"x" * 1000

        assert (
            await here.ask("POST", "/plugins/courier/webhook", content=chunks())
        ).status_code == 413
        assert (
            await here.ask("POST", "/plugins/courier/webhook", content=b"x" * 1024)
        ).status_code == 401, "as large as may be: its sender is asked who it is"

        monkeypatch.setattr(requests, "BODY_SECONDS", 0.2)
        async with await here.stream() as slow:
            await slow.send_all(head(100) + b'{"event_id"')
            heard = await answered(slow)
        assert heard.startswith(b"HTTP/1.1 408 ")
        async with await here.stream() as gone:
            await gone.send_all(head(100) + b'{"event_id"')
        await seen("400", lambda: [e for e in here.told(RouteRefused) if e.status == 400])
        statuses = {event.status for event in here.told(RouteRefused)}
        assert statuses == {413, 401, 408, 400}


async def test_while_the_store_is_away_senders_are_asked_to_come_again(
    dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desk, "ANSWER_SECONDS", 1.0)
    async with faulty(dsn) as proxy, counter(proxy.dsn, tmp_path / "syncd.toml") as here:
        assert (await here.post(event_id="a", parcels=[parcel(1, "sent")])).status_code == 200
        assert (await here.ask("GET", "/readyz")).json() == {"status": "ready"}

        proxy.refuse()
        proxy.reset()
        away = await here.post(event_id="b", parcels=[parcel(2, "sent")])
        assert (away.status_code, away.headers["retry-after"]) == (503, "10")
        readiness = await until("/readyz says so", 503, lambda: here.ask("GET", "/readyz"))
        assert readiness.json() == {"status": "not ready", "reason": "the database is away"}
        assert (await here.ask("GET", "/healthz")).status_code == 200, "the process lives"

        proxy.heal()
        again = partial(here.post, event_id="b", parcels=[parcel(2, "sent")])
        await until("it is heard", 200, again)
        here.dsn = dsn
        assert here.states() == {1: "sent", 2: "sent"}
        assert len(here.rows("SELECT 1 FROM syncd.event")) == 2


@pytest.mark.parametrize("step", ["before_commit", "after_commit"])
async def test_a_crash_about_the_commit_loses_no_event_and_writes_none_twice(
    dsn: str, programs: Programs, tmp_path: Path, step: str
) -> None:
    config = configured(tmp_path / "syncd.toml", dsn)
    told = {"event_id": "a", "parcels": [parcel(1, "sent")]}

    async def send(daemon: Program) -> int:
        (listening,) = await daemon.event("admin.listening")
        async with httpx.AsyncClient(timeout=DEADLINE_SECONDS) as client:
            answer = await client.post(
                f"http://{listening['address']}/plugins/courier/webhook",
                json=told,
                headers={"authorization": f"Bearer {BEARER}"},
            )
        return answer.status_code

    dying = programs.start(config, serves=True, at=Step(step, of="upserted"))
    with pytest.raises(httpx.RemoteProtocolError):
        await send(dying)
    assert await dying.ended() == -signal.SIGKILL
    heir = programs.start(config, serves=True)
    assert await send(heir) == 200
    (received,) = await heir.event("route.received")
    assert received["repeated"] == (step == "after_commit")
    here = Counter(dsn)
    assert here.states() == {1: "sent"}
    assert len(here.rows("SELECT 1 FROM syncd.event")) == 1
    heir.send(signal.SIGTERM)
    assert await heir.ended() == 0, heir.said()


async def test_a_drain_answers_what_is_under_way_and_nothing_new(dsn: str, tmp_path: Path) -> None:
    async with counter(dsn, tmp_path / "syncd.toml") as here:
        body = b'{"event_id": "a", "parcels": []}'
        async with await here.stream() as slow, await here.stream() as late:
            await slow.send_all(head(len(body)) + body[:5])
            await late.send_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert (await late.receive_some()).startswith(b"HTTP/1.1 200 ")
            assert here.process is not None
            here.process.drain("a test")
            await seen("the drain", lambda: here.told(DrainStarted))

            assert (await here.post(event_id="b")).status_code == 503
            readiness = await here.ask("GET", "/readyz")
            assert readiness.json() == {"status": "not ready", "reason": "it stops"}
            await slow.send_all(body[5:])
            assert (await answered(slow)).startswith(b"HTTP/1.1 200 ")
        with trio.fail_after(DEADLINE_SECONDS):
            await here.ended.wait()
        assert [row["event_id"] for row in here.rows("SELECT * FROM syncd.event")] == ["a"]


async def test_a_renewed_configuration_is_served_and_another_address_needs_a_restart(
    dsn: str, tmp_path: Path
) -> None:
    file = tmp_path / "syncd.toml"
    async with counter(dsn, file) as here:
        assert (await here.post()).status_code == 200
        configured(file, dsn, bearer="another-one-invented")
        os.kill(os.getpid(), signal.SIGHUP)
        await seen("config.reloaded", lambda: here.told(ConfigReloaded))
        assert (await here.post()).status_code == 401
        assert (await here.post(bearer="another-one-invented")).status_code == 200

        configured(file, dsn, admin='listen = "127.0.0.1:1"')
        os.kill(os.getpid(), signal.SIGHUP)
        (rejected,) = await seen("config.rejected", lambda: here.told(ConfigRejected))
        assert "[admin]" in rejected.error
        assert (await here.post(bearer="another-one-invented")).status_code == 200


async def test_health_is_told_to_the_bearer_of_the_token_where_there_is_one(
    dsn: str, tmp_path: Path
) -> None:
    admin = f'listen = "127.0.0.1:0"\ntoken = "{TOKEN}"'
    async with counter(dsn, tmp_path / "syncd.toml", admin=admin) as here:
        for path in ("/healthz", "/readyz"):
            for wrong in ({}, {"authorization": f"Bearer {TOKEN}x"}, {"authorization": TOKEN}):
                refused = await here.ask("GET", path, headers=wrong)
                assert refused.status_code == 401
                assert refused.headers["www-authenticate"] == "Bearer"
            right = {"authorization": f"Bearer {TOKEN}"}
            assert (await here.ask("GET", path, headers=right)).status_code == 200
        assert (await here.post()).status_code == 200, "a route has a bearer of its own"


async def test_an_address_that_cannot_be_listened_on_is_told_at_once(
    dsn: str, tmp_path: Path
) -> None:
    async with counter(dsn, tmp_path / "syncd.toml") as here:
        assert here.process is not None
        for listen, kind, said in (
            (f"127.0.0.1:{here.port}", Unavailable, "in use"),
            ("192.0.2.1:8787", ConfigError, "choose an address of this machine"),
        ):
            admin = f'listen = "{listen}"\ntoken = "{TOKEN}"'
            configured(tmp_path / "other.toml", dsn, admin=admin)
            config, _ = structured(tmp_path / "other.toml")
            process = attrs.evolve(here.process, config=config)
            with pytest.raises(kind, match=said) as caught:
                async with opened(process):
                    pytest.fail("it listens")
            assert listen in str(caught.value)


@pytest.mark.parametrize(
    ("admin", "said"),
    [
        ('listen = "0.0.0.0:8787"', "has no token"),
        ('listen = "[::]:8787"', "has no token"),
        ('listen = "127.0.0.1:8787"\ntoken = "short"', "at least 16 characters"),
        ('listen = "8787"', "wanted ADDRESS:PORT"),
        ('listen = "::1:8787"', "wanted ADDRESS:PORT"),
        ('listen = "127.0.0.1:65536"', "wanted ADDRESS:PORT"),
        ('listen = "example.org:8787"', "wanted ADDRESS:PORT"),
    ],
)
def test_what_would_let_strangers_in_is_refused(tmp_path: Path, admin: str, said: str) -> None:
    file = configured(tmp_path / "syncd.toml", "postgresql://127.0.0.1/none", admin=admin)
    with pytest.raises(InvalidConfig, match=said) as caught:
        structured(file)
    assert "short" not in str(caught.value)


@pytest.mark.parametrize(
    ("listen", "alone"),
    [("localhost:1", True), ("[::1]:1", True), ("127.1.2.3:1", True), ("10.0.0.1:1", False)],
)
def test_loopback_is_this_machine_alone(tmp_path: Path, listen: str, alone: bool) -> None:
    admin = f'listen = "{listen}"\ntoken = "{TOKEN}"'
    file = configured(tmp_path / "syncd.toml", "postgresql://127.0.0.1/none", admin=admin)
    assert structured(file)[0].admin.on_loopback is alone


async def test_without_an_address_nothing_is_served(dsn: str, tmp_path: Path) -> None:
    async with counter(dsn, tmp_path / "syncd.toml", admin="# nothing") as here:
        assert here.told(AdminListening) == []


def test_events_are_remembered_for_thirty_days(connection: Connection) -> None:
    long = "é" * 300
    connection.execute("INSERT INTO syncd.instance VALUES ('courier', 'courier', '1', now())")
    for event_id in ("old", "new", long, "with\nlines", "with \0", ""):
        assert events.remember(connection, "courier", event_id)
        assert not events.remember(connection, "courier", event_id)
    connection.execute(
        "UPDATE syncd.event SET received_at = now() - interval '31 days' WHERE event_id = 'old'"
    )
    assert events.forget(connection) == 1
    assert events.forget(connection) == 0
    assert events.remember(connection, "courier", "old")
    assert not events.remember(connection, "courier", long)
