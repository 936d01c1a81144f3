"""What waits for an operator: records set aside, failed items, what is parked, a backup."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from control_room import Room, busy_room
from database import connect
from upstream import API_KEY

from syncd import bulk
from syncd.errors import Rejected

ESCAPE = b'{"id": 3, "title": "\x1b[2Jgone"}'
RECORDS = [
    Rejected("lots", "key", "lot: null", b'{"id": 1, "lot": null}', None, parent={"car_id": 8}),
    Rejected("lots", "decode", f"says {API_KEY}", ESCAPE, None, cursor="page 2"),
    Rejected("cars", "refused", "too long", b"\xff\xfe", '{"id": 4}', version=77),
    Rejected("cars", "dump", "finished", None, '{"id": 5}'),
    Rejected("cars", "transform", "large", b"y" * 70_000, None),
]


@pytest.fixture
def room(dsn: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Room:
    """A busy room, with five records set aside."""
    busy = busy_room(dsn, tmp_path, capsys)
    with connect(dsn) as connection:
        bulk.quarantine(connection, RECORDS, instance="cars", account="default", pass_id=1)
        bulk.quarantine(connection, RECORDS[:1], instance="shop", account="north", pass_id=2)
        bulk.quarantine(connection, RECORDS[:1], instance="shop", account="north", pass_id=2)
    return busy


def ids(room: Room, *filters: str) -> dict[str, int]:
    """Return the numbers of the records that a list shows, by message."""
    said = room.syncd("quarantine", "list", "--json", *filters)
    assert said.code == 0
    return {each["message"]: each["id"] for each in said.json()["records"]}


# --- Records that were set aside ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("filters", "messages"),
    [
        (("--stream", "cars"), {"too long", "finished", "large"}),
        (("--instance", "shop"), {"lot: null"}),
        (("--reason", "d*"), {"says ***", "finished"}),
        (("--account", "n?rth", "--reason", "key"), {"lot: null"}),
        (("--instance", "none"), set()),
    ],
)
def test_records_are_listed_that_fit(
    room: Room, filters: tuple[str, ...], messages: set[str]
) -> None:
    assert set(ids(room, *filters)) == messages


def test_a_list_says_how_often_records_came_and_how_many_more_there_are(room: Room) -> None:
    some = room.syncd("quarantine", "list", "--limit", "2")
    shop = room.syncd("quarantine", "list", "--instance", "shop", "--json").json()
    none = room.syncd("quarantine", "list", "--instance", "none")

    assert some.out.splitlines()[0].split()[:3] == ["id", "stream", "account"]
    assert some.out.splitlines()[-1] == "4 more records; see them with --limit"
    assert (shop["matching"], shop["records"][0]["repeats"]) == (1, 1)
    assert (none.code, none.out) == (0, "no records\n")


def test_a_record_is_shown_as_far_as_it_can_be_read_and_no_terminal_obeys_it(room: Room) -> None:
    known = ids(room)
    shown = {
        name: room.syncd("quarantine", "show", str(number)).out for name, number in known.items()
    }

    assert '"lot": null' in shown["lot: null"]
    assert "\x1b" not in shown["says ***"]
    assert "\\x1b[2Jgone" in shown["says ***"]
    assert "page       page 2" in shown["says ***"]
    assert "\\xff\\xfe" in shown["too long"]
    assert "version    77" in shown["too long"]
    assert "its bytes are not known" in shown["finished"]
    assert "raw, the first 65536 of 68.4 KiB:" in shown["large"]


def test_a_shown_record_is_one_json_document(room: Room) -> None:
    known = ids(room, "--instance", "cars")

    said = room.syncd("quarantine", "show", *map(str, known.values()), "--json")

    found = {each["message"]: each for each in said.json()}
    assert msgspec.json.decode(found["lot: null"]["raw"]) == {"id": 1, "lot": None}
    assert found["lot: null"]["parent"] == {"car_id": 8}
    assert {name: each["complete"] for name, each in found.items()} == {
        "lot: null": True, "says ***": True, "too long": True, "finished": False, "large": False,
    }  # fmt: skip


def test_only_what_fits_is_discarded(room: Room) -> None:
    known = ids(room)

    by_number = room.syncd(
        "quarantine", "discard", "--id", str(known["large"]), "--id", "99", "--yes", "--json"
    )
    by_reason = room.syncd(
        "quarantine", "discard", "--instance", "cars", "--reason", "key", "--yes"
    )

    assert by_number.json() == {"discarded": 1}
    assert by_reason.out == "discarded: 1\n"
    assert set(ids(room)) == {"says ***", "too long", "finished", "lot: null"}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("quarantine", "discard", "--yes"), "at least one filter"),
        (("quarantine", "discard", "--reason", "key"), "add --yes"),
        (("quarantine", "replay"), "at least one filter"),
        (("quarantine", "show", "9999"), "no record 9999"),
        (("quarantine", "show"), "Missing argument"),
        (("cursors", "retry"), "at least one filter"),
        (("cursors", "discard", "--yes"), "at least one filter"),
        (("cursors", "discard", "--instance", "shop"), "add --yes"),
        (("park", "cars"), "--reason"),
        (("park", "cars", "--reason", " "), "say why"),
        (("park", "carz", "--reason", "r"), "did you mean 'cars'?"),
        (("park", "cars", "--feed", "x", "--reason", "r"), "there: cars, manufacturers"),
        (("resume", "cars", "--account", "x*"), "there: default"),
    ],
)
def test_what_is_asked_wrongly_changes_nothing(
    room: Room, words: tuple[str, ...], says: str
) -> None:
    before = room.everything()

    said = room.syncd(*words)

    assert (said.code, said.out) == (64, "")
    assert says in said.err
    assert room.everything() == before


# --- Items that could not be had ------------------------------------------------------------------


def test_failed_items_are_listed_with_their_keys_and_when_they_are_due(room: Room) -> None:
    said = room.syncd("cursors", "failed", "--account", "south", "--feed", "orders")
    found = room.syncd("cursors", "failed", "--cursor", "*11", "--json").json()

    _, due, waiting = (line.split() for line in said.out.splitlines())
    assert (due[0], due[2][-2:], "now" in due) == ("shop.orders[south]", "12", True)
    assert (waiting[2][-2:], "now" in waiting) == ("11", False)
    assert [each["partition"] for each in found] == [
        "shop.orders[north]", "shop.orders[south]", "shop.returns_all[south]",
    ]  # fmt: skip
    assert {(each["attempts"], each["due"], each["last_error"]) for each in found} == {
        (6, False, "GET /orders: 500")
    }


def test_only_failed_items_that_fit_are_made_due(room: Room) -> None:
    said = room.syncd("cursors", "retry", "--instance", "shop", "--account", "north")
    again = room.syncd("cursors", "retry", "--instance", "shop", "--account", "north", "--json")

    assert said.out.startswith("due now: 1; ")
    assert again.json() == {"due": 0}
    waiting = room.rows("SELECT state FROM syncd.frontier WHERE not_before > syncd.clock()")
    assert sorted(row["state"] for row in waiting) == ["failed"] * 2 + ["open"] * 3


def test_only_failed_items_that_fit_are_given_up(room: Room) -> None:
    said = room.syncd("cursors", "discard", "--feed", "orders", "--cursor", "*12", "--yes")

    assert said.out == "discarded: 2\n"
    left = room.rows("SELECT state, count(*) FROM syncd.frontier GROUP BY state ORDER BY state")
    assert [tuple(row.values()) for row in left] == [("closed", 3), ("failed", 4), ("open", 6)]


# --- Parking --------------------------------------------------------------------------------------


def parked(room: Room) -> list[tuple[Any, ...]]:
    """Return what is parked, and why."""
    found = room.rows(
        "SELECT name, parked_reason FROM syncd.account WHERE state = 'parked' UNION ALL"
        " SELECT feed || ':' || slice, parked_reason FROM syncd.partition WHERE state = 'parked'"
        " ORDER BY 1"
    )
    return [tuple(row.values()) for row in found]


def test_accounts_are_parked_by_hand_and_resumed(room: Room) -> None:
    first = room.syncd("park", "cars", "--reason", "their maintenance")
    again = room.syncd("park", "cars", "--reason", "another", "--json")
    told = parked(room)
    resumed = room.syncd("resume", "cars")

    assert (first.code, first.out) == (0, "parked 1 account: default\n")
    assert again.json()["accounts"] == []
    assert told == [("default", "their maintenance")]
    assert (resumed.out, parked(room)) == ("resumed: 1\n", [])


def test_an_account_that_never_ran_can_be_parked(room: Room) -> None:
    room.execute("TRUNCATE syncd.instance CASCADE")

    assert room.syncd("park", "cars", "--account", "def*", "--reason", "not yet").code == 0

    assert parked(room) == [("default", "not yet")]


def test_partitions_are_parked_by_feed_and_slice_and_accounts_are_not(room: Room) -> None:
    room.lease("cars", "default")

    said = room.syncd("park", "cars", "--slice", "priority", "--reason", "too slow")
    feed = room.syncd("park", "cars", "--feed", "c*", "--reason", "r", "--json")

    assert said.out.splitlines() == [
        "parked 1 partition: cars.cars[priority]",
        "1 partition of it runs just now, and goes on to the end of its run",
    ]
    assert feed.json() == {"accounts": [], "partitions": ["cars.cars"], "running": 2}
    assert parked(room) == [("cars:", "r"), ("cars:priority", "too slow")]


def test_partitions_are_resumed_by_slice_and_their_account_stays_parked(room: Room) -> None:
    for words in (["--slice", "*"], []):
        room.syncd("park", "cars", *words, "--reason", "r")

    said = room.syncd("resume", "cars", "--slice", "")
    everything = room.syncd("resume", "cars", "--json")

    assert said.out == "resumed: 1\n"
    assert "still parked as a whole: default; run `syncd resume cars`" in said.err
    assert everything.json() == {"resumed": 2, "accounts_still_parked": []}
    assert parked(room) == []


# --- After a backup was restored ------------------------------------------------------------------


def test_after_a_restore_no_lease_no_run_and_no_process_of_before_is_left(room: Room) -> None:
    room.lease("shop", "south")
    room.execute(
        "UPDATE syncd.daemon SET heartbeat_at = syncd.clock() - interval '5 min';"
        "INSERT INTO syncd.validator SELECT id, '\\x00112233445566778899aabbccddeeff',"
        " '\\x00112233445566778899aabbccddeeff', '\"e\"', NULL, 'f', '[]', true, true, 1, '{}', 1"
        " FROM syncd.partition"
    )
    epochs = "SELECT epoch FROM syncd.partition ORDER BY id"
    before = [row["epoch"] for row in room.rows(epochs)]

    said = room.syncd("after-restore", "--json")
    after = room.everything()
    raised = [row["epoch"] for row in room.rows(epochs)]
    again = room.syncd("after-restore")

    assert said.code == 0
    told = said.json()
    assert {name: told[name] for name in ("partitions", "runs", "processes", "validators")} == {
        "partitions": 5, "runs": 2, "processes": 1, "validators": 5,
    }  # fmt: skip
    assert raised == [epoch + 1 for epoch in before]
    assert room.rows("SELECT FROM syncd.partition WHERE token IS NOT NULL") == []
    assert room.rows("SELECT FROM syncd.daemon") == room.rows("SELECT FROM syncd.validator") == []
    assert not room.rows("SELECT FROM syncd.run WHERE status = 'running'")
    assert len(room.rows("SELECT FROM syncd.run WHERE status = 'lost'")) == 2
    looked = "\n".join(told["look_at"])
    for words in (
        "watermarks are those of the backup",
        "open passes",
        "cars.lots: 1 record set aside",
    ):
        assert words in looked
    assert again.code == 0
    assert again.out.splitlines()[:2] == ["fenced off: 5 partitions", "marked as lost: 0 runs"]
    assert room.everything()[2:] == after[2:]  # but for the epochs all is as it was


def test_a_database_on_which_processes_live_is_not_taken_for_restored(room: Room) -> None:
    room.lease("shop", "south")
    before = room.everything()

    refused = room.syncd("after-restore")

    assert (refused.code, refused.out) == (75, "")
    assert "process 4711 on moon gave a sign of life" in refused.err
    assert room.everything() == before
    assert room.syncd("after-restore", "--yes").code == 0
