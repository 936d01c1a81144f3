"""What numbers carriers give their shipments, and how each is checked. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Literal, TypeAlias

import attrs

from syncd_front.extraction import checks

Carrier: TypeAlias = Literal["ups", "fedex", "usps", "dhl", "post", "other"]

_SEPARATORS = re.compile(r"[\s\u00a0-]+")


@attrs.frozen
class Form:
    """One form of numbers.

    `strict`: hardly anything else looks like it. Others (twelve digits) are numbers of a carrier
    only where the text around them says so. `check`: of what stands in the group `body`; the group
    `digit` then holds the check digit. A form without a check has none, or none that is published.
    """

    name: str
    carrier: Carrier
    pattern: re.Pattern[str]
    check: Callable[[str], int] | None
    strict: bool = False

    def fits(self, number: str) -> bool:
        """Say whether a number has this form, its check digit aside."""
        return self.pattern.fullmatch(number) is not None

    def admits(self, number: str) -> bool:
        """Say whether a number has this form and the right check digit."""
        found = self.pattern.fullmatch(number)
        if found is None:
            return False
        return self.check is None or self.check(found["body"]) == int(found["digit"])


def _form(
    name: str,
    carrier: Carrier,
    pattern: str,
    check: Callable[[str], int] | None,
    *,
    strict: bool = False,
) -> Form:
    return Form(name, carrier, re.compile(pattern, re.ASCII), check, strict)


# In this order: of two forms that a number has, the first that admits it counts.
FORMS = (
    _form("ups-1z", "ups", r"1Z(?P<body>[0-9A-Z]{15})(?P<digit>\d)", checks.ups, strict=True),
    _form("s10-us", "usps", r"[A-Z]{2}(?P<body>\d{8})(?P<digit>\d)US", checks.s10, strict=True),
    _form("s10", "post", r"[A-Z]{2}(?P<body>\d{8})(?P<digit>\d)[A-Z]{2}", checks.s10, strict=True),
    # 420 and a ZIP code may stand before an IMpb as it is scanned.
    _form(
        "usps-impb",
        "usps",
        r"(?:420(?:\d{5}|\d{9}))?(?P<body>9[1-5]\d{19})(?P<digit>\d)",
        checks.gs1,
        strict=True,
    ),
    _form("usps-20", "usps", r"(?P<body>7\d{18})(?P<digit>\d)", checks.usps_short),
    _form("dhl-sscc", "dhl", r"(?P<body>00340434\d{11})(?P<digit>\d)", checks.gs1),
    _form("fedex-20", "fedex", r"(?P<body>00\d{17})(?P<digit>\d)", checks.gs1),
    _form("fedex-22", "fedex", r"(?P<body>96\d{19})(?P<digit>\d)", checks.fedex_ground_96),
    _form("fedex-15", "fedex", r"(?P<body>\d{14})(?P<digit>\d)", checks.gs1),
    _form("fedex-12", "fedex", r"(?P<body>\d{11})(?P<digit>\d)", checks.fedex_express),
    _form("dhl-10", "dhl", r"(?P<body>\d{9})(?P<digit>\d)", checks.dhl_express),
    _form("dhl-jjd", "dhl", r"JJD\d{11,18}", None, strict=True),
    _form("dhl-gm", "dhl", r"GM\d{16,18}", None, strict=True),
)


def plain(number: str) -> str:
    """Return a number without what people write between its groups, in capitals.

    A ZIP code that was scanned before an IMpb is left out: it is of the address.
    """
    text = _SEPARATORS.sub("", number).upper()
    routed = re.fullmatch(r"420(?:\d{5}|\d{9})(9[1-5]\d{20})", text, re.ASCII)
    return routed[1] if routed else text


def form_of(number: str) -> Form | None:
    """Return the form whose check digit a number has; `None` where it has no carrier's."""
    return next((form for form in FORMS if form.admits(number)), None)


def likeness(number: str) -> Form | None:
    """Return a strict form that a number has but for its check digit, where it has no other."""
    if form_of(number) is not None:
        return None
    return next((form for form in FORMS if form.strict and form.fits(number)), None)
