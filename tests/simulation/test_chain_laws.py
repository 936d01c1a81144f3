"""The laws from mail to trackers bite: each is broken by hand in a world that kept them all."""

from __future__ import annotations

import attrs
import pytest
from plan import draw_chain
from postman import Postman
from seeds import Life, Lived, lived
from stand_ins.tracked import refuses
from test_laws import names, tampered

from syncd.events import EffectDelivered, RouteReceived

CALM = 14  # a seed whose world nothing befalls but at the provider: two companies, refusals, merges

QUIET = "SET session_replication_role = replica"  # nobody notes what follows


@pytest.fixture(scope="module")
def world(worlds: str) -> tuple[Life, Lived]:
    return lived(draw_chain(CALM), worlds)


@pytest.fixture
def postman(world: tuple[Life, Lived]) -> Postman:
    found = world[0].postman
    assert found is not None
    return found


def test_a_calm_chain_keeps_every_law(world: tuple[Life, Lived], postman: Postman) -> None:
    life, told = world

    assert life.plan.calm
    assert told.broken == ()
    assert len(postman.mail.paid) >= 5
    assert len(postman.mail.offices) == 2
    assert told.met["model refusal"] > 0
    assert told.met["conversation merged"] > 0
    assert life.world.told(EffectDelivered)
    assert told.met["webhook again"] > 0
    assert any(event.stale for _, _, event in life.world.told(RouteReceived))


def test_a_second_tracker_of_a_shipment_is_found(
    world: tuple[Life, Lived], postman: Postman
) -> None:
    life, _ = world
    _, number = postman.tracked.accepted[0]
    parcels = postman.tracked.ship24.parcels
    parcel = next(each for each in parcels.values() if each.number == number)
    parcels["another"] = parcel
    assert names(life) == {"every shipment has one tracker"}
    del parcels["another"]


def test_a_webhook_that_is_heard_before_it_is_committed_is_found(
    world: tuple[Life, Lived], postman: Postman
) -> None:
    life, _ = world
    heard = postman.answers
    early = [attrs.evolve(each, at=each.at - 5.0) for each in heard]
    postman.answers = early
    assert names(life) == {"what is answered well is committed"}
    postman.answers = [*heard, attrs.evolve(heard[0], message_id="of nobody")]
    assert names(life) == {"what is answered well is committed"}
    postman.answers = heard


def test_a_webhook_that_is_never_heard_is_found(
    world: tuple[Life, Lived], postman: Postman
) -> None:
    life, _ = world
    (parcel, *_) = postman.tracked.ship24.parcels.values()
    heard, waiting = postman.answers, postman.tracked.ship24.webhooks._waiting
    postman.answers = [*heard, attrs.evolve(heard[0], status=500)]
    assert names(life) == {"every webhook is heard in the end"}
    postman.answers = heard
    at = parcel.created_at
    postman.tracked.ship24.webhooks.tell(parcel, None, at=at)
    assert names(life) == {"every webhook is heard in the end"}
    waiting.clear()


def test_an_event_that_is_new_twice_is_found(world: tuple[Life, Lived]) -> None:
    life, _ = world
    again = [each for each in life.world.told(RouteReceived) if each[2].repeated][-1]
    life.world.events.append((*again[:2], attrs.evolve(again[2], repeated=False)))
    assert names(life) == {"what a webhook writes is written once"}
    life.world.events.pop()


def test_what_is_paid_for_twice_is_found(world: tuple[Life, Lived], postman: Postman) -> None:
    life, _ = world
    paid = postman.mail.paid
    postman.mail.paid = [*paid, paid[0]]
    assert names(life) == {"a calm world pays once"}
    postman.mail.paid = [*paid, attrs.evolve(paid[0], left_at=life.cleared_at)]
    assert names(life) == {
        "a calm world pays once",
        "nothing is paid for again once it is committed",
    }
    postman.mail.paid = paid


def test_a_refusal_that_is_nowhere_and_one_that_never_was_are_found(
    world: tuple[Life, Lived], postman: Postman
) -> None:
    life, _ = world
    law = {"what the model refuses is set aside and nowhere else"}
    with tampered(life, QUIET, "UPDATE syncd.quarantine SET instance = 'another'"):
        assert names(life) == law
    with tampered(life, QUIET, "UPDATE syncd.quarantine SET instance = 'front'"):
        assert names(life) == set()
    office = next(
        each
        for each in postman.mail.offices.values()
        if any(state.refused for state in each.states.values())
    )
    known = dict(office.states)
    office.states = {key: attrs.evolve(each, text="Hello") for key, each in known.items()}
    assert law < names(life)  # and what is true lacks rows
    office.states = known


def test_a_quota_that_costs_an_attempt_is_found(
    world: tuple[Life, Lived], postman: Postman
) -> None:
    life, _ = world
    sent = postman.tracked.sent
    key = next(key for (_, key), each in sent.items() if len(each) == 1 and not refuses(key))
    postman.tracked.over_quota[key] = 1  # it was not, and counted
    assert names(life) == {"the end of a quota costs no attempt"}
    postman.tracked.over_quota.clear()


def test_a_merge_that_leads_to_nothing_is_found(
    world: tuple[Life, Lived], postman: Postman
) -> None:
    life, _ = world
    reads = postman.mail.reads
    moved = next(each for each in reads if each.moved_to is not None)
    there = (moved.company, moved.moved_to)
    postman.mail.reads = [each for each in reads if (each.company, each.name) != there]
    assert names(life) == {"what was merged is read where it went"}
    postman.mail.reads = reads


def test_what_nobody_pays_for_and_is_asked_again_is_found(
    world: tuple[Life, Lived], postman: Postman
) -> None:
    life, _ = world
    paid = postman.mail.paid[0]
    again = [attrs.evolve(paid, left_at=at) for at in (1.0, 2.0, 3.0)]
    for times, found in ((2, set()), (3, {"what nobody has paid for parks"})):
        postman.mail.unpaid = again[:times]
        assert names(life) == found
    postman.mail.unpaid = []


def test_an_account_that_is_asked_for_while_it_is_parked_is_found(
    world: tuple[Life, Lived],
) -> None:
    life, _ = world
    law = {"what is parked is let alone until it is resumed"}
    rows = "INSERT INTO simulated.parked SELECT 'acme', state, '2026-01-05Z'::timestamptz + after"
    states = "('parked', interval '{} s'), ('ready', interval '{} s')"
    values = f"FROM (VALUES {states}) AS of (state, after)"
    for since, until, found in ((-2, -1, set()), (-1, 20, law), (3000, 3001, law)):
        with tampered(life, f"{rows} {values.format(since, until)}"):
            assert names(life) == found
        with tampered(life, "DELETE FROM simulated.parked"):
            assert names(life) == set()


def test_a_row_of_another_company_is_found(world: tuple[Life, Lived]) -> None:
    life, _ = world
    (row,) = life.world.rows(
        "SELECT max(tracking_number) AS number FROM front.shipments s WHERE account_id = 'acme'"
        " AND NOT EXISTS (SELECT FROM front.shipments t WHERE t.tracking_number ="
        " s.tracking_number AND t.account_id <> 'acme')"
    )
    moved = (
        f"UPDATE front.shipments SET account_id = '{{}}' WHERE tracking_number = '{row['number']}'"
    )
    with tampered(life, QUIET, moved.format("zenith")):
        assert names(life) == {"the tables hold what is true"}
    with tampered(life, QUIET, moved.format("acme")):
        assert names(life) == set()


def test_what_the_tables_must_not_hold_is_found(world: tuple[Life, Lived]) -> None:
    """The last test of this world: what is done to it stays."""
    life, _ = world
    with tampered(
        life,
        "INSERT INTO simulated.heard SELECT event_id, at, '1' FROM simulated.heard LIMIT 1",
    ):
        assert names(life) == {"what a webhook writes is written once"}
    with tampered(
        life,
        "DELETE FROM simulated.heard WHERE transaction = '1'",
        # The last message is heard again, and what it wrote is written once more.
        "INSERT INTO simulated.written (name, content, at, transaction)"
        " SELECT name, content, at, '1' FROM simulated.written"
        " WHERE name = 'ship24.tracking_events' ORDER BY id DESC LIMIT 1",
    ):
        assert names(life) == {"what a webhook writes is written once"}
    with tampered(
        life,
        "DELETE FROM simulated.written WHERE transaction = '1'",
        # An older state comes after a newer one, under a lease.
        "INSERT INTO simulated.written (name, content, at, transaction)"
        " SELECT name, jsonb_set(content, '{revision}', '1'), at, transaction"
        " FROM simulated.written WHERE name = 'ship24.trackers' ORDER BY id LIMIT 1",
    ):
        assert names(life) == {"a newer state is never overwritten"}
    with tampered(
        life,
        "DELETE FROM simulated.written WHERE content->>'revision' = '1'",
        QUIET,
        "UPDATE ship24.trackers SET status_milestone = 'pending' WHERE tracker_id ="
        " (SELECT max(tracker_id) FROM ship24.trackers WHERE status_milestone <> 'pending')",
    ):
        assert names(life) == {"the tables hold what is true"}
    with tampered(
        life,
        "DELETE FROM syncd.effect WHERE state = 'dead' AND id ="
        " (SELECT max(id) FROM syncd.effect WHERE state = 'dead')",
        "DELETE FROM ship24.tracking_events",
        "DELETE FROM front.scanned_conversations",
    ):
        assert names(life) == {"the tables hold what is true", "every row has its effects"}
