"""The mail of the simulated upstream: conversations, messages, and what can happen to them.

Everything is invented and drawn from a seed. All methods finish at once, so that between two
requests a company is always whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random
from typing import Any

import attrs

from syncd_front.extraction import checks

NEWEST = 1_767_000_000.25  # when the newest mail came: 29 December 2025
WEEK_SECONDS = 7 * 86_400.0

_SMALL_TALK = (
    "Shall we meet on Tuesday?",
    "Please find the invoice attached.",
    "Thank you for the pleasant evening.",
    "Our new catalogue is out.",
)
_QUESTIONS = (
    "When will you deliver PO {po}?",
    "Has PO {po} been dispatched? Please call 5550100200.",
    "The shipment of PO {po} is late.",
)
_CARRIERS = {"ups": "UPS", "fedex": "FedEx", "usps": "USPS", "dhl": "DHL", "post": "the post"}


@attrs.define
class Parcel:
    """A shipment that a message names."""

    number: str
    carrier: str
    po: str


@attrs.define
class Message:
    """One message; a `draft` is nobody's mail yet, `html` has no text beside its body."""

    id: str
    at: float
    subject: str
    text: str
    inbound: bool = True
    draft: bool = False
    html: bool = False


@attrs.define
class Conversation:
    """One conversation; `touched_at` is when a tag or an assignee was changed."""

    id: str
    inbox: str
    supplier: str
    messages: list[Message] = attrs.field(factory=list)
    parcels: list[Parcel] = attrs.field(factory=list)
    touched_at: float = 0.0
    tags: list[str] = attrs.field(factory=list)
    merged_into: str | None = None
    kind: str = "conversation"
    contact: str | None = None  # the supplier's name, where it is another by now
    dated: bool = True  # some are told of without a time, whatever the API's description says

    @property
    def subject(self) -> str:
        return self.messages[0].subject if self.messages else ""

    @property
    def updated_at(self) -> float:
        return max([self.touched_at, *(each.at for each in self.messages)])

    @property
    def sent(self) -> list[Message]:
        """What was sent, the oldest first."""
        return [message for message in self.messages if not message.draft]


class Company:
    """The mail of one company."""

    def __init__(
        self,
        name: str = "acme",
        conversations: int = 0,
        *,
        seed: int = 0,
        share: float = 0.4,
        newest: float = NEWEST,
        span_seconds: float = WEEK_SECONDS,
    ) -> None:
        """Invent conversations, a share of which names one to three shipments."""
        self.name = name
        self.conversations: dict[str, Conversation] = {}
        self._random = Random(f"front {seed} {name}")  # noqa: S311 - no secret
        self._made = 0
        for place in range(conversations):
            at = newest - span_seconds * (conversations - 1 - place) / max(conversations, 1)
            # Every so many, not by chance: a week of mail costs the same whatever the seed.
            ships = round((place + 1) * share, 6) // 1 > round(place * share, 6) // 1
            self.write(at=at, parcels=1 + self._random.randrange(3) if ships else 0)

    # --- What can happen --------------------------------------------------------------------------

    def discuss(self, *, at: float) -> Conversation:
        """Let teammates begin a discussion: it has comments, and no messages."""
        conversation = self.write(at=at, text="")
        conversation.kind, conversation.touched_at = "discussion", at
        conversation.messages.clear()
        return conversation

    def write(self, *, at: float, parcels: int = 0, text: str | None = None) -> Conversation:
        """Let a supplier begin a conversation."""
        self._made += 1
        number = self._made
        conversation = Conversation(
            id=f"cnv_{number:06x}",
            inbox=f"inb_{len(self.conversations) % 2 + 1}",
            supplier=f"Supplier {number % 17}",
        )
        self.conversations[conversation.id] = conversation
        self.reply(conversation.id, at=at, parcels=parcels, text=text)
        return conversation

    def reply(
        self,
        conversation_id: str,
        *,
        at: float,
        parcels: int = 0,
        text: str | None = None,
        **kind: bool,
    ) -> Message:
        """Add a message to a conversation; `text` is all it says, else it is invented."""
        conversation, draw = self.conversations[conversation_id], self._random
        po = str(4_500_000 + draw.randrange(100_000))
        named = [Parcel(*self._number(), po) for _ in range(parcels)]
        said = text if text is not None else self._said(po, named)
        self._made += 1
        message = Message(
            id=f"msg_{self._made:06x}",
            at=round(at, 3),
            subject=f"Re: {conversation.subject}" if conversation.messages else _subject(po, named),
            text=said,
            **kind,
        )
        conversation.messages.append(message)
        if not message.draft:
            conversation.parcels += named
        return message

    def touch(self, conversation_id: str, *, at: float, tag: str = "Seen") -> None:
        """Tag a conversation: it was updated, and says nothing new."""
        conversation = self.conversations[conversation_id]
        conversation.touched_at = at
        conversation.tags.append(tag)

    def merge(self, source: str, target: str, *, at: float) -> None:
        """Merge a conversation into another, which then bears the messages of both."""
        gone, kept = self.conversations[source], self.conversations[target]
        kept.messages = sorted(kept.messages + gone.messages, key=lambda message: message.at)
        kept.parcels += gone.parcels
        kept.touched_at = at
        gone.messages, gone.parcels, gone.merged_into = [], [], target

    def delete(self, conversation_id: str) -> None:
        """Let a conversation be gone for good: it is answered for by 404."""
        del self.conversations[conversation_id]

    # --- What is true -----------------------------------------------------------------------------

    def active(self, *, after: float = 0.0, inbox: str | None = None) -> list[Conversation]:
        """Return the conversations that were active since, the last one first."""
        found = (
            each
            for each in self.conversations.values()
            if each.merged_into is None and each.updated_at >= after
        )
        chosen = [each for each in found if inbox in {None, each.inbox}]
        return sorted(chosen, key=lambda each: (-each.updated_at, each.id))

    def truth(self) -> set[tuple[str, str, str, str]]:
        """Return number, carrier, order and conversation of every shipment that was named."""
        return {
            (parcel.number, parcel.carrier, parcel.po, conversation.id)
            for conversation in self.conversations.values()
            for parcel in conversation.parcels
        }

    def sent(self) -> Iterator[tuple[Conversation, Message]]:
        """Yield every message that was sent, the newest first."""
        pairs = [(each, message) for each in self.conversations.values() for message in each.sent]
        yield from sorted(pairs, key=lambda pair: -pair[1].at)

    # --- Inventing --------------------------------------------------------------------------------

    def _said(self, po: str, named: Sequence[Parcel]) -> str:
        if not named:
            return self._random.choice(_SMALL_TALK + _QUESTIONS).format(po=po)
        lines = [f"PO {po} is on its way to you."]
        lines += [f"{_CARRIERS[each.carrier]} tracking number: {each.number}" for each in named]
        return "\n".join(lines)

    def _number(self) -> tuple[str, str]:
        draw = self._random
        carrier = draw.choice(("ups", "fedex", "usps", "dhl", "post"))
        digits = "".join(str(draw.randrange(10)) for _ in range(19))
        match carrier:
            case "ups":
                body = f"{digits[:6]}03{digits[6:13]}"
                return f"1Z{body}{checks.ups(body)}", carrier
            case "fedex":
                body = f"4{digits[:10]}"
                return f"{body}{checks.fedex_express(body)}", carrier
            case "usps":
                body = f"94{digits}"
                return f"{body}{checks.gs1(body)}", carrier
            case "dhl":
                body = f"1{digits[:8]}"
                return f"{body}{checks.dhl_express(body)}", carrier
            case _:
                return f"RB{digits[:8]}{checks.s10(digits[:8])}DE", carrier


def _subject(po: str, named: Sequence[Any]) -> str:
    return f"PO {po} has shipped" if named else "A word"
