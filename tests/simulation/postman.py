"""What goes on in a chain beside its daemons: mail comes, parcels move, webhooks are posted.

A webhook goes to any daemon, as behind a balancer, by the way that the HTTP server takes; and again
until it is heard, some of them after that, in any order.
"""

from __future__ import annotations

from collections import Counter
from random import Random

import attrs
import msgspec
import trio
from plan import Plan
from stand_ins.mail import Mail
from stand_ins.tracked import Tracked
from world import World

from syncd_ship24.simulator import Webhook

PATH = "/plugins/ship24/webhook"
BEAT_SECONDS = 3.0  # between two rounds of what happens, about
LATE_SECONDS = 4.0  # by which a post may come after those that were sent with it
LAST_MOVES = 3  # of parcels, that only webhooks tell of, in any order
HEARD_WITHIN_SECONDS = 600.0
MEETS_WITHIN_SECONDS = 8.0
COMMITS_SECONDS = 0.01  # in which an answered webhook is committed, about


@attrs.frozen
class Heard:
    """A webhook that was answered, with what; `event_ids` are of the events that it tells of."""

    message_id: str
    event_ids: tuple[str, ...]
    status: int
    at: float


class Postman:
    """Posts what a world's Ship24 has to tell."""

    def __init__(self, mail: Mail, tracked: Tracked, plan: Plan) -> None:
        self.mail = mail
        self.tracked = tracked
        self.answers: list[Heard] = []
        self.met: Counter[str] = Counter()
        self.stormy = True
        self._arrives: dict[int, trio.Event] = {}  # by slot
        self._random = Random(f"postman {plan.seed}")
        self._trackers = plan.trackers_before
        self._latency_seconds = plan.latency_seconds
        self._chance = plan.weather_chance

    async def carry(self, world: World) -> None:
        """Let things happen, and tell of them, until the world is over."""
        self.tracked.begin(self._trackers)
        while not world.over:
            await trio.sleep(self._random.uniform(0.5, 1.5) * BEAT_SECONDS)
            if self.stormy:
                self.mail.happen(self._random)
                self.tracked.ship24.move(self._random.uniform(0.1, 0.5))
            if self.stormy or len(self.tracked.ship24.webhooks):
                await self._post_all(world)

    def calm(self) -> None:
        """Let nothing more happen by itself, and every answer arrive."""
        self.stormy, self._chance = False, 0.0

    async def meets(self, slot: int) -> None:
        """Wait for a webhook to come to a daemon; and until it is about to be committed, or is."""
        arrives = self._arrives.setdefault(slot, trio.Event())
        with trio.move_on_after(MEETS_WITHIN_SECONDS):
            await arrives.wait()
        await trio.sleep(self._random.uniform(0.0, COMMITS_SECONDS))

    async def close(self, world: World) -> None:
        """Let parcels move once nobody pulls any more, and post until all of it is heard."""
        webhooks = self.tracked.ship24.webhooks
        with trio.move_on_after(HEARD_WITHIN_SECONDS):
            for _ in range(LAST_MOVES):
                self.tracked.ship24.move(0.7)
            while len(webhooks):
                await self._post_all(world)
        await self._post_all(world)  # what is told again has been heard by now

    async def _post_all(self, world: World) -> None:
        async with trio.open_nursery() as posts:
            for webhook in [*self.tracked.ship24.webhooks.due()]:
                after = self._random.uniform(0.0, LATE_SECONDS)
                slot = self._random.choice(sorted(world.daemons))
                is_lost = self._random.random() < self._chance
                posts.start_soon(self._post, world, webhook, after, slot, is_lost)

    async def _post(
        self, world: World, webhook: Webhook, after: float, slot: int, is_lost: bool
    ) -> None:
        await trio.sleep(after + self._latency_seconds / 2)
        daemon = world.daemons[slot]
        was_alive = daemon.alive
        if was_alive and slot in self._arrives:
            self._arrives.pop(slot).set()
        answer = await daemon.told("POST", PATH, headers=webhook.headers, content=webhook.body)
        at = trio.current_time()
        if answer is None:
            self.met["webhook cut" if was_alive else "webhook to nobody"] += 1
            return
        self.met[f"webhook {answer.status_code}"] += 1
        self.answers.append(Heard(webhook.message_id, _event_ids(webhook), answer.status_code, at))
        await trio.sleep(self._latency_seconds / 2)
        if is_lost:
            self.met["webhook unheard"] += 1
        else:
            self.tracked.ship24.webhooks.answered(webhook, answer.status_code, answer.content)


def _event_ids(webhook: Webhook) -> tuple[str, ...]:
    (tracking,) = msgspec.json.decode(webhook.body)["trackings"]
    return tuple(event["eventId"] for event in tracking["events"])
