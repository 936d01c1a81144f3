"""Where the daemon's HTTP server listens, and whom it lets in."""

from __future__ import annotations

import ipaddress
from typing import Any

import attrs

from syncd.config.values import Size, Unwanted, sized
from syncd.model import Secret

TOKEN_MIN_CHARS = 16  # of random letters and digits: 95 bits, which nobody guesses over a network


def _address(_instance: object, _attribute: object, value: str | None) -> None:
    if value is not None:
        address_of(value)


def address_of(text: str) -> tuple[str, int]:
    """Return the address and the port of ``ADDRESS:PORT``; an IPv6 address stands in brackets.

    Raises: `Unwanted`.
    """
    host, _, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        host = ""
    try:
        host = str(ipaddress.ip_address("127.0.0.1" if host == "localhost" else host))
        if not (port.isdecimal() and port.isascii() and int(port) < 2**16):
            raise ValueError
    except ValueError:
        raise Unwanted('wanted ADDRESS:PORT, such as "127.0.0.1:8787" or "[::1]:8787"') from None
    return host, int(port)


def _token(instance: Any, _attribute: object, value: Secret | None) -> None:
    if value is not None:
        if len(value.reveal()) < TOKEN_MIN_CHARS:
            raise Unwanted(f"wanted at least {TOKEN_MIN_CHARS} characters")
    elif instance.listen is not None and not instance.on_loopback:
        raise Unwanted("listens beyond this machine, and has no token; wanted one")


@attrs.frozen
class Admin:
    """The daemon's HTTP server (`syncd serve`): its health, and what plugins serve (webhooks)."""

    listen: str | None = attrs.field(
        default=None,
        validator=_address,
        metadata={
            "about": "ADDRESS:PORT to listen on, such as 127.0.0.1:8787; without it, nowhere"
        },
    )
    token: Secret | None = attrs.field(
        default=None,
        validator=_token,
        metadata={
            "about": "what /healthz and /readyz want as `Authorization: Bearer TOKEN`; needed "
            "where listen is not this machine's loopback. What plugins serve they protect by "
            "themselves"
        },
    )
    body_max_bytes: Size = attrs.field(
        default=2**20,
        validator=sized("1KiB", "64MiB"),
        metadata={"about": "the largest body of a request"},
    )

    @property
    def on_loopback(self) -> bool:
        if self.listen is None:
            return True
        return ipaddress.ip_address(address_of(self.listen)[0]).is_loopback
