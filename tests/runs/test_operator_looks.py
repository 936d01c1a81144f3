"""What an operator looks at: the status, rows before anything is written, and schemas."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import attrs
import jsonschema  # type: ignore[import-untyped]
import msgspec
import pytest
import trio
from console import closed_port, configured, syncd
from control_room import Room, busy_room
from control_room import room as empty_room
from ticket_desk import Desk, Office
from upstream import API_KEY, Shape, serving, true_rows

from syncd.cli import previewing
from syncd.cli.commands import invoke
from syncd.cli.loading import Loaded
from syncd.errors import Unintelligible
from syncd.plugins import Plugins
from syncd.preview import Preview
from syncd_cars.simulator_faults import Fault, FaultKind

SMALL = Shape(cars=120, per_page=50, requests_per_second=100.0)


@pytest.fixture
def room(dsn: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Room:
    return busy_room(dsn, tmp_path, capsys)


# --- status ---------------------------------------------------------------------------------------


def test_where_nothing_has_run_the_status_says_what_to_do(
    dsn: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = empty_room(dsn, tmp_path, capsys).syncd("status")

    assert (said.code, said.out) == (0, "nothing has run here yet; `syncd run JOB` runs a job\n")


def test_the_status_counts_partitions_by_how_they_stand(room: Room) -> None:
    room.lease("shop", "north")
    room.execute(
        "UPDATE syncd.partition SET state = 'parked', parked_reason = 'n' WHERE slice <> '';"
        "UPDATE syncd.partition SET due_at = due_at + interval '2 h' WHERE feed = 'returns_all';"
        "UPDATE syncd.partition SET failures = 2, failing_since = due_at, last_error = 'e'"
        " WHERE account = 'south'"
    )

    found = {each["feed"]: each for each in room.syncd("status", "--json").json()["feeds"]}
    lines = room.syncd("status").out.splitlines()

    names = ("partitions", "ready", "due", "leased", "parked", "failing")
    assert {feed: tuple(each[name] for name in names) for feed, each in found.items()} == {
        "cars": (2, 1, 1, 0, 1, 0),
        "orders": (2, 1, 1, 1, 0, 1),
        "returns_all": (1, 1, 0, 0, 0, 1),
    }
    assert 3600 <= found["cars"]["late_seconds"] < 7200
    assert found["returns_all"]["late_seconds"] is None
    assert found["cars"]["last_status"] is None
    assert lines[0].split()[:2] == ["feed", "partitions"]
    assert lines[1].split() == ["cars.cars", "2", "1", "1", "0", "1", "0", "1h00m", "never"]


def test_the_status_says_what_goes_on(room: Room) -> None:
    room.lease("shop", "north")
    room.execute("CREATE SCHEMA shop; CREATE TABLE shop.orders AS SELECT generate_series(1, 1000)")

    said = room.syncd("status")
    shown = room.syncd("status", "--json").json()

    assert "process 4711 on moon (syncd 9.9): holds 1 partition, since " in said.out
    walked = next(
        line for line in said.out.splitlines() if "shop.orders[north]: incremental" in line
    )
    assert "incremental pass 2, begun " in walked
    assert walked.endswith(": 3 pages, 40 records; walked by process 4711 on moon")
    assert "shop.orders[south]: incremental pass 2" in said.out
    sizes = {each["schema"]: each["bytes"] for each in shown["sizes"]}
    assert sizes["shop"] > 8192
    assert {each["host"] for each in shown["processes"] if each["alive"]} == {"moon"}


def test_the_status_says_what_waits_for_an_operator_and_what_helps(room: Room) -> None:
    room.execute(
        "UPDATE syncd.account SET state = 'parked', parked_at = syncd.clock(),"
        " parked_reason = 'GET /orders: 401' WHERE name = 'north';"
        "UPDATE syncd.partition SET state = 'parked', parked_reason = 'a bug' WHERE slice <> '';"
        "UPDATE syncd.partition SET failures = 2, failing_since = due_at,"
        f" last_error = 'with {API_KEY}' WHERE feed = 'returns_all';"
        "INSERT INTO syncd.quarantine (instance, account, stream, record_key, reason, message,"
        " first_seen_at, last_seen_at) VALUES ('cars', 'default', 'lots',"
        " decode(repeat('00', 16), 'hex'), 'key', 'm', syncd.clock(), syncd.clock())"
    )

    said = room.syncd("status")
    tasks = room.syncd("status", "--json").json()["tasks"]

    assert said.code == 1
    assert [task["grave"] for task in tasks] == [True, True, *[False] * (len(tasks) - 2)]
    for words in (
        "account shop.north is parked: GET /orders: 401; mend it, then run `syncd resume shop",
        "`syncd resume shop --account north`",
        "`syncd resume cars --account default --feed cars --slice priority`",
        "3 partitions due, for up to 1h00m, and no process works here; start one: `syncd run JOB`",
        "with ***; it is tried again by itself",
        "shop.orders: 4 items could not be had; later passes try again; see `syncd cursors failed",
        "`syncd cursors failed --instance shop --feed orders`",
        "cars.lots: 1 record set aside (key); see `syncd quarantine list",
        "`syncd quarantine list --instance cars --stream lots --reason key`",
    ):
        assert words in said.out, words


def test_of_many_parked_partitions_some_are_told_of_and_the_rest_is_counted(room: Room) -> None:
    room.execute("UPDATE syncd.partition SET state = 'parked', parked_reason = 'r'")

    said = room.syncd("status", "--limit", "2")

    assert said.out.count("is parked: r; mend it") == 2
    assert "3 more: partition is parked" in said.out


# --- preview --------------------------------------------------------------------------------------


async def test_a_preview_shows_rows_without_any_database(tmp_path: Path) -> None:
    nowhere = f"postgresql://me:se-cr-et@127.0.0.1:{closed_port()}/none"
    async with serving(SMALL) as upstream:
        file = configured(upstream, tmp_path, nowhere)

        said = await syncd(
            "-c", file, "preview", "cars.cars", "--limit", "7", "--json", folder=tmp_path
        )
        lots = await syncd(
            "-c", file, "preview", "cars.lots", "--limit", "10000", "--json", folder=tmp_path
        )
        true = true_rows(upstream.simulator.inventory)

    assert (said.code, lots.code) == (0, 0)
    found = said.json()
    assert (found["table"], found["pages"], found["requests"], found["whole"]) == (
        "cars.cars", 1, 1, False,
    )  # fmt: skip
    names = ("id", "vin", "title", "year", "manufacturer", "model", "color")
    by_id = {row[0]: row for row in true["cars"]}
    shown = [tuple(row[name] for name in names) for row in found["rows"]]
    assert len(shown) == 7
    assert shown == [by_id[row[0]] for row in shown]
    assert lots.json()["whole"]
    keys = sorted((row["domain_id"], row["lot"], row["car_id"]) for row in lots.json()["rows"])
    assert keys == [row[:3] for row in true["lots"]]
    aside = [msgspec.json.decode(each["raw"])["id"] for each in lots.json()["quarantined"]]
    assert sorted(aside) == [row[0] for row in true["aside"]]
    assert {each["reason"] for each in lots.json()["quarantined"]} == {"key"}


async def test_a_preview_for_people_is_a_table_and_says_what_would_be_set_aside(
    tmp_path: Path,
) -> None:
    async with serving(SMALL) as upstream:
        file = configured(upstream, tmp_path, "host=127.0.0.1 port=1")

        said = await syncd("-c", file, "preview", "cars.lots", "--limit", "1000", folder=tmp_path)
        few = await syncd(
            "-c", file, "preview", "cars.lots", "--limit", "1000", "--pages", "1", folder=tmp_path
        )
        true = true_rows(upstream.simulator.inventory)

    assert said.code == 0
    assert {"domain_id", "lot", "car_id"} <= set(said.out.splitlines()[0].split())
    assert said.out.count("would be set aside (key)") == len(true["aside"])
    assert "3 pages, 3 requests; that is all there is; nothing was written" in said.out
    assert "1 page, 1 request; there may be more; nothing was written" in few.out


async def test_a_preview_keeps_to_the_limits_of_its_upstream(tmp_path: Path) -> None:
    async with serving(attrs.evolve(SMALL, requests_per_second=0.5)) as upstream:
        upstream.simulator.arm(Fault(kind=FaultKind.TOO_MANY_REQUESTS, page=2))
        file = configured(upstream, tmp_path, "host=127.0.0.1 port=1")
        began = trio.current_time()

        said = await syncd("-c", file, "preview", "cars.cars", "--limit", "120", folder=tmp_path)
        seconds = trio.current_time() - began
        statuses = [entry.status for entry in upstream.simulator.counts.log]

    assert (said.code, statuses) == (0, [200, 429, 200, 200])
    assert seconds > 6.0  # four requests, two seconds apart: without the limit it takes one
    assert "4 requests" in said.out
    assert [event["reason"] for event in said.events("request.retried")] == ["throttled"]


async def test_a_preview_with_a_wrong_key_is_one_line(tmp_path: Path) -> None:
    async with serving(SMALL) as upstream:
        file = configured(upstream, tmp_path, "host=127.0.0.1 port=1")
        file.write_text(file.read_text().replace(API_KEY, "a-wrong-key-that-nobody-may-see"))

        said = await syncd("-c", file, "preview", "cars.cars", folder=tmp_path)

    assert (said.code, said.out, len(said.words())) == (1, "", 1)
    assert "401" in said.words()[0]
    assert "nobody-may-see" not in said.err


async def previewed(office: Office, stream: str, account: str | None, **limits: int) -> Preview:
    """Preview as the console does, which has a Trio of its own."""
    loaded = Loaded(office.config("north", "south"), Plugins({"desk": office.plugin}), ())
    most = {"records_max": 100, "pages_max": 100} | limits
    asked = previewing.wanted(loaded, stream, account=account, slice=None, **most)
    return await trio.to_thread.run_sync(partial(previewing.preview, loaded, asked, as_json=True))


async def test_a_preview_follows_a_chain_to_the_records_of_its_stream_and_account() -> None:
    desk = Desk({0: ([1, 2], 1), 1: ([3, 1], None)})
    async with desk.serve() as base_url:
        office = Office("host=127.0.0.1 port=1", desk, base_url)

        some = await previewed(office, "desk.messages", "south", records_max=3)
        asked = dict(desk.asked)
        whole = await previewed(office, "desk.messages", None)
        few = await previewed(office, "desk.tickets", None, pages_max=1)

    names = ("id", "text", "ticket_id")
    assert [tuple(row[name] for name in names) for row in some.rows] == [
        (10, "south 0", 1), (11, "south 1", 1), (20, "south 0", 2),
    ]  # fmt: skip
    assert asked == {"south /search?at=0": 1, "south /tickets/1": 1, "south /tickets/2": 1}
    assert (some.pages, some.requests, some.whole) == (3, 3, False)
    assert ({row["text"][:5] for row in whole.rows}, whole.pages, whole.whole) == (
        {"north"},
        5,
        True,
    )
    assert (few.rows, few.whole) == ([], False)


async def test_a_page_that_cannot_be_understood_ends_a_preview_with_the_error_of_a_run() -> None:
    desk = Desk({0: ([1], None)})
    desk.garbled = {1}
    async with desk.serve() as base_url:
        office = Office("host=127.0.0.1 port=1", desk, base_url)

        with pytest.raises(Unintelligible, match="GET /tickets"):
            await previewed(office, "desk.tickets", "north")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("cars",), "wanted CONNECTOR.STREAM"),
        (("carz.cars",), "did you mean 'cars'?"),
        (("cars.lotz",), "did you mean 'lots'?"),
        (("cars.cars", "--account", "x"), "there: default"),
        (("cars.cars", "--limit", "0"), "--limit"),
    ],
)
def test_a_preview_of_what_is_not_configured_is_64(
    room: Room, words: tuple[str, ...], says: str
) -> None:
    said = room.syncd("preview", *words)

    assert (said.code, said.out) == (64, "")
    assert says in said.err


# --- schema ---------------------------------------------------------------------------------------


def schema(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    capsys.readouterr()
    assert invoke(["-c", "none.toml", "schema", *words]) == 0
    described = msgspec.json.decode(capsys.readouterr().out)
    jsonschema.Draft202012Validator.check_schema(described)
    return described


def test_schemas_are_printed_without_a_configuration(capsys: pytest.CaptureFixture[str]) -> None:
    whole, events = schema(capsys), schema(capsys, "--events")
    cars = schema(capsys, "--plugin", "cars")

    assert "connectors" in whole["properties"]
    assert "run.finished" in events["properties"]["event"]["enum"]
    assert "api_key" in cars["$defs"]["connectors.cars"]["properties"]
    assert invoke(["schema", "--plugin", "carz"]) == 64
    assert "did you mean 'cars'?" in capsys.readouterr().err
