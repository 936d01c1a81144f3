"""What Front sends of conversations and messages, and the rows that are made of them. Pure.

Times are seconds with up to three decimals. Ids are text. What the API's description calls required
may be missing or null all the same.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime

import attrs
import msgspec

ID = r"[A-Za-z0-9_]{1,256}"  # "cnv_" and some letters, as far as anybody has seen
_SECONDS_MAX = 253_402_300_799  # the end of the year 9999, as far as dates go

# --- As Front sends it ----------------------------------------------------------------------------


class Recipient(msgspec.Struct, gc=False):
    """Who wrote, or who was written to."""

    handle: str | None = None
    name: str | None = None
    role: str | None = None


class Assignee(msgspec.Struct, gc=False):
    """The teammate that a conversation is given to."""

    id: str | None = None
    email: str | None = None


class Tag(msgspec.Struct, gc=False):
    """A label of a conversation."""

    id: str = ""
    name: str | None = None


class ConversationRecord(msgspec.Struct, gc=False):
    """A conversation as a page of the search holds it."""

    conversation_id: str = msgspec.field(name="id")
    subject: str | None = None
    type: str | None = None
    status: str | None = None
    status_category: str | None = None
    assignee: Assignee | None = None
    recipient: Recipient | None = None
    tags: list[Tag] | None = None
    is_private: bool | None = None
    created_at: float | None = None
    updated_at: float | None = None
    waiting_since: float | None = None


class MessageRecord(msgspec.Struct):
    """A message of a conversation."""

    id: str
    type: str | None = None
    is_inbound: bool | None = None
    draft_mode: str | None = None
    created_at: float | None = None
    subject: str | None = None
    text: str | None = None
    body: str | None = None
    recipients: list[Recipient] | None = None


class _Named(msgspec.Struct, gc=False):
    id: str


NOT_READ = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_named = msgspec.json.Decoder(_Named)


# --- Rows -----------------------------------------------------------------------------------------


@attrs.define
class Conversation:
    """A row of `conversations`: how a conversation stands in Front."""

    conversation_id: str
    subject: str | None
    type: str | None
    status: str | None
    status_category: str | None
    assignee_id: str | None
    assignee_email: str | None
    recipient_handle: str | None
    recipient_name: str | None
    is_private: bool | None
    created_at: datetime | None
    updated_at: datetime | None
    waiting_since: datetime | None
    tags: list[str]


@attrs.define
class ScannedConversation:
    """A row of `scanned_conversations`: up to which message a thread was read, and what it cost.

    `outcome`: ``"extracted"``; ``"silent"``, it does not speak of a shipment, so nobody was asked;
    ``"merged"``, its messages are those of `merged_into`. `problem`: why shipments that it names
    may be missing. Tokens and calls are those of a language model; by patterns there are none.
    """

    conversation_id: str
    subject: str | None
    outcome: str
    shipments_found: int
    messages: int
    last_message_id: str | None
    last_message_at: datetime | None
    merged_into: str | None
    problem: str | None
    extracted_by: str | None
    calls: int
    prompt_tokens: int
    completion_tokens: int
    scanned_at: datetime


@attrs.define
class Shipment:
    """A row of `shipments`; `conversation_id` and `message_id` lead back to where it was found.

    `mentioned_at` is when the newest message was sent that names it: where several conversations
    do, the row is of the one that spoke last. `problem`: why its number is none that a carrier
    gives, as far as its check digit tells; it is not tracked, and those beside it are.
    """

    tracking_number: str
    carrier: str
    number_form: str | None
    po_number: str | None
    supplier: str | None
    supplier_handle: str | None
    shipped_date: date | None
    estimated_delivery: date | None
    origin: str | None
    destination: str | None
    conversation_id: str
    message_id: str
    mentioned_at: datetime
    extracted_by: str
    confidence: float
    problem: str | None


def is_id(text: str) -> bool:
    """Say whether a text may be an id: what stands in a path, and in a database."""
    return re.fullmatch(ID, text) is not None


def id_of(raw: msgspec.Raw) -> str | None:
    """Return the id of a result, whatever else is odd about it; `None` for none to ask for."""
    try:
        name = _named.decode(raw).id
    except NOT_READ:
        return None
    return name if is_id(name) else None


def conversation_of(record: ConversationRecord) -> Conversation:
    """Make the row of a conversation.

    Raises: `ValueError`, `OverflowError` for an id or a time that is none.
    """
    if not is_id(record.conversation_id):
        raise ValueError(f"this is no id: {record.conversation_id[:40]!r}")
    assignee, recipient = record.assignee or Assignee(), record.recipient or Recipient()
    return Conversation(
        conversation_id=record.conversation_id,
        subject=record.subject,
        type=record.type,
        status=record.status,
        status_category=record.status_category,
        assignee_id=assignee.id,
        assignee_email=assignee.email,
        recipient_handle=recipient.handle,
        recipient_name=recipient.name,
        is_private=record.is_private,
        created_at=moment_of(record.created_at),
        updated_at=moment_of(record.updated_at),
        waiting_since=moment_of(record.waiting_since),
        tags=sorted(tag.name or tag.id for tag in record.tags or ()),
    )


def moment_of(seconds: float | None) -> datetime | None:
    """Return a moment that is told in seconds, to the millisecond."""
    if seconds is None:
        return None
    whole, milliseconds = divmod(round(seconds * 1000), 1000)
    return datetime.fromtimestamp(whole, UTC).replace(microsecond=milliseconds * 1000)


def milliseconds_of(seconds: float | None) -> int | None:
    """Return a moment that is told in seconds as whole milliseconds; `None` for what is none."""
    if seconds is None or not 0 <= seconds <= _SECONDS_MAX:
        return None
    return round(seconds * 1000)
