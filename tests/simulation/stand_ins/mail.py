"""Mail that keeps coming, as the simulator of Front has it, and a model that is not always well."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

import attrs
import msgspec
from inline import now
from judge import Allowed
from stand_ins.front import MODEL_HOST, Upstream
from transport import Answer, Asked

from syncd_front.simulator import Front

PAGE = 8  # conversations of a search
FAULTS = ("busy", "slow down", "overloaded", "broken", "cut", "garbled", "tells no usage")

TRUTH = """
    SELECT 'conversation' AS what, conversation_id AS name, messages::text AS carrier, '' AS po,
           '' AS conversation
    FROM front.scanned_conversations
    UNION ALL
    SELECT 'shipment', tracking_number, carrier, po_number, conversation_id FROM front.shipments
"""


@attrs.frozen
class Paid:
    """A text that the model was asked about, and answered; `left_at`: when the request did."""

    text: str
    sender: int
    left_at: float


class Mail(Upstream):
    """Conversations that are begun, gone on with and tagged. `chance`: of a model's call to fail.

    What is asked of Front and of the model is limited alike.
    """

    def __init__(
        self, conversations: int, *, allowed: Allowed, chance: float, random: Random
    ) -> None:
        super().__init__(conversations, allowed=allowed)
        self.front = Front(self.company, now=now, page_max=PAGE)
        self.judges["llm"].allowed = allowed
        self.chance = chance
        self.paid: list[Paid] = []
        self._random = random

    def answer(self, asked: Asked) -> Answer:
        if asked.host != MODEL_HOST:
            return super().answer(asked)
        if self.chance and self._random.random() < self.chance:
            self.model.faults.append(self._random.choice(FAULTS))  # type: ignore[arg-type]
        before = self.model.calls
        answer = super().answer(asked)
        self.model.faults.clear()  # of a call that did not come so far
        if self.model.calls > before:
            text = msgspec.json.decode(asked.body)["messages"][-1]["content"]
            self.paid.append(Paid(text, asked.sender, asked.left_at))
        return answer

    def happen(self, random: Random) -> None:
        """Let a mail come, or a conversation be tagged."""
        at, names = now().timestamp(), sorted(self.company.conversations)
        match random.choice(("new", "reply", "reply", "tag")):
            case "new":
                self.company.write(at=at, parcels=random.randrange(3))
            case "reply":
                self.company.reply(random.choice(names), at=at, parcels=random.randrange(2))
            case _:
                self.company.touch(random.choice(names), at=at)

    def change(self, random: Random) -> None:
        """Let mail come once more; and the model be well from now on."""
        for _ in range(3):
            self.happen(random)
        self.chance = 0.0

    def truth(self) -> set[tuple[Any, ...]]:
        shipments = {("shipment", *each) for each in self.company.truth()}
        conversations = self.company.conversations.values()
        scanned = {("conversation", each.id, str(len(each.sent)), "", "") for each in conversations}
        return shipments | scanned

    def threads(self) -> dict[str, list[tuple[str, int]]]:
        """Return by its text each state that a thread was in: whose, and of how many messages."""
        found: dict[str, list[tuple[str, int]]] = {}
        for each in self.company.conversations.values():
            for count in range(1, len(each.sent) + 1):
                text = _text(each.sent[:count])
                found.setdefault(text, []).append((each.id, count))
        return found


def _text(messages: Sequence[Any]) -> str:
    return "\n\n".join(f"{each.subject}\n{each.text}" for each in messages)
