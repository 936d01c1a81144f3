"""Find shipments in plain text: without network, clock or chance, always with the same result.

It stands in for a language model where none is configured, and says before one is asked whether a
thread speaks of a shipment at all.
"""

from syncd_front.extraction.finding import (
    Sighting,
    blanks_between,
    numbers_in,
    occurs_in,
    order_near,
    orders_in,
    speaks_of_shipment,
)
from syncd_front.extraction.forms import FORMS, Form, form_of, likeness, plain

__all__ = [
    "FORMS",
    "Form",
    "Sighting",
    "blanks_between",
    "form_of",
    "likeness",
    "numbers_in",
    "occurs_in",
    "order_near",
    "orders_in",
    "plain",
    "speaks_of_shipment",
]
