"""What a command says of effects: events in, counts and sentences out (P46, P49)."""

from __future__ import annotations

import io
from functools import reduce
from typing import Any

from rich.console import Console

from syncd import events
from syncd.cli import acts, deliveries
from syncd.cli.board import Board, folded
from syncd.cli.deliveries import Deliveries, Delivery, noted
from syncd.cli.drawing import drawn
from syncd.cli.screen import PAUSE_SECONDS, Presentation, Screen
from syncd.events import Event
from syncd.store.effects import Backlog

KIND = "shop.register"


def enqueued(count: int, kind: str = KIND) -> Event:
    return events.EffectEnqueued("shop.orders", kind, count)


def delivered(count: int, kind: str = KIND) -> Event:
    return events.EffectDelivered(kind, "shop", "default", count, 0.1)


def dead(kind: str = KIND) -> Event:
    return events.EffectDead(kind, "shop", "default", 1, "key", "refused")


def left(**counts: Any) -> Backlog:
    none: dict[str, Any] = {"open": 0, "soon": 0, "oldest_seconds": 0.0, "dead": 0}
    return Backlog("shop", KIND, **none | counts)


STORY = [enqueued(40), delivered(30), enqueued(2), dead(), delivered(5, "shop.other")]


def told_of(*said: Event) -> Deliveries:
    none: Deliveries = {}
    return reduce(noted, said, none)


def test_effects_are_counted_by_kind_and_nothing_else_counts() -> None:
    found = told_of(*STORY, events.DrainStarted("SIGTERM", 60.0))

    assert [*found.values()] == [Delivery(KIND, 42, 30, 1), Delivery("shop.other", 0, 5)]
    assert found[KIND].said == "shop.register: 42 enqueued, 30 delivered, 1 dead"
    assert found["shop.other"].said == "shop.other: 0 enqueued, 5 delivered"


def test_whoever_delivers_nothing_says_who_does_and_whoever_does_says_what_is_left() -> None:
    found = told_of(enqueued(3))
    only_delivered = told_of(delivered(3))

    bare = [*deliveries.sentences(found, [], delivering=False)]
    done = [*deliveries.sentences(found, [left()], delivering=True)]
    some = [*deliveries.sentences(found, [left(open=2, dead=1)], delivering=True)]

    assert bare[1:] == ["effects are delivered by `syncd serve`, or by `syncd run --effects`"]
    assert done == ["effects of kind shop.register: 3 enqueued, 0 delivered"]
    assert "2 effects of kind shop.register wait; see why with `syncd effects list" in some[1]
    assert "1 effect of kind shop.register" in some[2]
    assert "--state dead" in some[2]
    assert len([*deliveries.sentences(only_delivered, [], delivering=False)]) == 1


def test_json_has_each_kind_with_what_is_left_of_it() -> None:
    found = told_of(delivered(5, "shop.other"))

    told = deliveries.as_json(found, [left(open=2, dead=1)])

    assert told == {
        "shop.other": {"enqueued": 0, "delivered": 5, "dead": 0},
        KIND: {"enqueued": 0, "delivered": 0, "dead": 0, "left_open": 2, "left_dead": 1},
    }


def test_the_live_table_has_a_line_for_each_kind() -> None:
    console = Console(file=io.StringIO(), width=100)
    console.print(drawn(reduce(folded, STORY, Board()), rows_max=5))

    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "effects of kind shop.register: 42 enqueued, 30 delivered, 1 dead" in text
    assert "effects of kind shop.other: 0 enqueued, 5 delivered" in text


def test_text_lines_tell_of_deliveries_now_and_then() -> None:
    out, clock = io.StringIO(), [0.0]
    how = Presentation(display=False, json=False, lines="info")
    screen = Screen(how, stream=out, now=lambda: clock[0])

    with screen.showing():
        for _ in range(3):
            screen.listen(enqueued(10))
            screen.listen(delivered(10))
        clock[0] = PAUSE_SECONDS
        screen.listen(delivered(1))

    lines = [line.split(" ", 2)[2].strip() for line in out.getvalue().splitlines()]
    assert lines == [
        "effects of kind shop.register: 10 enqueued, 10 delivered",
        "effects of kind shop.register: 30 enqueued, 31 delivered",
    ]


def test_what_upstreams_posted_is_counted_by_what_it_changed() -> None:
    heard = acts.Heard(posted=3, heard=3)
    heard.note(events.AdminListening("127.0.0.1:1", 1))
    for repeated, inserted in ((False, 2), (True, 0)):
        heard.note(
            events.RouteReceived(
                instance="shop",
                account="default",
                route="POST /hook",
                status=200,
                repeated=repeated,
                records=2,
                inserted=inserted,
                updated=1,
                unchanged=0,
                stale=0,
                quarantined=0,
                duration_seconds=0.1,
            )
        )

    assert heard.address == "127.0.0.1:1"
    assert heard.said == (
        "webhooks: 3 posted, 3 heard (1 of them again), 2 rows inserted, 2 updated"
    )
