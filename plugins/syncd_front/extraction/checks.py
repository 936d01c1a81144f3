"""Check digits of carriers' numbers. Pure; each takes what stands before the check digit.

Sources: UPU S10 (identification of postal items); GS1 General Specifications 7.9.1; USPS
Publication 199 (IMpb); the carriers' labels guides for UPS 1Z, FedEx Express and DHL Express.
"""

from __future__ import annotations

from itertools import cycle


def gs1(digits: str) -> int:
    """Return the check digit of GS1: weights 3 and 1 by turns, from the right."""
    weighed = sum(int(digit) * weight for digit, weight in zip(reversed(digits), cycle((3, 1))))
    return -weighed % 10


def s10(digits: str) -> int:
    """Return the check digit of UPU S10, of the eight digits of a serial number."""
    weights = (8, 6, 4, 2, 3, 5, 9, 7)
    rest = 11 - sum(int(d) * weight for d, weight in zip(digits, weights, strict=True)) % 11
    return {10: 0, 11: 5}.get(rest, rest)


def ups(characters: str) -> int:
    """Return the check digit of a UPS number, of what stands between `1Z` and it.

    Letters count by their place: A is 2, H is 9, I is 0, and so on.
    """
    values = (int(c) if c.isdigit() else (ord(c) - 63) % 10 for c in characters)
    return -sum(value * weight for value, weight in zip(values, cycle((1, 2)))) % 10


def fedex_express(digits: str) -> int:
    """Return the check digit of FedEx Express: weights 3, 1, 7; modulo 11, of which 10 is 0."""
    weighed = sum(int(digit) * weight for digit, weight in zip(digits, cycle((3, 1, 7))))
    return weighed % 11 % 10


def dhl_express(digits: str) -> int:
    """Return the check digit of DHL Express: the rest modulo 7."""
    return int(digits) % 7


def usps_short(digits: str) -> int:
    """Return the check digit of USPS's 20 digits: GS1's, as if `91` stood before them."""
    return gs1(f"91{digits}")


def fedex_ground_96(digits: str) -> int:
    """Return the check digit of FedEx Ground's 22 digits: GS1's, of the last 14 before it."""
    return gs1(digits[-14:])
