"""`syncd effects`: what it shows, what it lets be tried again, and what it discards."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from console import ENVIRONMENT, SYNCD
from control_room import Room, Said, room
from database import connect
from processes import DEADLINE_SECONDS

from syncd.effects import Fate, Turn
from syncd.model import EffectKind
from syncd.store import effects as store
from syncd.store.effects import Posting

REGISTER = EffectKind("ship24.register_tracker", "all", bulk_max=100)
MAIL = EffectKind("mail.send", "all", bulk_max=100, ordered=True)
LONG = "1Z" + "9" * 200
DUE = "SELECT key, state, attempts FROM syncd.effect ORDER BY id"


@pytest.fixture
def desk(dsn: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Room:
    """Six effects, one in each state, and one that waits behind a dead one."""
    made = room(dsn, tmp_path, capsys)
    with connect(dsn) as connection:
        trackers = ("gone", "refused", "silent", LONG)
        postings = [_posting("ship24", "eu", REGISTER, key) for key in trackers]
        mails = [_posting("mail", "default", MAIL, key, "to-ann") for key in ("first", "second")]
        store.enqueue(connection, postings + mails, ordered=True)
        fates = {
            "gone": Fate("delivered", response='{"trackerId": "t-1"}'),
            "refused": Fate("dead", error="trackingNumber is no text"),
            "first": Fate("dead", error="tried 20 times; last: 503"),
            LONG: Fate("pending", 3600.0, "the quota is at its end"),
        }
        for kind, instance, account in ((REGISTER, "ship24", "eu"), (MAIL, "mail", "default")):
            token = uuid4()
            claimed = store.claim(
                connection,
                kind,
                instance=instance,
                turns=[Turn(account)],
                owner=uuid4(),
                token=token,
                claim_seconds=3600.0,
            )
            known = [(each, fates[each.key]) for each in claimed if each.key in fates]
            store.record(connection, known, token=token)
    return made


def _posting(instance: str, account: str, kind: EffectKind, key: str, order: Any = None) -> Posting:
    return Posting(instance, account, kind.name, key, '{"n": 1}', order, 0.0, "front.shipments", 7)


def _keys(said: Said) -> dict[str, str]:
    return {each["key"]: each["state"] for each in said.json()["effects"]}


def _states(desk: Room) -> dict[str, str]:
    return {row["key"]: row["state"] for row in desk.rows(DUE)}


def _words(line: str) -> str:
    return " ".join(line.split())


def test_effects_are_listed_with_why_they_wait(desk: Room) -> None:
    said = desk.syncd("effects", "list")
    assert (said.code, said.err) == (0, "")
    heading, *lines = map(_words, said.out.splitlines())
    assert heading == "id kind to key state attempts enqueued due or ended last error"
    assert len(lines) == 6
    by_key = {line.split()[3][:10]: line for line in lines}
    assert "mail.send mail.default second behind " in by_key["second"]
    assert by_key["first"].endswith("tried 20 times; last: 503")
    assert " ship24.eu refused dead 1 " in by_key["refused"]
    assert LONG not in said.out  # cut
    assert "the quota is at its end" in by_key[LONG[:10]]

    everything = desk.syncd("effects", "list", "--json").json()
    assert everything["matching"] == 6
    (gone,) = [each for each in everything["effects"] if each["key"] == "gone"]
    assert (gone["response"], gone["payload"]) == ({"trackerId": "t-1"}, {"n": 1})
    assert LONG in _keys(desk.syncd("effects", "list", "--json"))

    few = desk.syncd("effects", "list", "--limit", "2")
    assert few.out.splitlines()[-1] == "4 more effects; see them with --limit"
    assert len(few.out.splitlines()) == 4
    limited = desk.syncd("effects", "list", "--limit", "2", "--json").json()
    assert (limited["matching"], len(limited["effects"])) == (6, 2)

    desk.execute("UPDATE syncd.effect SET due_at = syncd.clock() WHERE key = 'silent'")
    assert " silent unknown 1 " in _words(desk.syncd("effects", "list", "--key", "silent").out)


def test_filters_choose(desk: Room) -> None:
    def chosen(*filters: str) -> set[str]:
        return set(_keys(desk.syncd("effects", "list", "--json", *filters)))

    ids = {row["key"]: str(row["id"]) for row in desk.rows("SELECT key, id FROM syncd.effect")}
    assert chosen("--kind", "mail.*") == chosen("--instance", "mail") == {"first", "second"}
    assert chosen("--account", "e?") == {"gone", "refused", "silent", LONG}
    assert chosen("--key", "1Z*") == {LONG}
    assert chosen("--state", "dead") == {"refused", "first"}
    assert chosen("--state", "dead", "--state", "delivered") == {"refused", "first", "gone"}
    assert chosen("--id", ids["gone"], "--id", ids["first"]) == {"gone", "first"}
    assert chosen("--id", ids["gone"], "--kind", "mail.*") == set()

    none = desk.syncd("effects", "list", "--key", "1_*")
    assert (none.code, none.out) == (0, "no effects\n")
    assert desk.syncd("effects", "list", "--key", "1_*", "--json").json() == {
        "matching": 0,
        "effects": [],
    }
    assert desk.syncd("effects", "list", "--state", "lost").code == 64


def test_stats_count_by_kind(desk: Room) -> None:
    desk.execute("UPDATE syncd.effect SET enqueued_at = syncd.clock() - interval '2 hours'")
    said = desk.syncd("effects", "stats")
    assert [_words(line) for line in said.out.splitlines()] == [
        "kind to pending delivering delivered dead discarded oldest open",
        "mail.send mail 1 0 0 1 0 2h00m",
        "ship24.register_tracker ship24 1 1 1 1 0 2h00m",
    ]
    mail, ship24 = desk.syncd("effects", "stats", "--json").json()
    assert (mail["kind"], mail["pending"], mail["dead"]) == ("mail.send", 1, 1)
    assert ship24["delivering"] == 1
    assert 7200 <= ship24["oldest_seconds"] < 9000


def test_the_status_says_what_to_do_about_dead_effects_and_those_that_nobody_delivers(
    desk: Room,
) -> None:
    said = desk.syncd("status", "--json").json()
    asked = {each["what"]: each["do"] for each in said["tasks"] if "effect" in each["what"]}

    assert asked == {
        "mail.default: 1 effect of kind mail.send stranded (nobody delivers them here)": (
            "have a configuration deliver them, or run `syncd effects discard --instance mail "
            "--account default --kind mail.send`"
        ),
        "ship24.eu: 2 effects of kind ship24.register_tracker stranded (nobody delivers them "
        "here)": (
            "have a configuration deliver them, or run `syncd effects discard --instance ship24 "
            "--account eu --kind ship24.register_tracker`"
        ),
        "mail: 1 effect of kind mail.send dead": (
            "see why with `syncd effects list --instance mail --kind mail.send --state dead`, mend "
            "it, then run `syncd effects retry --instance mail --kind mail.send --state dead`"
        ),
        "ship24: 1 effect of kind ship24.register_tracker dead": (
            "see why with `syncd effects list --instance ship24 --kind ship24.register_tracker "
            "--state dead`, mend it, then run `syncd effects retry --instance ship24 --kind "
            "ship24.register_tracker --state dead`"
        ),
    }
    lines = desk.syncd("status").out.splitlines()
    assert {f"  {what}; {do}" for what, do in asked.items()} <= set(lines)
    assert [row["account_is"] for row in said["stranded"]] == ["undelivered"] * 2


def test_what_has_ended_undelivered_is_tried_again_and_nothing_else(desk: Room) -> None:
    before = _states(desk)
    for command in ("retry", "discard"):
        refused = desk.syncd("effects", command)
        assert refused.code == 64
        assert "say which: give at least one filter" in refused.err
    none = desk.syncd("effects", "retry", "--key", "gone")
    assert (none.code, none.out) == (0, "no dead effect matches\n")
    assert _states(desk) == before

    said = desk.syncd("effects", "retry", "--instance", "*", "--key", "refused")
    assert (said.code, said.out) == (0, "to be tried again: 1\n")
    assert desk.syncd("effects", "retry", "--state", "dead", "--json").json() == {"retried": 1}
    assert _states(desk) == before | {"refused": "pending", "first": "pending"}
    assert {row["attempts"] for row in desk.rows(DUE) if row["key"] in ("refused", "first")} == {0}


def test_what_is_discarded_is_asked_about_first(desk: Room) -> None:
    before = _states(desk)
    nobody = desk.syncd("effects", "discard", "--state", "dead")
    assert nobody.code == 64
    assert "add --yes" in nobody.err
    none = desk.syncd("effects", "discard", "--key", "none")  # nothing to ask about
    assert (none.code, none.out) == (0, "no pending or dead effect matches\n")
    assert _states(desk) == before

    said = desk.syncd("effects", "discard", "--state", "dead", "--yes")
    assert (said.code, said.out) == (0, "discarded: 2\n")
    assert _states(desk) == before | {"refused": "discarded", "first": "discarded"}
    # What a daemon is delivering just now is left alone, as is what has been delivered.
    everything = desk.syncd("effects", "discard", "--instance", "*", "--yes", "--json")
    assert everything.json() == {"discarded": 2}
    after = before | dict.fromkeys(("refused", "first", "second", LONG), "discarded")
    assert _states(desk) == after


def test_the_question_is_heeded(desk: Room) -> None:
    def answered(answer: str) -> tuple[int, int, str]:
        master, slave = os.openpty()
        os.write(master, f"{answer}\n".encode())
        asked = subprocess.run(
            [SYNCD, "-c", str(desk.file), "effects", "discard", "--state", "dead"],
            stdin=slave,
            capture_output=True,
            check=False,
            timeout=DEADLINE_SECONDS,
            env=ENVIRONMENT,
        )
        os.close(slave)
        os.close(master)
        assert b"Discard up to 2 effects?" in asked.stderr
        dead = [state for state in _states(desk).values() if state == "dead"]
        return asked.returncode, len(dead), asked.stderr.decode()

    code, dead, said = answered("n")
    assert (code, dead) == (1, 2)
    assert "nothing was changed" in said
    assert answered("y")[:2] == (0, 0)
