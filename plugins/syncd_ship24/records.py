"""What Ship24 sends of trackers and events, and the rows that are made of it. Pure.

Webhooks leave out what results tell of a tracker's subscription and couriers, so that no row holds
it: the one would take away what the other brought. Who receives a shipment is not kept either.
Codes and milestones are open sets: any text is taken.

Of two states of a tracker the one that was told of later is the newer: a message says when it was
generated (what is far ahead of us was generated when it came), a pull when it was asked. Events do
not say: couriers tell days without times, times without zones, and some of them late.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import attrs
import msgspec

from syncd_ship24.times import moment_of, order_of

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_AHEAD = timedelta(hours=14)  # Line Islands: no clock on the wall is further ahead of UTC

# The bits of a revision, from the highest: when it was told (milliseconds, until the year 2109),
# how many milestones had been reached, how recent the event was (minutes, of 91 days), whether it
# was told whole. Any of them is above the microseconds of what has no moment.
_TOLD_MAX = 2**42 - 1
_REACHED_MAX = 2**3 - 1
_RECENT_MAX = 2**17 - 1


class TrackerPart(msgspec.Struct, gc=False, rename="camel"):
    tracker_id: str
    tracking_number: str | None = None
    shipment_reference: str | None = None
    client_tracker_id: str | None = None
    created_at: str | None = None


class EstimatePart(msgspec.Struct, gc=False):
    from_: str | None = msgspec.field(name="from", default=None)
    to: str | None = None


class DeliveryPart(msgspec.Struct, gc=False, rename="camel"):
    estimated_delivery_date: str | None = None
    courier_estimated_delivery_date: EstimatePart | None = None
    service: str | None = None
    signed_by: str | None = None


class ShipmentPart(msgspec.Struct, gc=False, rename="camel"):
    shipment_id: str | None = None
    status_code: str | None = None
    status_category: str | None = None
    status_milestone: str | None = None
    origin_country_code: str | None = None
    destination_country_code: str | None = None
    delivery: DeliveryPart | None = None


class OccurrencePart(msgspec.Struct, gc=False, rename="camel"):
    occurrence_datetime: str | None = None
    event_id: str | None = None


class TimestampsPart(msgspec.Struct, gc=False, rename="camel"):
    info_received_datetime: str | None = None
    in_transit_datetime: str | None = None
    out_for_delivery_datetime: str | None = None
    failed_attempt_datetime: str | None = None
    available_for_pickup_datetime: str | None = None
    exception_datetime: str | None = None
    delivered_datetime: str | None = None


class StatisticsPart(msgspec.Struct, gc=False):
    timestamps: TimestampsPart | None = None


class TrackingRecord(msgspec.Struct, gc=False):
    """A tracker as results and webhooks tell of it.

    `told_at` is the answer's moment, or the message's; `whole`: all events are told, and not one.
    """

    tracker: TrackerPart
    shipment: ShipmentPart | None = None
    events: list[OccurrencePart] | None = None
    statistics: StatisticsPart | None = None
    told_at: str | None = None
    whole: bool = False


class EventRecord(msgspec.Struct, gc=False, rename="camel"):
    """An event of a tracker as it comes; `tracker_id` and `told_at` are its tracking's."""

    event_id: str
    tracking_number: str | None = None
    event_tracking_number: str | None = None
    status: str | None = None
    occurrence_datetime: str | None = None
    order: int | None = None
    location: str | None = None
    source_code: str | None = None
    courier_code: str | None = None
    status_code: str | None = None
    status_category: str | None = None
    status_milestone: str | None = None
    tracker_id: str | None = None
    told_at: str | None = None


@attrs.define
class Tracker:
    """A row of `trackers`: a parcel that is followed, and where it is.

    Times are kept as they came (`*_text`), those of couriers often name no zone. `told_event_id` is
    the event whose message told this state, the newest one where it was pulled. `revision` says
    which of two states is the newer one, see `revision_of`.
    """

    tracker_id: str
    tracking_number: str | None
    shipment_reference: str | None
    client_tracker_id: str | None
    created_at: datetime | None
    shipment_id: str | None
    status_milestone: str | None
    status_category: str | None
    status_code: str | None
    origin_country_code: str | None
    destination_country_code: str | None
    service: str | None
    signed_by: str | None
    estimated_delivery_text: str | None
    courier_estimated_from_text: str | None
    courier_estimated_to_text: str | None
    info_received_text: str | None
    in_transit_text: str | None
    out_for_delivery_text: str | None
    failed_attempt_text: str | None
    available_for_pickup_text: str | None
    exception_text: str | None
    delivered_text: str | None
    told_event_id: str | None
    revision: int


@attrs.define
class TrackingEvent:
    """A row of `tracking_events`: what happened to a parcel.

    `occurrence_at` is null where the courier named no zone, or no time of the day; `order_no` is
    Ship24's own, among events of one time.
    """

    event_id: str
    tracker_id: str | None
    tracking_number: str | None
    event_tracking_number: str | None
    occurrence_text: str | None
    occurrence_at: datetime | None
    order_no: int | None
    status_text: str | None
    status_milestone: str | None
    status_category: str | None
    status_code: str | None
    location: str | None
    courier_code: str | None
    source_code: str | None
    told_at: datetime | None


def tracker_of(record: TrackingRecord) -> Tracker:
    """Make the row of a tracker."""
    tracker, shipment = record.tracker, record.shipment or ShipmentPart()
    delivery = shipment.delivery or DeliveryPart()
    estimate = delivery.courier_estimated_delivery_date or EstimatePart()
    statistics = record.statistics or StatisticsPart()
    since = statistics.timestamps or TimestampsPart()
    return Tracker(
        tracker_id=tracker.tracker_id,
        tracking_number=tracker.tracking_number,
        shipment_reference=tracker.shipment_reference,
        client_tracker_id=tracker.client_tracker_id,
        created_at=moment_of(tracker.created_at),
        shipment_id=shipment.shipment_id,
        status_milestone=shipment.status_milestone,
        status_category=shipment.status_category,
        status_code=shipment.status_code,
        origin_country_code=shipment.origin_country_code,
        destination_country_code=shipment.destination_country_code,
        service=delivery.service,
        signed_by=delivery.signed_by,
        estimated_delivery_text=delivery.estimated_delivery_date,
        courier_estimated_from_text=estimate.from_,
        courier_estimated_to_text=estimate.to,
        info_received_text=since.info_received_datetime,
        in_transit_text=since.in_transit_datetime,
        out_for_delivery_text=since.out_for_delivery_datetime,
        failed_attempt_text=since.failed_attempt_datetime,
        available_for_pickup_text=since.available_for_pickup_datetime,
        exception_text=since.exception_datetime,
        delivered_text=since.delivered_datetime,
        told_event_id=record.events[0].event_id if record.events else None,
        revision=revision_of(record),
    )


def revision_of(record: TrackingRecord) -> int:
    """Return a number that is the higher, the newer the state is: 0 where no state is told.

    The moment of telling decides. Of one moment (a page of messages) it is the milestones reached,
    which only grow, then the newest event's time as far as it is known, then who tells the `whole`.

    What nobody says the moment of is older than what has one, and goes by its event's microseconds.
    """
    if record.shipment is None or record.shipment.status_milestone is None:
        return 0
    told, newest = order_of(record.told_at), _newest(record)
    if told is None:
        return 0 if newest is None else max((newest - _EPOCH) // datetime.resolution, 0)
    milliseconds = min(max((told - _EPOCH) // timedelta(milliseconds=1), 0), _TOLD_MAX)
    recent = 0
    if newest is not None:
        ago = max((told - newest + _AHEAD) // timedelta(minutes=1), 0)
        recent = max(_RECENT_MAX - ago, 0)
    revision = milliseconds
    for part, most in ((_reached(record), _REACHED_MAX), (recent, _RECENT_MAX), (record.whole, 1)):
        revision = revision * (most + 1) + part
    return revision


def _newest(record: TrackingRecord) -> datetime | None:
    moments = (order_of(event.occurrence_datetime) for event in record.events or ())
    return max((moment for moment in moments if moment is not None), default=None)


def _reached(record: TrackingRecord) -> int:
    """Return how many milestones have been reached."""
    if record.statistics is None or record.statistics.timestamps is None:
        return 0
    since = record.statistics.timestamps
    reached = (getattr(since, name) is not None for name in since.__struct_fields__)
    return min(sum(reached), _REACHED_MAX)


def event_of(record: EventRecord) -> TrackingEvent:
    """Make the row of an event."""
    return TrackingEvent(
        event_id=record.event_id,
        tracker_id=record.tracker_id,
        tracking_number=record.tracking_number,
        event_tracking_number=record.event_tracking_number,
        occurrence_text=record.occurrence_datetime,
        occurrence_at=moment_of(record.occurrence_datetime),
        order_no=record.order,
        status_text=record.status,
        status_milestone=record.status_milestone,
        status_category=record.status_category,
        status_code=record.status_code,
        location=record.location,
        courier_code=record.courier_code,
        source_code=record.source_code,
        told_at=moment_of(record.told_at),
    )
