"""The parcels that the simulated upstream follows: invented, seeded, and under way.

What happens to a parcel is the same for each seed and number. Times come in all shapes that
couriers are known to tell them in: with Z, with an offset, without a zone, without a time.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from random import Random
from typing import Any, Literal
from uuid import UUID

import attrs

Times = Literal["mixed", "zoned"]

BEGAN_AT = datetime(2026, 11, 2, 8, tzinfo=UTC)  # when the first event of every parcel was
STEP = timedelta(hours=9)

# Milestone, status code and what the courier says, from the sender to the door.
JOURNEY = (
    ("info_received", "data_order_created", "Label created"),
    ("in_transit", "transit_handover", "Picked up"),
    ("in_transit", "transit_origin_country_departure", "Departed"),
    ("in_transit", "destination_arrival", "Arrived"),
    ("in_transit", None, "Processed at a hub"),  # not every text has a code
    ("out_for_delivery", "delivery_out_for_delivery", "Out For Delivery Today"),
    ("delivered", "delivery_delivered", "Delivered"),
)
_CATEGORY = {"data": "data", "transit": "transit", "destination": "destination"}
_PLACES = ("San Francisco, CA, US", "Reno, NV, US", "Guangzhou, CN", "Hamburg, DE", None)
_TIMESTAMPS = {
    "info_received": "infoReceivedDatetime",
    "in_transit": "inTransitDatetime",
    "out_for_delivery": "outForDeliveryDatetime",
    "delivered": "deliveredDatetime",
}
RECIPIENT = {"name": None, "address": None, "postCode": "94107", "city": None}
_CHINA = timezone(timedelta(hours=8))


def told(moment: datetime, *, shape: int) -> str:
    """Write a moment as couriers do, in one of four ways."""
    match shape % 4:
        case 0:
            return f"{moment:%Y-%m-%dT%H:%M:%S}"
        case 1:
            return moment.astimezone(_CHINA).isoformat()
        case 2:
            return f"{moment:%Y-%m-%dT%H:%M:%S}.000Z"
        case _:
            return f"{moment:%Y-%m-%d}"


def instant(moment: datetime) -> str:
    """Write a moment as Ship24 writes its own."""
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03}Z"


@attrs.define
class Parcel:
    """A tracker, what it was asked for with, and how many of its events have happened."""

    tracker_id: str
    asked: Mapping[str, Any]
    created_at: datetime
    seed: str
    times: Times = "mixed"
    happened: int = 0

    @property
    def number(self) -> str:
        return str(self.asked["trackingNumber"])

    @property
    def arrived(self) -> bool:
        return self.happened >= len(JOURNEY)

    def uuid(self, of: str) -> str:
        """Return an id that is this parcel's own, and the same each time."""
        return str(UUID(int=Random(f"{self.seed} {self.tracker_id} {of}").getrandbits(128)))  # noqa: S311

    def tracker(self, *, subscription: bool) -> dict[str, Any]:
        """Return the tracker as it comes; webhooks say nothing of its subscription."""
        said = {
            "trackerId": self.tracker_id,
            "trackingNumber": self.number,
            "shipmentReference": self.asked.get("shipmentReference"),
            "clientTrackerId": self.asked.get("clientTrackerId"),
            "createdAt": instant(self.created_at),
        }
        if subscription:
            said |= {"isSubscribed": True, "isTracked": True}
            if "courierCode" in self.asked:
                said["courierCode"] = self.asked["courierCode"]
        return said

    def event(self, place: int) -> dict[str, Any]:
        """Return one event."""
        milestone, code, status = JOURNEY[place]
        draw = Random(f"{self.seed} {self.tracker_id} {place}")  # noqa: S311 - invented parcels
        shape = draw.randrange(4) if self.times == "mixed" else 1 + place % 2
        said = {
            "eventId": self.uuid(f"event {place}"),
            "trackingNumber": self.number,
            "eventTrackingNumber": self.number,
            "status": status,
            "occurrenceDatetime": told(BEGAN_AT + place * STEP, shape=shape),
            "order": None if place % 2 else place,
            "location": draw.choice(_PLACES),
            "sourceCode": "ups",
            "courierCode": "ups",
            "statusCode": code,
            "statusCategory": _category(code),
            "statusMilestone": milestone,
        }
        if place % 3 == 0:  # deprecated, and still there
            said |= {"datetime": said["occurrenceDatetime"], "utcOffset": "-08:00",
                     "hasNoTime": shape == 3}  # fmt: skip
        return said

    def shipment(self) -> dict[str, Any]:
        milestone, code = JOURNEY[self.happened - 1][:2] if self.happened else ("pending", None)
        estimate = instant(BEGAN_AT + len(JOURNEY) * STEP) if self.happened > 1 else None
        return {
            "shipmentId": self.uuid("shipment") if self.happened else None,
            "statusCode": code,
            "statusCategory": _category(code),
            "statusMilestone": milestone,
            "originCountryCode": "US",
            "destinationCountryCode": "US",
            "delivery": {
                "estimatedDeliveryDate": estimate,
                "courierEstimatedDeliveryDate": {"from": None, "to": None},
                "service": "UPS Ground" if self.happened else None,
                "signedBy": "A. Neighbour" if self.arrived else None,
            },
            "trackingNumbers": [{"tn": self.number}],
            "recipient": RECIPIENT,
        }

    def statistics(self) -> dict[str, Any]:
        since: dict[str, str | None] = dict.fromkeys(
            [*_TIMESTAMPS.values(), "failedAttemptDatetime", "availableForPickupDatetime",
             "exceptionDatetime"]
        )  # fmt: skip
        for place in range(self.happened):
            name = _TIMESTAMPS[JOURNEY[place][0]]
            since[name] = since[name] or self.event(place)["occurrenceDatetime"]
        return {"timestamps": since}

    def tracking(self) -> dict[str, Any]:
        """Return what results tell: everything, the newest event first."""
        return {
            "tracker": self.tracker(subscription=True),
            "shipment": self.shipment(),
            "events": [self.event(place) for place in reversed(range(self.happened))],
            "statistics": self.statistics(),
        }

    def message(
        self, place: int | None, *, message_id: str, at: datetime, topic: str
    ) -> dict[str, Any]:
        """Return what a webhook tells of one event, or of none, as things stand now."""
        return {
            "metadata": {"generatedAt": instant(at), "messageId": message_id, "topic": topic},
            "tracker": self.tracker(subscription=False),
            "shipment": self.shipment(),
            "events": [] if place is None else [self.event(place)],
            "statistics": self.statistics(),
        }


def _category(code: str | None) -> str | None:
    return None if code is None else _CATEGORY.get(code.partition("_")[0], "delivery")
