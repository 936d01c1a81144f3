"""Threads: what was written in a conversation, read off the pages of its messages. Pure.

Messages come newest first (dev.frontapp.com, "List conversation messages"). So much of a thread is
read, counted from its newest message: what one conversation costs is bounded, whatever is sent.
"""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from typing import Any

import msgspec

from syncd import Unintelligible
from syncd_front.records import NOT_READ, MessageRecord, Recipient, id_of

# Of what is said in a thread: 200,000 words, or 42 questions to a model. The nastiest take two
# seconds of CPU. People do not write so much; machines that answer each other do.
CHARACTERS_MAX = 1_000_000

# Of a body in HTML an eighth is said, or less, and reading it costs an eighth of what text does.
_MARKED = 8


class Mail(msgspec.Struct):
    """A message of a thread, as far as a shipment may be found by it."""

    id: str
    text: str
    subject: str | None = None
    sent_at: float | None = None
    is_inbound: bool = True
    sender: str | None = None  # the handle, an address mostly


class Thread(msgspec.Struct):
    """A conversation's messages, the oldest first: what shipments are extracted from.

    It holds nothing that changes without a new message (tags, assignees), so that its bytes tell
    whether there is anything new to extract. `merged_into`: it is another conversation by now,
    which bears its messages. `names` of senders, by handle, are Front's contacts: they may change.
    `problem`: why there is more that was written.
    """

    conversation_id: str
    messages: list[Mail] = []
    merged_into: str | None = None
    names: dict[str, str] = {}
    problem: str | None = None

    @property
    def text(self) -> str:
        """All that was written, by which a number is known to be there."""
        return "\n\n".join(spoken(mail) for mail in self.messages)


def spoken(mail: Mail) -> str:
    """Return what a message says, its subject included."""
    return f"{mail.subject}\n{mail.text}" if mail.subject else mail.text


def encoded(thread: Thread) -> Any:
    """Return a thread's bytes, the same for the same thread."""
    return msgspec.Raw(msgspec.json.encode(thread))


# --- Reading --------------------------------------------------------------------------------------


_message = msgspec.json.Decoder(MessageRecord)


class Reading:
    """Puts a thread together, page by page of its messages."""

    def __init__(self, conversation_id: str, characters_max: int = CHARACTERS_MAX) -> None:
        self._id = conversation_id
        self._most = characters_max
        self._room = characters_max
        self._cut = False
        self._mails: dict[str, tuple[Mail, str | None]] = {}
        self._odd: dict[str, str] = {}  # which message, and what is wrong with it

    @property
    def is_full(self) -> bool:
        """Whether what is left would not be read."""
        return self._cut

    def take(self, results: Sequence[msgspec.Raw], *, where: str) -> None:
        """Take a page of messages; a draft, which may still change, is none.

        One that cannot be read is told of, and the others are read. Raises: `Unintelligible` where
        that is so of each of a page: then it is not the message that is odd.
        """
        fault: str | None = None
        odd = 0
        for raw in results:
            try:
                message = _message.decode(raw)
            except NOT_READ as error:
                fault, odd = str(error), odd + 1
                name = id_of(raw)
                self._odd[f"message {name}" if name else "a message without an id"] = fault
                continue
            if message.draft_mode is None and message.id not in self._mails:
                self._read(message)
            if self._cut:
                return
        if fault is not None and odd == len(results):
            said = f"none of {odd} messages can be read: {fault}"
            raise Unintelligible(where, said, "if Front has changed its answers, tell us")

    def thread(self) -> Thread:
        """Return what was read, each message once; a sender's newest name counts."""
        mails = self._mails.values()
        ordered = sorted(mails, key=lambda each: (each[0].sent_at or 0.0, each[0].id))
        names = {mail.sender: name for mail, name in ordered if mail.sender and name}
        messages = [mail for mail, _ in ordered]
        return Thread(self._id, messages, names=names, problem=self._problem())

    def _read(self, message: MessageRecord) -> None:
        if self._room <= 0:
            self._cut = True
            return
        body = "" if message.text else message.body or ""
        marked = body[: self._room * _MARKED]
        subject, text = message.subject or "", message.text or plain_text(marked)
        sender = next((e for e in message.recipients or () if e.role == "from"), Recipient())
        mail = Mail(
            id=message.id,
            text=text[: max(self._room - len(subject), 0)],
            subject=subject[: self._room] or None,
            sent_at=message.created_at,
            is_inbound=message.is_inbound is not False,
            sender=sender.handle,
        )
        self._mails[message.id] = (mail, sender.name)
        said = len(subject) + len(text)
        self._cut = said > self._room or len(marked) < len(body)
        self._room -= max(said, len(marked) // _MARKED)

    def _problem(self) -> str | None:
        said = []
        if self._cut:
            said.append(f"of its mail the newest {self._most:,} characters were read")
        if self._odd:
            name, fault = next(iter(self._odd.items()))
            others = f", and {len(self._odd) - 1} others" if len(self._odd) > 1 else ""
            said.append(f"{name} was not read{others}: {fault}")
        return "; ".join(said) or None


# --- HTML -----------------------------------------------------------------------------------------

# Each takes time in proportion to a body, whatever it holds: what nothing ends goes on to its end,
# as browsers have it, and a mark ends before the next one.
_UNSEEN = re.compile(
    r"<(script|style)\b.*?(?:</\1\s*>|\Z)|<!--.*?(?:-->|\Z)", re.DOTALL | re.IGNORECASE
)
_BREAK = re.compile(r"<(?:br|/p|/div|/tr|/li|/td|/th|/h[1-6])\b[^<>]*>", re.IGNORECASE)
_MARK = re.compile(r"<[^<>]*>")
_ENDLESS = re.compile(r"&#(?:[0-9]{10,}|x[0-9a-f]{10,});?", re.ASCII | re.IGNORECASE)
_BLANKS = re.compile(r"[ \t\u00a0]+")


def plain_text(body: str) -> str:
    """Return what a body in HTML says, for messages that have no text of their own."""
    text = _MARK.sub("", _BREAK.sub("\n", _UNSEEN.sub(" ", body)))
    text = _ENDLESS.sub(" ", text)  # no character, and no number that can be read
    lines = (_BLANKS.sub(" ", line).strip() for line in html.unescape(text).splitlines())
    return "\n".join(line for line in lines if line)
