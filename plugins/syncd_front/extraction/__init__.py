"""Find shipments in plain text: without network, clock or chance, always with the same result.

It stands in for a language model where none is configured, and says before one is asked whether a
thread speaks of a shipment at all.
"""

from syncd_front.extraction.finding import (
    Searched,
    Sighting,
    blanks_between,
    numbers_in,
    occurs_in,
    order_near,
    orders_in,
)
from syncd_front.extraction.forms import FORMS, Form, form_of, likeness, plain
from syncd_front.extraction.speaking import FIRST_TEST_VERSION, speaks_of_shipment

__all__ = [
    "FIRST_TEST_VERSION",
    "FORMS",
    "Form",
    "Searched",
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
