"""What was found in a thread, by patterns or by a model, and the rows that are made of it. Pure."""

from __future__ import annotations

import re
from bisect import bisect_right
from datetime import UTC, date, datetime
from itertools import accumulate, islice

import attrs

from syncd_front.extraction import (
    Searched,
    form_of,
    likeness,
    numbers_in,
    order_near,
    orders_in,
    plain,
    speaks_of_shipment,
)
from syncd_front.records import ScannedConversation, Shipment, moment_of
from syncd_front.threads import Mail, Thread, spoken

PATTERNS = "patterns"

# Of one conversation, a thread of lists. Each is looked for in its messages: no further ones are
# once so many are found, nor beyond so many that a model has named, right or invented.
SHIPMENTS_MAX = 500
NAMES_MAX = 2_000
_BETWEEN = "\n\0\n"  # two messages: what no number goes on beyond
NUMBER_CHARACTERS = (8, 40)

# What a tracker is registered for, beside its length: docs.ship24.com, "Create a tracker".
_TAKEN = re.compile(r"[a-zA-Z0-9\-_/.]*")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@attrs.frozen
class Told:
    """A shipment as a mail or a model tells of it; nothing of it is checked yet."""

    tracking_number: str
    carrier: str = "other"
    po_number: str | None = None
    shipped_date: str | None = None
    estimated_delivery: str | None = None
    origin: str | None = None
    destination: str | None = None
    confidence: float = 1.0


@attrs.frozen
class Found:
    """A shipment that was told of, and the newest message that names it."""

    told: Told
    conversation_id: str
    mail: Mail
    supplier: str | None
    extracted_by: str

    def is_certain(self, least: float) -> bool:
        """Say whether a model is as sure of it as it must be."""
        return self.told.confidence >= least


@attrs.frozen
class Extraction:
    """What became of a thread, and what that cost."""

    told: tuple[Told, ...] = ()
    extracted_by: str | None = None  # none where nobody was asked
    full: bool = False  # an answer named as many as it may, and there may be more
    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0


@attrs.frozen
class Scanned:
    """A thread that was read, and what it holds."""

    thread: Thread
    extraction: Extraction
    at: datetime


def is_silent(thread: Thread, *, prefilter: bool = True) -> bool:
    """Say whether a thread does not speak of a shipment; without the filter: whether it is empty.

    The filter may err: then nobody reads a thread that tells of a shipment in other words.
    """
    said = (spoken(mail) for mail in thread.messages)
    return not any(map(speaks_of_shipment if prefilter else str.strip, said))


def by_patterns(thread: Thread) -> Extraction:
    """Extract what carriers' check digits tell by themselves, one more than are kept at most."""
    told: dict[str, Told] = {}
    for mail in reversed(thread.messages):  # the newest first: what it says of an order counts
        text = spoken(mail)
        orders = orders_in(text)
        for sighting in numbers_in(text):
            before = told.get(sighting.number)
            if before is None and len(told) > SHIPMENTS_MAX:
                continue
            order = order_near(orders, sighting.at)
            if before is None or (before.po_number is None and order is not None):
                told[sighting.number] = Told(sighting.number, sighting.form.carrier, order)
    return Extraction(tuple(told.values()), PATTERNS)


def found_in(thread: Thread, extraction: Extraction) -> list[Found]:
    """Return what a row is to be made of: each number once, the most certain first.

    Left out is what a model invented, a number that stands in no message; and what is beyond
    `SHIPMENTS_MAX`, of which `scanned_of` tells.
    """
    return _looked_for(thread, extraction)[0][:SHIPMENTS_MAX]


def _looked_for(thread: Thread, extraction: Extraction) -> tuple[list[Found], bool]:
    """Return one more than is kept at most; and whether more were named than are looked for."""
    named: dict[str, Told] = {}
    for told in sorted(extraction.told, key=lambda each: -each.confidence):
        named.setdefault(plain(told.tracking_number), told)
    found: list[Found] = []
    mails = thread.messages[::-1]  # the newest that names it counts
    said = [spoken(mail) for mail in mails]
    begins = list(accumulate((len(each) + len(_BETWEEN) for each in said), initial=0))
    searched = Searched(_BETWEEN.join(said))
    by = extraction.extracted_by or PATTERNS
    for number, told in islice(named.items(), NAMES_MAX):
        at = searched.place_of(number)
        if at is None:
            continue
        mail = mails[bisect_right(begins, at) - 1]
        known = attrs.evolve(told, tracking_number=number)
        supplier = thread.names.get(mail.sender or "")
        found.append(Found(known, thread.conversation_id, mail, supplier, by))
        if len(found) > SHIPMENTS_MAX:
            break
    return found, len(named) > NAMES_MAX


def shipment_of(found: Found) -> Shipment:
    """Make the row of a shipment."""
    told, mail = found.told, found.mail
    number = told.tracking_number
    form = form_of(number)
    certain = form if form is not None and (form.strict or form.carrier == told.carrier) else None
    return Shipment(
        tracking_number=number,
        carrier=certain.carrier if certain else told.carrier,
        number_form=certain.name if certain else None,
        po_number=told.po_number or None,
        supplier=found.supplier,
        supplier_handle=mail.sender,
        shipped_date=_day(told.shipped_date),
        estimated_delivery=_day(told.estimated_delivery),
        origin=told.origin or None,
        destination=told.destination or None,
        conversation_id=found.conversation_id,
        message_id=mail.id,
        mentioned_at=moment_of(mail.sent_at) or _EPOCH,
        extracted_by=found.extracted_by,
        confidence=round(told.confidence, 3),
        problem=problem_of(number),
    )


def problem_of(number: str) -> str | None:
    """Say why a number is none of a shipment; one that has no form may be of any other carrier."""
    least, most = NUMBER_CHARACTERS
    if not least <= len(number) <= most or not any(c.isdigit() for c in number):
        return f"no tracking number: {least} to {most} characters, and a digit"
    if not _TAKEN.fullmatch(number):
        return "no tracking number: it has other characters than letters, digits and - _ / ."
    if (like := likeness(number)) is not None:
        return f"looks like {like.name}, and its check digit is wrong"
    return None


def scanned_of(scanned: Scanned, *, confidence_least: float) -> ScannedConversation:
    """Make the row of a thread that was read."""
    thread, extraction = scanned.thread, scanned.extraction
    found, more = _looked_for(thread, extraction)
    certain = (each for each in found[:SHIPMENTS_MAX] if each.is_certain(confidence_least))
    shipments = sum(problem_of(each.told.tracking_number) is None for each in certain)
    last = thread.messages[-1] if thread.messages else None
    outcome = "extracted" if extraction.extracted_by else "silent"
    return ScannedConversation(
        conversation_id=thread.conversation_id,
        subject=next((mail.subject for mail in thread.messages if mail.subject), None),
        outcome="merged" if thread.merged_into else outcome,
        shipments_found=shipments,
        messages=len(thread.messages),
        last_message_id=last.id if last else None,
        last_message_at=moment_of(last.sent_at) if last else None,
        merged_into=thread.merged_into,
        problem=thread.problem or _problem_of_list(len(found), more=more, full=extraction.full),
        extracted_by=extraction.extracted_by,
        calls=extraction.calls,
        prompt_tokens=extraction.prompt_tokens,
        completion_tokens=extraction.completion_tokens,
        scanned_at=scanned.at,
    )


def _problem_of_list(count: int, *, more: bool, full: bool) -> str | None:
    """Say that shipments of a thread may be missing."""
    if count > SHIPMENTS_MAX:
        return f"it names more than {SHIPMENTS_MAX} shipments; those beyond are left out"
    if more:
        return f"more than {NAMES_MAX} numbers were named; those beyond were not looked for"
    return "an answer named as many shipments as it may; there may be more" if full else None


def _day(text: str | None) -> date | None:
    """Read a day; what is none is nothing: a date is not worth losing a shipment for."""
    try:
        return date.fromisoformat((text or "")[:10])
    except ValueError:
        return None
