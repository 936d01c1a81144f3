"""Mail that keeps coming, as the simulator of Front has it, and a model that is not always well."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from random import Random
from typing import Any

import attrs
import msgspec
from judge import Allowed, Judge
from plan import Course
from stand_ins.front import MODEL_HOST, token_of
from stand_ins.office import REFUSED, Office, State, refused
from transport import Answer, Asked

from syncd.testing import Reply
from syncd_front.simulator import Call, Model
from syncd_front.simulator_llm import COMPLETIONS, Fault

COMPANIES = ("acme", "zenith")
FAULTS: tuple[Fault, ...] = (
    "busy",
    "busy, says not how long",
    "slow down",
    "overloaded",
    "broken",
    "cut",
    "garbled",
    "garbled",
    "tells no usage",
)
SPENT: tuple[Fault, ...] = ("used up", "without credit")
ANSWERED = {"cut", "garbled", "tells no usage"}  # the answer comes, and is paid for

TRUTH = """
    SELECT 'conversation' AS what, account_id, conversation_id AS name, messages::text AS carrier,
           coalesce(merged_into, '') AS po, '' AS conversation
    FROM front.scanned_conversations
    UNION ALL
    SELECT 'shipment', account_id, tracking_number, carrier, po_number, conversation_id
    FROM front.shipments
"""


@attrs.frozen
class Paid:
    """A text that the model was asked about, and answered; `left_at`: when the request did."""

    text: str
    sender: int
    left_at: float


@attrs.frozen
class Read:
    """A conversation whose messages were asked for; `moved_to`: by now it is that one."""

    company: str
    name: str
    moved_to: str | None
    sender: int
    at: float


class Mail:
    """Conversations that are begun, gone on with, tagged, merged and deleted.

    `chance`: of a model's call to fail. Each company's Front and the model are limited alike.
    """

    def __init__(
        self, conversations: int, *, allowed: Allowed, chance: float, course: Course, random: Random
    ) -> None:
        self.offices = {
            name: Office(
                name,
                conversations // course.companies,
                chance=course.merge_chance,
                random=Random(f"office {name} {random.random()}"),
            )
            for name in COMPANIES[: course.companies]
        }
        self.model = Model()
        self.model.faulty.update(REFUSED)
        keys = ("llm", *self.offices)
        self.judges: Mapping[str, Judge] = {key: Judge(key, allowed) for key in keys}
        self.chance = chance
        self.spent = False  # what was paid for is used up
        self.paid: list[Paid] = []
        self.unpaid: list[Paid] = []  # whose answer was that nothing is left to pay it
        self.reads: list[Read] = []
        self.met: Counter[str] = Counter()
        self._course = course
        self._random = random

    # --- Answers ----------------------------------------------------------------------------------

    def judge_of(self, asked: Asked) -> Judge:
        return self.judges["llm" if asked.host == MODEL_HOST else self._office(asked).name]

    def _office(self, asked: Asked) -> Office:
        token = asked.headers["authorization"].removeprefix("Bearer ")
        return next(each for each in self.offices.values() if token_of(each.name) == token)

    def answer(self, asked: Asked) -> Answer:
        query = tuple(asked.query.items())
        call = Call(asked.method, asked.path, query, asked.headers, asked.body)
        judge, at_model = self.judge_of(asked), asked.host == MODEL_HOST
        if not judge.arrives(asked.at, sender=asked.sender, left_at=asked.left_at):
            reply = next(iter(self.offices.values())).front.refuse(call)
        elif at_model:
            return self._asked(asked, attrs.evolve(call, path=call.path.removeprefix("/v1")))
        else:
            reply = self._read(asked, call)
        return Answer(reply.status, reply.body, reply.headers, reply.seconds)

    def _read(self, asked: Asked, call: Call) -> Reply:
        office = self._office(asked)
        reply = office.front.answer(call)
        moved = reply.headers["location"] if reply.status == 301 else None
        if asked.path.endswith("/messages"):
            name, to = _conversation(asked.path), moved and _conversation(moved)
            self.reads.append(Read(office.name, name, to, asked.sender, asked.at))
        if reply.status in {301, 404}:
            self.met[f"conversation {'merged' if moved else 'deleted'}"] += 1
        return reply

    def _asked(self, asked: Asked, call: Call) -> Answer:
        away = self._course.away
        if away is not None and away[0] <= asked.at < away[1]:
            self.met["model away"] += 1
            return Answer(503, b"no healthy upstream", {"content-type": "text/plain"})
        is_question = call.path == COMPLETIONS
        text = msgspec.json.decode(call.body)["messages"][-1]["content"] if is_question else ""
        if is_question and (fault := self._fault(text)):
            self.model.faults.append(fault)
            self.met["model spent" if fault in SPENT else f"model {fault}"] += 1
            if fault in SPENT:
                self.unpaid.append(Paid(text, asked.sender, asked.left_at))
        before = self.model.calls
        reply = self.model.answer(call)
        self.model.faults.clear()  # of a call that did not come so far
        if self.model.calls > before:
            self.paid.append(Paid(text, asked.sender, asked.left_at))
        return Answer(reply.status, reply.body, reply.headers, reply.seconds)

    def _fault(self, text: str) -> Fault | None:
        if self.spent:
            return self._random.choice(SPENT)
        fault = None
        if self.chance and self._random.random() < self.chance:
            fault = self._random.choice(FAULTS)
        if refused(text):  # which it never answers for
            self.met["model refusal"] += fault is None or fault in ANSWERED
            return None if fault in ANSWERED else fault
        return fault

    # --- What happens -----------------------------------------------------------------------------

    def happen(self, random: Random) -> None:
        """Let a mail come, or a conversation be tagged, merged or deleted."""
        offices = [*self.offices.values()]
        office = random.choice(offices)
        events = ["new", "reply", "reply", "tag"]
        events += ["merge"] * bool(self._course.merge_chance)
        events += ["odd", "odd"] * self._course.refusals
        events += ["same"] * (len(offices) > 1)
        match random.choice(events):
            case "new":
                office.write(random.randrange(3))
            case "reply":
                office.reply(random.randrange(2))
            case "tag":
                office.touch()
            case "merge":
                office.lose()
            case "odd":
                office.write_oddly()
            case "same":
                other = next(each for each in offices if each is not office)
                self.met["number of two companies"] += office.hear(other)

    def change(self, random: Random) -> None:
        """Let mail come once more; and the model be well from now on."""
        for _ in range(3):
            self.happen(random)
        self.chance = 0.0
        for office in self.offices.values():
            office.chance = 0.0

    # --- What is true -----------------------------------------------------------------------------

    def truth(self) -> set[tuple[Any, ...]]:
        return {row for office in self.offices.values() for row in office.truth()}

    def remains(self) -> set[tuple[Any, ...]]:
        """Return what rows need not tell, and may."""
        return {row for office in self.offices.values() for row in office.remains()}

    def texts(self) -> dict[str, list[State]]:
        """Return by its text each state that a thread was in."""
        found: dict[str, list[State]] = {}
        for office in self.offices.values():
            for state in office.states.values():
                found.setdefault(state.text, []).append(state)
        return found


def _conversation(path: str) -> str:
    return path.removesuffix("/messages").rpartition("/")[2]
