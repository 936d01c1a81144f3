"""Laws of which of two states of a tracker is the newer one, however they come."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import msgspec
import pytest

from syncd import Response, Secret
from syncd.model import RouteRequest
from syncd_ship24 import api, webhook
from syncd_ship24.records import (
    DeliveryPart,
    OccurrencePart,
    ShipmentPart,
    StatisticsPart,
    TimestampsPart,
    Tracker,
    TrackerPart,
    TrackingRecord,
    revision_of,
    tracker_of,
)
from syncd_ship24.simulator import API_KEY, JOURNEY, WEBHOOK_SECRET, Call, Parcel, Ship24, Webhook
from syncd_ship24.times import AHEAD_MAX, believed

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


def told(milestone: str | None, occurred: str | None, *, at: str | None, **more: Any) -> int:
    """Return the revision of a state that is told with one event."""
    shipment = ShipmentPart(status_milestone=milestone)
    events = [] if occurred is None else [OccurrencePart(occurred)]
    return revision_of(TrackingRecord(TrackerPart("t"), shipment, events, told_at=at, **more))


# --- Which state is the newer ---------------------------------------------------------------------


def test_a_delivery_on_a_day_without_a_time_is_newer_than_what_was_told_before() -> None:
    out = told("out_for_delivery", "2026-11-21T08:00:00Z", at="2026-11-21T08:05:00.000Z")
    done = told("delivered", "2026-11-21", at="2026-11-21T15:00:00.000Z")

    assert out < done


def test_of_two_events_of_a_day_without_times_the_one_told_last_is_the_newer() -> None:
    first = told("in_transit", "2026-11-21", at="2026-11-21T08:05:00.000Z")
    second = told("out_for_delivery", "2026-11-21", at="2026-11-21T08:05:00.001Z")

    assert first < second


def test_an_event_that_a_courier_dates_into_the_future_does_not_win_for_ever() -> None:
    wrong = told("in_transit", "2099-01-01T00:00:00Z", at="2026-11-21T08:05:00.000Z")
    right = told("delivered", "2026-11-21T15:00:00Z", at="2026-11-21T15:05:00.000Z")

    assert wrong < right < 2**63


def test_of_one_moment_the_state_with_more_milestones_is_the_newer_then_the_later_event() -> None:
    at = NOON.isoformat()
    one = StatisticsPart(TimestampsPart(info_received_datetime="2026-11-20"))
    two = StatisticsPart(TimestampsPart("2026-11-20", "2026-11-21T08:00:00Z"))
    few = told("info_received", "2026-11-21T11:00:00Z", at=at, statistics=one)
    more = told("in_transit", "2026-11-21", at=at, statistics=two)
    later = told("in_transit", "2026-11-21T00:01:00", at=at, statistics=two)
    whole = told("in_transit", "2026-11-21T00:01:00", at=at, statistics=two, whole=True)
    next_one = told("pending", None, at=(NOON + timedelta(milliseconds=1)).isoformat())

    assert few < more < later < whole < next_one


@pytest.mark.parametrize(
    "record",
    [
        TrackingRecord(TrackerPart("t"), told_at=NOON.isoformat()),
        TrackingRecord(TrackerPart("t"), ShipmentPart(), told_at=NOON.isoformat()),
        TrackingRecord(
            TrackerPart("t"),
            ShipmentPart(delivery=DeliveryPart(signed_by="A. Neighbour")),
            [OccurrencePart("2026-11-21")],
        ),
    ],
)
def test_what_tells_no_state_takes_none_away(record: TrackingRecord) -> None:
    assert revision_of(record) == 0


def test_what_nobody_says_the_moment_of_goes_by_its_event_and_before_what_has_one() -> None:
    early = told("in_transit", "2026-11-20T08:00:00Z", at=None)
    late = told("delivered", "2098-11-21T08:00:00Z", at="when it was")
    dated = told("in_transit", "2019-01-01", at="2019-01-01T00:00:00.000Z")

    assert 0 < early < late < dated
    assert told("in_transit", None, at=None) == 0


@pytest.mark.parametrize("at", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"])
def test_a_revision_fits_whatever_is_told(at: str) -> None:
    times = StatisticsPart(TimestampsPart(*["2026-11-21"] * 7))

    assert 0 <= told("delivered", "9999-12-31", at=at, statistics=times, whole=True) < 2**63
    assert 0 <= told("delivered", "0001-01-01", at=at, statistics=times) < 2**63


# --- Of which moment a pull tells -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "date", "known"),
    [
        (0.0, None, 0.0),  # no other clock
        (0.7, 0.0, 0.7),  # a Date names whole seconds
        (0.7, 5.0, 0.7),  # the answer took its time
        (300.0, 0.0, 0.0),  # our clock is ahead
        (-300.0, 0.0, -60.0),  # ours is behind: no answer takes longer than its deadline
        (-3600.0, 0.0, -60.0),
        (-3601.0, 0.0, -3601.0),  # theirs is wrong, as far as we know
        (0.0, 2e9, 0.0),
    ],
)
def test_a_pull_tells_of_when_it_was_asked_as_far_as_the_servers_clock_agrees(
    sent: float, date: float | None, known: float
) -> None:
    named = None if date is None else NOON + timedelta(seconds=date)
    sent_at = NOON + timedelta(seconds=sent)
    answer = Response(200, {}, b"", sent_at, named, "https://api.ship24.test")

    assert api.known_at(answer) == NOON + timedelta(seconds=known)


# --- What is said to be generated ahead of our clock ----------------------------------------------


@pytest.mark.parametrize("ahead", [timedelta(days=26_000), timedelta(days=2), AHEAD_MAX * 1.01])
def test_a_message_from_the_future_is_of_the_moment_it_came(ahead: timedelta) -> None:
    """It is newer than what was before; neither a pull after it nor the next message is older."""
    shipment = Shipment(1, skew_seconds=0.0)
    shipment.tell()
    shipment.upstream.odd.ahead = ahead
    shipment.tell()
    shipment.upstream.odd.ahead = timedelta()
    shipment.at += timedelta(seconds=1)
    shipment.pull()
    shipment.tell()
    first, wrong, pulled, last = shipment.told

    assert first.revision < wrong.revision < pulled.revision < last.revision
    assert wrong.status_milestone == "in_transit", "its state is told as ever"


def test_clocks_that_differ_by_almost_as_much_as_may_be_keep_the_order_of_messages() -> None:
    """Two messages, heard the wrong way round by a clock that is behind theirs."""
    shipment = Shipment(1, skew_seconds=1 - AHEAD_MAX.total_seconds())
    shipment.upstream.happen(shipment.parcel, 2)
    first, second = shipment.upstream.webhooks.waiting
    then = shipment.at + shipment.skew

    assert heard(first, at=then + timedelta(hours=1)).revision < heard(second, at=then).revision


@pytest.mark.parametrize("text", ["2026-11-21T13:00:00Z", "2026-11-21", "when it was", None])
def test_what_names_no_moment_that_is_ahead_is_told_as_it_came(text: str | None) -> None:
    assert believed(text, now=NOON) == text


# --- Whatever the order ---------------------------------------------------------------------------


class Shipment:
    """A parcel under way, all that is told of it, and whoever writes it down."""

    def __init__(self, seed: int, *, skew_seconds: float) -> None:
        self.at = NOON
        self.skew = timedelta(seconds=skew_seconds)
        self.upstream = Ship24(now=lambda: self.at, seed=seed, limits=False)
        self.upstream.odd.pod = True
        self.parcel: Parcel = self.upstream.register({"trackingNumber": "AAAAA1"})[0]
        self.random = Random(seed)
        self.told: list[Tracker] = []

    def live(self) -> None:
        """Go the whole way, and be pulled now and then, also while something happens."""
        while not self.parcel.arrived:
            self.at += timedelta(seconds=self.random.choice((0.4, 90.0, 30000.0)))
            self.upstream.happen(self.parcel, self.random.choice((1, 1, 3)))
            if self.random.random() < 0.5:
                self.pull()
        for each in self.upstream.webhooks.due():
            self.told.append(heard(each, at=self.at + self.skew))

    def tell(self) -> None:
        """Let something happen, and hear of it at once."""
        self.at += timedelta(hours=1)
        self.upstream.happen(self.parcel)
        self.told.append(heard(self.upstream.webhooks.waiting[-1], at=self.at + self.skew))

    def pull(self) -> None:
        sent_at = self.at + timedelta(seconds=self.random.random() / 10)
        self.at = sent_at + timedelta(seconds=self.random.random() / 10)
        key = {"authorization": f"Bearer {API_KEY}"}
        path = f"/trackers/{self.parcel.tracker_id}/results"
        body = self.upstream.answer(Call("GET", path, {}, key)).body
        date = self.at.replace(microsecond=0)
        answer = Response(200, {}, body, sent_at + self.skew, date, "https://api.ship24.test")
        (record,) = api.results_page(answer).records["trackers"]
        self.told.append(made(record))


def heard(message: Webhook, *, at: datetime) -> Tracker:
    headers = dict(message.headers)
    request = RouteRequest("POST", "/webhook", {}, headers, message.body, received_at=at)
    (record,) = webhook.heard(Secret(WEBHOOK_SECRET), request).records["trackers"]
    return made(record)


def made(record: Any) -> Tracker:
    told_of = msgspec.json.decode(record.raw) | record.parent
    return tracker_of(msgspec.convert(told_of, TrackingRecord))


def written(rows: list[Tracker]) -> Tracker:
    """Write rows one after the other: what is equal but for its revision is not written."""
    stored = rows[0]
    for row in rows[1:]:
        is_equal = content(row) == content(stored)
        if not is_equal and row.revision >= stored.revision:
            stored = row
    return stored


def content(row: Tracker) -> tuple[Any, ...]:
    return tuple(getattr(row, name) for name in Tracker.__annotations__ if name != "revision")


@pytest.mark.parametrize("skew_seconds", [0.0, 300.0, -300.0])
def test_neither_order_nor_repetition_nor_a_pull_beside_them_matters(skew_seconds: float) -> None:
    """Nor a clock of ours that is wrong: what a pull is too early for, a message tells."""
    for seed in range(40):
        shipment = Shipment(seed, skew_seconds=skew_seconds)
        shipment.live()
        for _ in range(10):
            shipment.random.shuffle(shipment.told)
            row = written(shipment.told)
            assert (row.status_milestone, row.signed_by) == ("delivered", "A. Neighbour"), seed
            assert (
                row.delivered_text == shipment.parcel.event(len(JOURNEY) - 1)["occurrenceDatetime"]
            )


def test_a_state_that_comes_back_is_told_from_the_one_before_by_its_event() -> None:
    """In transit with a code, with another, with the first again: heard in any order."""
    rows = [
        tracker_of(
            TrackingRecord(
                TrackerPart("t"),
                ShipmentPart(status_milestone="in_transit", status_code=code),
                [OccurrencePart("2026-11-21", event_id=f"event {place}")],
                told_at=(NOON + timedelta(minutes=place)).isoformat(),
            )
        )
        for place, code in enumerate(("transit_handover", None, "transit_handover"))
    ]

    assert written([rows[0], rows[2], rows[1]]) == rows[2]
    assert written([rows[2], rows[0], rows[1]]) == rows[2]
