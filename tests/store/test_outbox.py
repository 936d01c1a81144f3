"""The outbox: one effect for each key, claimed by one, recorded once (P46 to P49)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import attrs
import pytest
from database import connect

from syncd.effects import Fate, Turn
from syncd.model import EffectKind
from syncd.store import effects
from syncd.store.effects import Claimed, Enqueued, Posting
from syncd.store.hops import Connection
from syncd.store.selection import Outgoing

NOW = datetime(2026, 7, 1, tzinfo=UTC)
KIND = EffectKind("office.register", "all", bulk_max=10)
ORDERED = attrs.evolve(KIND, ordered=True)
CLAIM_SECONDS = 90.0
DONE = Fate("delivered", response='{"id": 7}')
AGAIN = Fate("pending", 60.0, "not now")


def posting(key: str, payload: str = "1", **other: Any) -> Posting:
    known: dict[str, Any] = {
        "instance": "office",
        "account": "default",
        "kind": KIND.name,
        "ordering_key": None,
        "delay_seconds": 0.0,
        "source": "shop.things",
        "row_version": 1,
    }
    return Posting(key=key, payload=payload, **{**known, **other})


@attrs.frozen
class Outbox:
    """The table, at a moment of its own."""

    connection: Connection
    token: Any = attrs.field(factory=uuid4)

    def enqueue(self, *postings: Posting, at: datetime = NOW) -> Enqueued:
        ordered = any(each.ordering_key for each in postings)
        return effects.enqueue(self.connection, postings, ordered=ordered, now=at)

    def claim(
        self, kind: EffectKind = KIND, *, at: datetime = NOW, accounts: Sequence[str] = ("default",)
    ) -> list[Claimed]:
        return effects.claim(
            self.connection,
            kind,
            instance="office",
            turns=[Turn(account) for account in accounts],
            owner=uuid4(),
            token=self.token,
            claim_seconds=CLAIM_SECONDS,
            now=at,
        )

    def record(self, claimed: Sequence[Claimed], fate: Fate, *, at: datetime = NOW) -> set[int]:
        fates = [(each, fate) for each in claimed]
        return effects.record(self.connection, fates, token=self.token, now=at)

    def other(self) -> Outbox:
        """The same, in another process's hands."""
        return Outbox(self.connection)

    def row(self, key: str) -> dict[str, Any]:
        (row,) = self.rows(key=key)
        return row

    def rows(self, **which: Any) -> list[dict[str, Any]]:
        return effects.listed(self.connection, Outgoing(**which), configured=(), most=1000, now=NOW)

    def state(self, key: str) -> str:
        return str(self.row(key)["state"])


@pytest.fixture
def outbox(connection: Connection) -> Outbox:
    return Outbox(connection)


def later(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


# --- Keys -----------------------------------------------------------------------------------------


def test_a_key_is_enqueued_once(outbox: Outbox) -> None:
    first = outbox.enqueue(posting("a"), posting("b"))
    again = outbox.enqueue(posting("a"), posting("b"))

    assert (first.counts, again.counts) == ({KIND.name: 2}, {})
    assert again.conflicts == []
    assert len(outbox.rows()) == 2


@pytest.mark.parametrize(
    "payload", ["null", '"null"', "[]", '{"a\\"": "\\\\ \\u00e9 \\n"}', "12345678901234567890.5"]
)
def test_a_payload_is_kept_as_it_is(outbox: Outbox, payload: str) -> None:
    text = 'a "quoted" \\ {key}, \u00e9'
    outbox.enqueue(posting(text, payload, row_version=2**63 - 1, delay_seconds=0.5))

    said = "SELECT payload = %s::jsonb AS same, row_version FROM syncd.effect WHERE key = %s"
    row = outbox.connection.execute(said, (payload, text)).fetchone()
    assert row == {"same": True, "row_version": 2**63 - 1}


def test_what_is_the_same_is_not_even_locked(outbox: Outbox) -> None:
    outbox.enqueue(posting("a"))
    sql = "SELECT xmin::text, xmax::text, ctid::text FROM syncd.effect"
    before = outbox.connection.execute(sql).fetchall()
    outbox.connection.commit()

    outbox.enqueue(posting("a"))

    assert outbox.connection.execute(sql).fetchall() == before


@pytest.mark.parametrize(("version", "payload"), [(0, 1), (1, 2), (2, 2), (None, 2)])
def test_a_pending_key_takes_the_payload_of_the_higher_version(
    outbox: Outbox, version: int | None, payload: int
) -> None:
    outbox.enqueue(posting("a", "1"))

    outbox.enqueue(posting("a", "2", row_version=version))

    assert outbox.row("a")["payload"] == payload


def test_what_was_delivered_stays_so_and_a_differing_payload_is_told(outbox: Outbox) -> None:
    outbox.enqueue(posting("a"))
    outbox.record(outbox.claim(), DONE)

    same, other = outbox.enqueue(posting("a")), outbox.enqueue(posting("a", "2"))

    assert (same.conflicts, other.conflicts) == ([], [(KIND.name, "a")])
    assert (outbox.state("a"), outbox.row("a")["payload"]) == ("delivered", 1)
    assert outbox.row("a")["response"] == {"id": 7}


def test_a_payload_that_changes_while_the_effect_is_delivered_is_told(outbox: Outbox) -> None:
    outbox.enqueue(posting("a"))
    claimed = outbox.claim()

    assert outbox.enqueue(posting("a", "2")).conflicts == [(KIND.name, "a")]

    outbox.record(claimed, AGAIN)
    (again,) = outbox.claim(at=later(61))
    assert again.payload == 2


@pytest.mark.parametrize("late", [False, True])
def test_what_was_delivered_has_the_payload_that_was_sent(outbox: Outbox, late: bool) -> None:
    sent, wanted = "12345678901234567890.5", '{"wanted": 2}'
    outbox.enqueue(posting("a", sent))
    claimed = outbox.claim()
    if late:  # by then another has given it up, and a row has asked for it anew
        stranger, at = outbox.other(), later(CLAIM_SECONDS + 1)
        stranger.record(stranger.claim(at=at), Fate("dead", error="x"), at=at)
    outbox.enqueue(posting("a", wanted, row_version=2))

    outbox.record(claimed, Fate("delivered"), at=later(CLAIM_SECONDS + 2))
    again = outbox.enqueue(posting("a", wanted, row_version=3))

    row = "SELECT payload::text, state FROM syncd.effect"
    assert outbox.connection.execute(row).fetchall() == [{"payload": sent, "state": "delivered"}]
    assert again.conflicts == [(KIND.name, "a")], "it is told each time that it differs"


def test_an_age_counts_from_the_end_of_the_delay(outbox: Outbox) -> None:
    outbox.enqueue(posting("a", delay_seconds=1000.0))
    (early,) = effects.backlog(outbox.connection, [("office", KIND.name)], now=later(400.0))

    (claimed,) = outbox.claim(at=later(1010.0))

    assert (early.open, early.oldest_seconds) == (1, 0.0)
    assert claimed.age_seconds == pytest.approx(10.0)


def test_whose_claim_ran_out_is_known_as_such(outbox: Outbox) -> None:
    outbox.enqueue(posting("a"))
    (first,) = outbox.claim()
    (second,) = outbox.other().claim(at=later(CLAIM_SECONDS + 1))

    assert (first.unknown, second.unknown, second.attempts) == (False, True, 2)


@pytest.mark.parametrize("how", ["dead", "discarded"])
def test_what_ended_undelivered_reopens_when_its_payload_differs(outbox: Outbox, how: str) -> None:
    outbox.enqueue(posting("a"))
    outbox.record(outbox.claim(), Fate("dead", error="refused"))
    if how == "discarded":
        assert effects.discard(outbox.connection, Outgoing(key="a"), now=NOW) == 1

    same = outbox.enqueue(posting("a"), at=later(5))
    assert (same.counts, outbox.state("a")) == ({}, how)
    other = outbox.enqueue(posting("a", "2"), at=later(5))

    assert other.counts == {KIND.name: 1}
    row = outbox.row("a")
    assert (row["state"], row["attempts"], row["payload"]) == ("pending", 0, 2)
    assert row["enqueued_at"] == later(5)


def test_a_dead_effect_can_be_retried(outbox: Outbox) -> None:
    outbox.enqueue(posting("a"))
    outbox.record(outbox.claim(), Fate("dead", error="refused"))
    assert outbox.claim(at=later(10_000)) == []

    assert effects.retry(outbox.connection, Outgoing(states=["dead"]), now=NOW) == 1

    (claimed,) = outbox.claim()
    assert (claimed.key, claimed.attempts) == ("a", 1)


# --- Claims ---------------------------------------------------------------------------------------


def test_a_delayed_effect_waits(outbox: Outbox) -> None:
    outbox.enqueue(posting("a", delay_seconds=30.0))

    assert outbox.claim(at=later(29)) == []
    assert [each.key for each in outbox.claim(at=later(30))] == ["a"]


def test_a_claim_is_ones_own_until_it_runs_out(outbox: Outbox) -> None:
    outbox.enqueue(posting("a"))
    (mine,) = outbox.claim()

    assert outbox.other().claim(at=later(CLAIM_SECONDS - 1)) == []
    (theirs,) = outbox.other().claim(at=later(CLAIM_SECONDS))

    assert (mine.epoch, theirs.epoch) == (1, 2)
    assert theirs.attempts == 2


def test_a_bulk_is_of_one_account_and_no_larger_than_its_kind_allows(outbox: Outbox) -> None:
    outbox.enqueue(*(posting(f"{n:02}") for n in range(12)))
    outbox.enqueue(posting("x", account="other"))

    assert [len(outbox.claim()) for _ in range(3)] == [10, 2, 0]


def test_nothing_is_claimed_for_an_account_that_is_parked(outbox: Outbox) -> None:
    outbox.enqueue(posting("a"))
    outbox.connection.execute(
        "INSERT INTO syncd.instance VALUES ('office', 'office', '1', syncd.clock());"
        "INSERT INTO syncd.account (instance, name, state, parked_reason, parked_at)"
        " VALUES ('office', 'default', 'parked', 'refused', syncd.clock())"
    )
    assert outbox.claim() == []
    outbox.enqueue(posting("b", account="other"), at=later(5))
    both = ("default", "other")
    assert [each.key for each in outbox.claim(at=later(6), accounts=both)] == ["b"]

    outbox.connection.execute(
        "UPDATE syncd.account SET state = 'ready', parked_reason = NULL, parked_at = NULL"
    )
    assert len(outbox.claim()) == 1


def test_a_late_success_is_recorded_and_a_late_failure_is_not(outbox: Outbox) -> None:
    outbox.enqueue(posting("a"), posting("b"))
    mine = outbox.claim()
    theirs, at = outbox.other(), later(CLAIM_SECONDS + 1)
    claimed = theirs.claim(at=at)
    by_key = {each.key: [each] for each in mine}

    assert outbox.record(by_key["a"], DONE, at=at) == {by_key["a"][0].id}
    assert outbox.record(by_key["b"], AGAIN, at=at) == set()

    assert (outbox.state("a"), outbox.state("b")) == ("delivered", "delivering")
    assert theirs.record(claimed, AGAIN, at=at) == {by_key["b"][0].id}
    assert (outbox.state("a"), outbox.state("b")) == ("delivered", "pending")


def test_an_outage_gives_the_attempt_back(outbox: Outbox) -> None:
    outbox.enqueue(posting("a"))

    outbox.record(outbox.claim(), Fate("pending", 5.0, "away", counts=False))

    assert outbox.row("a")["attempts"] == 0


def test_a_claim_that_was_lengthened_holds_on(outbox: Outbox) -> None:
    outbox.enqueue(posting("a"))
    (mine,) = outbox.claim()
    renew = {"token": outbox.token, "claim_seconds": CLAIM_SECONDS}

    assert effects.renew(outbox.connection, [mine.id], **renew, now=later(80)) == {mine.id}
    assert outbox.other().claim(at=later(100)) == []
    outbox.other().claim(at=later(200))
    assert effects.renew(outbox.connection, [mine.id], **renew, now=later(200)) == set()


# --- Order ----------------------------------------------------------------------------------------


def test_of_an_ordering_key_one_is_under_way_at_a_time_in_order(outbox: Outbox) -> None:
    outbox.enqueue(*(posting(key, ordering_key="k") for key in "zyx"), posting("free"))
    seen = []
    at = NOW
    while claimed := outbox.claim(ORDERED, at=at):
        seen.append([each.key for each in claimed])
        assert outbox.other().claim(ORDERED, at=at) == []
        outbox.record(claimed, DONE, at=at)

    assert seen == [["z", "free"], ["y"], ["x"]]


@pytest.mark.parametrize("skip_dead", [False, True])
def test_a_dead_one_holds_up_those_behind_it_unless_its_kind_says_otherwise(
    outbox: Outbox, *, skip_dead: bool
) -> None:
    kind = attrs.evolve(ORDERED, skip_dead=skip_dead)
    outbox.enqueue(*(posting(key, ordering_key="k") for key in "ab"))
    outbox.record(outbox.claim(kind), Fate("dead", error="refused"))

    assert [each.key for each in outbox.claim(kind)] == (["b"] if skip_dead else [])
    if not skip_dead:
        assert outbox.row("b")["blocked_by"] == outbox.row("a")["id"]
        effects.discard(outbox.connection, Outgoing(key="a"), now=NOW)
        assert [each.key for each in outbox.claim(kind)] == ["b"]


def test_a_kind_that_is_ordered_no_more_leaves_none_behind(outbox: Outbox) -> None:
    outbox.enqueue(*(posting(key, ordering_key="k") for key in "ab"))

    assert [each.key for each in outbox.claim(KIND)] == ["a", "b"]


@pytest.mark.parametrize("skip_dead", [False, True])
def test_those_that_wait_hide_no_other_however_many_they_are(
    outbox: Outbox, *, skip_dead: bool
) -> None:
    """More than the first hundred wait behind one key: others are found nevertheless."""
    kind = attrs.evolve(ORDERED, skip_dead=skip_dead)
    outbox.enqueue(posting("head", ordering_key="k"))
    (head,) = outbox.claim(kind)
    outbox.enqueue(*(posting(f"wait-{n:03}", ordering_key="k") for n in range(150)))
    for key, order in (("p1", "p"), ("p2", "p"), ("a1", "a"), ("a2", "a"), ("free", None)):
        outbox.enqueue(posting(key, ordering_key=order), at=later(1))
    gone = outbox.enqueue(posting("gone", ordering_key="g"), posting("next", ordering_key="g"))
    assert gone.counts == {KIND.name: 2}

    at = later(1)
    (missed,) = [each for each in outbox.claim(kind, at=NOW) if each.key == "gone"]
    outbox.record([missed], Fate("dead", error="refused"), at=NOW)
    found = outbox.claim(kind, at=at)

    # Those of one key that is dead come on where its kind says so, and then in their turn.
    others = ("a1", "free", "p1")
    assert {each.key for each in found} == {*others, *(["next"] if skip_dead else [])}
    assert outbox.other().claim(kind, at=at) == []
    outbox.record(found, DONE, at=at)
    assert sorted(each.key for each in outbox.claim(kind, at=at)) == ["a2", "p2"]
    outbox.record([head], DONE, at=at)
    assert [each.key for each in outbox.claim(kind, at=at)] == ["wait-000"]


def test_a_later_sequence_is_never_seen_before_an_earlier_one(dsn: str) -> None:
    one, two = connect(dsn), connect(dsn)
    with one, two:
        first, second = Outbox(one), Outbox(two)
        first.enqueue(posting("a", ordering_key="k"))
        two.execute("SET LOCAL lock_timeout = '200ms'")
        with pytest.raises(Exception, match="lock timeout"):
            second.enqueue(posting("b", ordering_key="k"))
        two.rollback()
        one.commit()
        second.enqueue(posting("b", ordering_key="k"))
        two.commit()
        order = two.execute("SELECT key FROM syncd.effect ORDER BY sequence").fetchall()
        assert [row["key"] for row in order] == ["a", "b"]


# --- How much there is ----------------------------------------------------------------------------


def test_a_kind_is_flooded_above_its_mark_and_not_below(outbox: Outbox) -> None:
    outbox.enqueue(*(posting(str(n)) for n in range(5)))

    assert effects.flooded(outbox.connection, [KIND.name, "other"], 4) == [KIND.name]
    assert effects.flooded(outbox.connection, [KIND.name, "other"], 5) == []
    outbox.record(outbox.claim(), DONE)
    assert effects.flooded(outbox.connection, [KIND.name], 1) == []


def test_a_delivered_key_is_remembered_for_400_days(outbox: Outbox) -> None:
    outbox.enqueue(posting("a"), posting("b"))
    claimed = outbox.claim()
    outbox.record(claimed[:1], DONE)
    days = timedelta(days=1)

    assert effects.forget(outbox.connection, now=NOW + 399 * days) == 0
    assert effects.forget(outbox.connection, now=NOW + 401 * days) == 1
    assert [row["key"] for row in outbox.rows()] == ["b"]


def test_stats_tell_states_and_the_age_of_the_oldest_open_one(outbox: Outbox) -> None:
    outbox.enqueue(posting("a"), posting("b"), posting("c"))
    a, b, _ = outbox.claim()
    outbox.record([a], DONE)
    outbox.record([b], AGAIN)

    (stats,) = effects.stats(outbox.connection, now=later(50))

    told = {name: stats[name] for name in ("pending", "delivering", "delivered", "dead")}
    assert told == {"pending": 1, "delivering": 1, "delivered": 1, "dead": 0}
    assert stats["oldest_seconds"] == 50.0
