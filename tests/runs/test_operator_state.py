"""Showing how far partitions are and setting it by hand: what is changed, and what refuses."""

from __future__ import annotations

import os
import signal
import subprocess
from datetime import datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import database_facts as facts
import pytest
from console import ENVIRONMENT, SYNCD, configured, syncd
from control_room import NOON, Room, ago, busy_room
from hypothesis import given
from hypothesis import strategies as st
from processes import DEADLINE_SECONDS, Programs
from traps import Step
from upstream import Shape, serving, true_rows

from syncd.store.selection import pattern_of

SLOW = Shape(cars=200, per_page=50, requests_per_second=2)  # one page is written at a time
MIDWAY = Step("after_commit", of="frontier_written")
SET = ("state", "set", "--watermark", NOON.isoformat())


@pytest.fixture
def room(dsn: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Room:
    return busy_room(dsn, tmp_path, capsys)


def listed(room: Room, *filters: str) -> list[str]:
    said = room.syncd("state", "list", "--json", *filters)
    assert said.code == 0
    return [row["partition"] for row in said.json()]


# --- Looking --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("filters", "those"),
    [
        ((), ["cars.cars", "cars.cars[priority]", "shop.orders[north]", "shop.orders[south]",
              "shop.returns_all[south]"]),
        (("--instance", "shop", "--account", "s*"),
         ["shop.orders[south]", "shop.returns_all[south]"]),
        (("--feed", "returns?all"), ["shop.returns_all[south]"]),
        (("--feed", "returns-all"), []),
        (("--instance", "c*", "--slice", ""), ["cars.cars"]),
        (("--slice", "pri*"), ["cars.cars[priority]"]),
    ],
)  # fmt: skip
def test_partitions_are_listed_whose_names_fit(
    room: Room, filters: tuple[str, ...], those: list[str]
) -> None:
    assert listed(room, *filters) == those


@given(st.text("ab*?%_\\", max_size=6), st.text("ab%_\\", max_size=6))
def test_a_pattern_means_what_its_glob_means(glob: str, name: str) -> None:
    assert _like(name, pattern_of(glob)) == fnmatchcase(name, glob)


def _like(name: str, pattern: str) -> bool:
    r"""Compare as PostgreSQL does: ``%`` any text, ``_`` any character, ``\`` the next as it is."""
    if not pattern:
        return not name
    first, rest = pattern[0], pattern[1:]
    if first == "%":
        return any(_like(name[skip:], rest) for skip in range(len(name) + 1))
    if first == "\\":
        return name[:1] == rest[0] and _like(name[1:], rest[1:])
    return bool(name) and (first in ("_", name[0])) and _like(name[1:], rest)


def test_a_list_says_who_holds_what_and_what_waits(room: Room) -> None:
    room.lease("shop", "north")
    room.execute(
        "UPDATE syncd.partition SET state = 'parked', parked_reason = 'r' WHERE slice = 'priority'"
    )

    said = room.syncd("state", "list")

    lines = said.out.splitlines()
    assert lines[0].split()[:3] == ["partition", "state", "watermark"]
    assert lines[1].split()[:2] == ["cars.cars", "due"]
    assert lines[2].split()[:2] == ["cars.cars[priority]", "parked"]
    assert lines[3].split()[:2] == ["shop.orders[north]", "leased"]
    assert lines[3].endswith("process 4711 on moon")


def test_one_partition_is_shown_with_all_that_is_known(room: Room) -> None:
    room.execute(
        "UPDATE syncd.partition SET failures = 3, failing_since = syncd.clock(), last_error = 'no'"
    )
    which = ("--instance", "shop", "--account", "north")

    said = room.syncd("state", "show", *which)
    shown = room.syncd("state", "show", *which, "--json").json()

    lines = dict(line.split("  ", 1) for line in said.out.splitlines())
    found = {name: text.strip() for name, text in lines.items()}
    assert found["partition"] == "shop.orders[north]"
    assert found["open pass"].startswith("incremental pass 2 since ")
    assert found["its cursors"] == "1 closed, 2 open"
    assert found["debt"] == "2 failed items of earlier passes"
    assert found["last run"].startswith("waiting ")
    assert found["last run"].endswith("job night: some wait")
    assert found["failing"].startswith("3 runs in a row since ")
    assert shown["open_pass"]["records"] == 40
    assert shown["last_run"]["epoch"] == shown["epoch"] == 4
    assert shown["row_fingerprints"] == {"orders": {"row": "r", "version_rule": "v"}}
    walked = [each for each in shown["cursors"] if each["of_open_pass"]]
    assert {each["state"]: each["cursors"] for each in walked} == {"closed": 1, "open": 2}


def test_only_one_partition_is_shown(room: Room) -> None:
    several = room.syncd("state", "show", "--instance", "shop")
    none = room.syncd("state", "show", "--instance", "none")

    assert (several.code, none.code) == (64, 64)
    assert "3 partitions match (shop.orders[north], " in several.err
    assert "`syncd state list`" in none.err


# --- Changing -------------------------------------------------------------------------------------


def test_a_watermark_is_set_and_open_passes_are_set_aside(room: Room) -> None:
    untouched = room.rows("SELECT to_jsonb(p) FROM syncd.partition p WHERE instance = 'cars'")

    said = room.syncd(*SET, "--instance", "shop", "--feed", "orders", "--yes", "--json")

    assert said.code == 0
    assert said.json()["partitions"] == ["shop.orders[north]", "shop.orders[south]"]
    assert said.json()["passes_superseded"] == 2
    query = "SELECT feed, watermark = %s AS set, epoch FROM syncd.partition WHERE instance = 'shop'"
    assert [tuple(row.values()) for row in room.rows(f"{query} ORDER BY id", NOON)] == [
        ("orders", True, 5), ("orders", True, 5), ("returns_all", False, 4),
    ]  # fmt: skip
    states = room.rows("SELECT state FROM syncd.pass WHERE number = 2 ORDER BY partition_id")
    assert [row["state"] for row in states] == ["superseded", "superseded", "open"]
    assert untouched == room.rows(
        "SELECT to_jsonb(p) FROM syncd.partition p WHERE instance = 'cars'"
    )


def test_a_partition_without_a_full_pass_says_that_the_next_one_is_full(room: Room) -> None:
    room.execute("UPDATE syncd.partition SET row_fingerprints = '{}' WHERE account = 'north'")

    said = room.syncd(*SET, "--instance", "shop", "--feed", "orders", "--yes")

    assert "no full pass has ended yet, the next one is full: shop.orders[north]\n" in said.out


def test_clearing_forgets_all_that_would_make_the_next_pass_less_than_full(room: Room) -> None:
    room.execute(
        "INSERT INTO syncd.validator SELECT id, '\\x00112233445566778899aabbccddeeff',"
        " '\\x00112233445566778899aabbccddeeff', '\"e\"', NULL, 'f', '[]', true, true, 1, '{}', 1"
        " FROM syncd.partition"
    )

    said = room.syncd("state", "clear", "--instance", "shop", "--account", "north", "--yes")

    assert said.code == 0
    assert "cleared: 1 partition\n  shop.orders[north]\n" in said.out
    assert "open pass set aside: 1" in said.out
    assert said.out.endswith("the next pass is full\n")
    query = "SELECT epoch, row_fingerprints FROM syncd.partition WHERE watermark IS NULL"
    assert room.rows(query) == [{"epoch": 5, "row_fingerprints": {}}]
    assert len(room.rows("SELECT FROM syncd.validator")) == 4
    debt = (
        "SELECT FROM syncd.frontier f JOIN syncd.pass s ON s.id = pass_id WHERE f.state = 'failed'"
    )
    assert len(room.rows(debt)) == 6  # what is owed stays owed


@pytest.mark.parametrize("words", [SET, ("state", "clear")])
def test_a_lease_on_one_of_them_keeps_all_from_being_changed(
    room: Room, words: tuple[str, ...]
) -> None:
    room.lease("shop", "south")
    before = room.everything()

    said = room.syncd(*words, "--instance", "shop", "--yes")

    assert said.code == 75
    assert said.err.startswith(
        "syncd: shop.orders[south]: process 4711 on moon holds it (and 1 more"
    )
    assert "nothing was changed" in said.err
    assert room.everything() == before


def test_a_lease_that_has_run_out_is_taken_away_and_its_run_is_lost(room: Room) -> None:
    room.lease("shop", "north", seconds=-1)

    said = room.syncd(*SET, "--account", "north", "--yes", "--json")

    assert said.json()["runs_lost"] == 1
    query = "SELECT epoch, token, owner, lease_until FROM syncd.partition WHERE account = 'north'"
    assert room.rows(query) == [{"epoch": 6, "token": None, "owner": None, "lease_until": None}]
    lost = room.rows("SELECT status, message FROM syncd.run WHERE epoch = 5")
    assert lost == [{"status": "lost", "message": "its watermark was set by hand"}]


WRONG: list[tuple[tuple[str, ...], int, str]] = [
    (("state", "set", "--yes", "--instance", "shop", "--watermark", "soon"), 64, "such as 2026"),
    (("state", "set", "--yes", "--instance", "shop", "--watermark", "2026-01-31"), 64, "no zone"),
    (
        ("state", "set", "--yes", "--instance", "shop", "--watermark", "2999-01-31T06:00Z"),
        1,
        "future",
    ),
    ((*SET, "--yes"), 64, "at least one filter"),
    ((*SET, "--yes", "--instance", "none"), 64, "no partition matches --instance 'none'"),
    ((*SET, "--instance", "shop"), 64, "add --yes"),
    (("state", "clear", "--yes"), 64, "at least one filter"),
    (("state", "clear", "--instance", "shop"), 64, "add --yes"),
]


@pytest.mark.parametrize(("words", "code", "says"), WRONG)
def test_what_is_asked_wrongly_changes_nothing(
    room: Room, words: tuple[str, ...], code: int, says: str
) -> None:
    before = room.everything()

    said = room.syncd(*words)

    assert (said.code, said.out) == (code, "")
    assert says in said.err
    assert room.everything() == before


@pytest.mark.parametrize(("answer", "code"), [("n", 1), ("y", 0)])
def test_on_a_terminal_the_operator_is_asked(room: Room, answer: str, code: int) -> None:
    before = room.everything()
    master, slave = os.openpty()
    os.write(master, f"{answer}\n".encode())

    done = subprocess.run(
        [SYNCD, "-c", room.file, "state", "clear", "--account", "north"],
        stdin=slave,
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        env=ENVIRONMENT,
        check=False,
    )

    for end in (master, slave):
        os.close(end)
    assert done.returncode == code, done.stderr
    assert "Forget watermark, fingerprints and open pass of shop.orders[north]?" in done.stderr
    assert ("nothing was changed" in done.stderr) == (answer == "n")
    assert (room.everything() == before) == (answer == "n")


# --- Processes that do not know of it -------------------------------------------------------------

FENCING: list[tuple[Any, ...]] = [
    (*SET, "--instance", "cars", "--yes"),
    ("state", "clear", "--instance", "cars", "--yes"),
    ("after-restore", "--yes"),
]


@pytest.mark.parametrize("words", FENCING, ids=[" ".join(words[:2]) for words in FENCING])
async def test_a_process_that_still_believes_in_its_lease_writes_nothing_afterwards(
    words: tuple[str, ...], dsn: str, programs: Programs, tmp_path: Path
) -> None:
    facts.audit_commits(dsn)
    async with serving(SLOW) as upstream:
        config = configured(upstream, tmp_path, dsn)
        late = programs.start(config, at=MIDWAY, sends=signal.SIGSTOP)
        await late.halted()
        if words[0] == "state":
            facts.expire_lease(dsn)  # it stands still, and does not know
        (before,) = facts.runs(dsn)

        said = await syncd("-c", config, *words, folder=tmp_path)
        stands = facts.partition(dsn)
        late.send(signal.SIGCONT)

        assert said.code == 0, said.err
        # It claims the partition anew, unless the server has closed its connection meanwhile.
        assert await late.ended() in {0, 69}, late.said()
        assert late.events("run.finished")[0]["status"] == "lost"
        rest = await syncd("-c", config, "run", "cars", folder=tmp_path)
        assert rest.code == 0
        first, *later = facts.runs(dsn)
        assert (first.epoch, first.status, first.pages) == (1, "lost", before.pages)
        assert {run.status for run in later} == {"complete"}
        assert min(facts.audited(dsn).keys() - {1}) == 3
        assert stands["epoch"] == 2
        assert facts.stored_rows(dsn) == true_rows(upstream.simulator.inventory)
    if words[1] == "set":
        assert stands["watermark"] == datetime.fromisoformat(NOON.isoformat())


def test_a_watermark_that_has_just_passed_is_none_of_the_future(room: Room) -> None:
    said = room.syncd("state", "set", "--instance", "cars", "--watermark", ago(seconds=1), "--yes")

    assert said.code == 0
