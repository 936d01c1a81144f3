"""The laws of effects bite, too: each is broken by hand in a world that kept them all."""

from __future__ import annotations

import attrs
import pytest
from seeds import Life, Lived, lived
from stand_ins.provider import Sent
from stand_ins.shop import PARCEL, STEP, Shop
from test_laws import PLAN, names, tampered

from syncd.events import RunFinished

TAKEN, REFUSED = (STEP.name, "1-1"), (STEP.name, "3-1")


@pytest.fixture(scope="module")
def world(worlds: str) -> tuple[Life, Lived]:
    plan = attrs.evolve(
        PLAN, beside="shop", beside_pages=2, every_seconds=300.0, seed=2, post_chance=0.4
    )
    return lived(plan, worlds)


@pytest.fixture
def shop(world: tuple[Life, Lived]) -> Shop:
    found = world[0].shop
    assert found is not None
    return found


def test_a_calm_world_with_effects_keeps_every_law(world: tuple[Life, Lived], shop: Shop) -> None:
    _, told = world

    assert told.broken == ()
    assert {TAKEN, (PARCEL.name, "1-1")} <= set(shop.post.accepted)
    assert told.met["effect dead"] > 0
    assert len(shop.post.met) >= 4


def test_an_effect_that_is_accepted_twice_is_found(world: tuple[Life, Lived], shop: Shop) -> None:
    shop.post.accepted.append((PARCEL.name, "1-1"))
    assert names(world[0]) == {"a key is accepted once and always sent alike"}
    shop.post.accepted.pop()


def test_steps_in_another_order_are_found(world: tuple[Life, Lived], shop: Shop) -> None:
    shop.post.accepted.reverse()
    assert names(world[0]) == {"effects of a line keep their order"}
    shop.post.accepted.reverse()


def test_a_sending_for_nothing_is_found(world: tuple[Life, Lived], shop: Shop) -> None:
    sent = shop.post.sent[TAKEN]
    sent.append(attrs.evolve(sent[0], left_at=10_000.0))
    assert names(world[0]) == {
        "what has ended is neither sent nor recorded again",
        "a calm world sends as often as it must",
    }
    sent[-1] = Sent(sent[0].left_at, 1, "{}")
    shop.post.excused[TAKEN] += 1
    assert names(world[0]) == {"a key is accepted once and always sent alike"}
    shop.post.excused[TAKEN] -= 1
    sent.pop()


def test_a_run_that_failed_is_found(world: tuple[Life, Lived]) -> None:
    life, _ = world
    at, number, event = life.world.told(RunFinished)[0]
    life.world.events.append((at, number, attrs.evolve(event, status="failed")))
    assert names(life) == {"no lane fails a run"}
    life.world.events.pop()


def test_what_the_outbox_must_not_hold_is_found(world: tuple[Life, Lived]) -> None:
    """The last test of this world: what is done to it stays."""
    life, _ = world
    with tampered(life, f"INSERT INTO simulated.enqueued VALUES ('{STEP.name}', 'of nobody')"):
        assert names(life) == {"no effect is of a commit that was none"}
    with tampered(
        life,
        "TRUNCATE simulated.enqueued",
        f"UPDATE syncd.effect SET last_error = 'tried 20 times' WHERE key = '{REFUSED[1]}'",
    ):
        assert names(life) == {"every effect ends as the provider says"}
    with tampered(
        life,
        f"UPDATE syncd.effect SET last_error = 'refused' WHERE key = '{REFUSED[1]}'",
        "INSERT INTO simulated.settled SELECT * FROM simulated.settled LIMIT 1",
        "DELETE FROM syncd.effect"
        " WHERE key = (SELECT format('3-%s', revision) FROM shop.orders WHERE id = 3)",
    ):
        assert names(life) == {
            "every row has its effects",
            "what has ended is neither sent nor recorded again",
        }
    with tampered(life, f"DELETE FROM syncd.effect WHERE key = '{TAKEN[1]}'"):
        assert "every effect ends as the provider says" in names(life)
