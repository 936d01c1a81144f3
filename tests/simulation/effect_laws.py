"""What must hold of effects in every world; each law answers with what breaks it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from inline import BEGAN_AT
from stand_ins.shop import STEP

from syncd.events import RunFinished

if TYPE_CHECKING:
    from seeds import Life

STRAY = """
    SELECT kind, key FROM simulated.enqueued q
    WHERE NOT EXISTS (SELECT FROM simulated.committed c WHERE c.transaction = q.transaction)
"""
ENDED = "SELECT kind, key, state, last_error, ended_at FROM syncd.effect ORDER BY id"
SETTLED = "SELECT kind, key, count(*) AS times, min(at) AS at FROM simulated.settled GROUP BY 1, 2"
IN_ORDER = "SELECT ordering_key, key FROM syncd.effect WHERE kind = %s ORDER BY sequence"


def every_row_has_its_effects(life: Life) -> Iterator[str]:
    for scene in life.scenes:
        for row in life.world.rows(scene.without) if scene.without else ():
            yield f"{row}"


def no_effect_is_of_a_commit_that_was_none(life: Life) -> Iterator[str]:
    """Whatever is enqueued is so in a transaction that also closed a cursor under its lease."""
    for row in life.world.rows(STRAY):
        yield f"{row}"


def every_effect_ends_as_the_provider_says(life: Life) -> Iterator[str]:
    if life.provider is None:
        return
    rows = life.world.rows(ENDED)
    accepted = set(life.provider.accepted)
    for row in rows:
        name = (row["kind"], row["key"])
        refusal = life.provider.refusal(name)
        if refusal is not None:
            is_well = row["state"] == "dead" and row["last_error"] == refusal
        else:
            is_well = row["state"] == "delivered" and name in accepted
        if not is_well:
            yield f"{row}; accepted: {name in accepted}"
    if strange := accepted - {(row["kind"], row["key"]) for row in rows}:
        yield f"{len(strange)} accepted of nobody, as {min(strange)}"


def a_key_is_accepted_once_and_always_sent_alike(life: Life) -> Iterator[str]:
    if life.provider is None:
        return
    provider = life.provider
    if len(set(provider.accepted)) < len(provider.accepted):
        yield "some were accepted twice"
    for name, sent in provider.sent.items():
        if len(payloads := {each.payload for each in sent}) > 1:
            yield f"{name} was sent as {sorted(payloads)}"


def what_has_ended_is_neither_sent_nor_recorded_again(life: Life) -> Iterator[str]:
    if life.provider is None:
        return
    for row in life.world.rows(SETTLED):
        if row["times"] > 1:
            yield f"{row['kind']} {row['key']} ended {row['times']} times"
        ended_at = (row["at"] - BEGAN_AT).total_seconds()
        for each in life.provider.sent.get((row["kind"], row["key"]), ()):
            if each.left_at > ended_at:
                yield f"{row['kind']} {row['key']} at {each.left_at:.3f}, over at {ended_at:.3f}"


def a_calm_world_sends_as_often_as_it_must(life: Life) -> Iterator[str]:
    """Once, and once more for each answer that settled nothing."""
    if life.provider is None or not life.plan.calm:
        return
    provider = life.provider
    for name, sent in provider.sent.items():
        if len(sent) != 1 + provider.excused[name]:
            yield f"{name}: {len(sent)} times, and {provider.excused[name]} answers settled nothing"


def effects_of_a_line_keep_their_order(life: Life) -> Iterator[str]:
    if life.shop is None:
        return
    accepted = [key for kind, key in life.shop.post.accepted if kind == STEP.name]
    lines: dict[str, list[str]] = {}
    for row in life.world.rows(IN_ORDER, [STEP.name]):
        lines.setdefault(row["ordering_key"], []).append(row["key"])
    for line, keys in lines.items():
        wanted = [key for key in keys if key in accepted]
        if (found := [key for key in accepted if key in keys]) != wanted:
            yield f"{line}: {found}, enqueued as {wanted}"


def no_lane_fails_a_run(life: Life) -> Iterator[str]:
    """In a calm world all that goes wrong goes wrong at the provider."""
    if life.provider is None or not life.plan.calm:
        return
    for at, _, event in life.world.told(RunFinished):
        if event.status != "complete":
            yield f"{event.partition} ended {event.status} at {at:.3f}"


LAWS: tuple[Callable[[Life], Iterator[str]], ...] = (
    every_row_has_its_effects,
    no_effect_is_of_a_commit_that_was_none,
    every_effect_ends_as_the_provider_says,
    a_key_is_accepted_once_and_always_sent_alike,
    what_has_ended_is_neither_sent_nor_recorded_again,
    a_calm_world_sends_as_often_as_it_must,
    effects_of_a_line_keep_their_order,
    no_lane_fails_a_run,
)
