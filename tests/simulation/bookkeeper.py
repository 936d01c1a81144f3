"""Who pays for the model, and lets an account go on that was parked because nobody had."""

from __future__ import annotations

from collections import Counter
from random import Random

import trio
from plan import Plan
from stand_ins.mail import Mail
from world import World

from syncd.store import parking

LOOK_SECONDS = 1.0
WITHIN_SECONDS = (2.0, 8.0)  # an operator pays and resumes
PARKED = """
    SELECT name FROM syncd.account
    WHERE instance = 'front' AND state = 'parked' AND position('is used up' IN parked_reason) > 0
"""


class Bookkeeper:
    """Sees to what parks an account of a chain's mail; anything else that is parked stays so."""

    def __init__(self, mail: Mail, plan: Plan) -> None:
        self.met: Counter[str] = Counter()
        self._mail = mail
        self._spent_at = plan.course.spent_at
        self._random = Random(f"bookkeeper {plan.seed}")

    async def keep(self, world: World) -> None:
        """Let the credit be used up once, and pay when it has been noticed, until the end."""
        while not world.over:
            await trio.sleep(LOOK_SECONDS)
            if self._spent_at is not None and trio.current_time() >= self._spent_at:
                self._mail.spent, self._spent_at = True, None
            if world.rows(PARKED):
                await trio.sleep(self._random.uniform(*WITHIN_SECONDS))
                self._mail.spent = False
                self._resume(world)

    def _resume(self, world: World) -> None:
        for row in world.rows(PARKED):
            with world.connected() as connection:
                self.met["account resumed"] += parking.resume(connection, "front", row["name"])

    def calm(self) -> None:
        """Let nothing be used up any more."""
        self._mail.spent, self._spent_at = False, None

    async def all_resumed(self, world: World) -> None:
        """Wait until what was parked goes on."""
        await trio.sleep(LOOK_SECONDS)
        while world.rows(PARKED):  # noqa: ASYNC110 - virtual time
            await trio.sleep(LOOK_SECONDS)
