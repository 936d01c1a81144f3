"""Where requests may go: credentials leave for the origins their connector names, and no other.

A `next` link and a redirect are the same thing here: an address that an answer gave.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import quote, urlencode

from syncd.errors import ConfigError, Unintelligible
from syncd.http.masking import masked
from syncd.http.wire import URL, InvalidURL
from syncd.model import Secret, Upstream

REDIRECTS_MAX = 3

_PATH_CHARACTERS_MAX = 200
_PLAIN_ORIGIN = re.compile(r"[a-z+.-]{1,20}://[a-z0-9._:\[\]-]{1,255}")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")  # RFC 3986 3.1
_PORTS = {"http": ":80", "https": ":443"}


def origin_of(url: URL) -> str:
    """Return ``scheme://host[:port]``, without a scheme's own port (RFC 6454 6.2)."""
    return f"{url.scheme}://{url.netloc.decode('ascii').removesuffix(_PORTS.get(url.scheme, ' '))}"


def path_of(url: URL) -> str:
    return url.raw_path.partition(b"?")[0].decode("ascii")


def query_of(url: URL) -> str:
    return url.raw_path.partition(b"?")[2].decode("ascii")


def where(name: str, url: URL, secrets: tuple[str, ...], method: str = "GET") -> str:
    """Name a request in a message: never its query nor its headers."""
    return f"{name} {method} {masked(path_of(url), secrets)[:_PATH_CHARACTERS_MAX]}"


class Origins:
    """The addresses of one upstream."""

    def __init__(self, name: str, upstream: Upstream, *, secrets: tuple[str, ...]) -> None:
        """Read base URL and credential origins.

        Raises: `ConfigError` where one is no plain http(s) address.
        """
        self._name = name
        self._secrets = secrets
        self._base = _declared(name, "base_url", upstream.base_url)
        self._below = f"{origin_of(self._base)}{path_of(self._base).rstrip('/')}"
        also = [_declared(name, "credential_origins", e) for e in upstream.credential_origins]
        self._allowed = {origin_of(url) for url in (self._base, *also)}
        beside = {_declared(name, "beside", url): url for url in upstream.beside}
        self._beside = {origin_of(url) for url in beside} - self._allowed
        self.headers: Mapping[str, Mapping[str, str | Secret]] = {  # that are sent to an origin
            **{origin_of(url): upstream.beside[text] for url, text in beside.items()},
            **dict.fromkeys(self._allowed, upstream.headers),
        }
        everywhere = (self._base, *also, *beside)
        self.hosts = frozenset(url.raw_host.decode("ascii") for url in everywhere)

    def is_beside(self, url: URL) -> bool:
        """Say whether an address is of another API, where this one's credentials do not go."""
        return origin_of(url) in self._beside

    def target(self, url: str, params: Mapping[str, str | int] | None, method: str = "GET") -> URL:
        """Return the address of a request: of a path below the base URL, or an absolute one.

        Raises: `Unintelligible` where it leads to an origin that the connector does not name.
        """
        # One parse for all of it: reading an address is a tenth of what a request costs.
        text = url.partition("#")[0]
        if text.startswith("//"):
            text = f"{self._base.scheme}:{text}"
        elif not _SCHEME.match(text):
            # A path goes below the base URL's, where joining as RFC 3986 does would replace it.
            separator = "" if text[:1] in {"", "?"} else "/"
            text = f"{self._below}{separator}{text.lstrip('/')}"
        if params:
            # Appended, not merged: a query that the upstream wrote is sent back byte for byte.
            text += f"{'&' if '?' in text else '?'}{urlencode(params, quote_via=quote)}"
        target = self._parsed(text, f"{self._name} {method}")
        if self.is_beside(target) and not target.userinfo:
            return target
        return self._checked(self._base, target, "the address")

    def moved(self, source: URL, location: str) -> URL:
        """Return where a redirect leads.

        Raises: `Unintelligible` where it leads to another origin, or from https to http.
        """
        given = self._parsed(location, where(self._name, source, self._secrets))
        target = source.join(given).copy_with(fragment=None)
        if self.is_beside(source) and origin_of(target) == origin_of(source):
            return target
        return self._checked(source, target, "the redirect")

    def _parsed(self, text: str, place: str) -> URL:
        url = _parse(text)
        if url is None:
            raise Unintelligible(
                place, "was given an address that is none", "compare with the API's documentation"
            )
        return url

    def _checked(self, source: URL, target: URL, what: str) -> URL:
        origin = origin_of(target)
        downgrade = source.scheme == "https" and target.scheme != "https"
        strays = self.is_beside(source)
        if origin in self._allowed and not (target.userinfo or downgrade or strays):
            return target
        why = "from https to http" if downgrade else "where its credentials do not go"
        if target.userinfo:
            why = "with credentials in the address"
        raise Unintelligible(
            where(self._name, source, self._secrets),
            f"{what} leads to {self._named(origin)}, {why}",
            "list the origin in the connector's credential_origins if it is part of the API",
        )

    def _named(self, origin: str) -> str:
        # Anything else than a plain host may be an echo, and no operator could list it anyway.
        plain = _PLAIN_ORIGIN.fullmatch(origin)
        return masked(origin, self._secrets) if plain else "an address without a plain host"


def _parse(text: str) -> URL | None:
    # `None`, not the parser's exception: it quotes the address, which may hold a secret.
    try:
        return URL(text)
    except (InvalidURL, ValueError):
        return None


def _declared(name: str, key: str, text: str) -> URL:
    url = _parse(text)
    origin = url and origin_of(url)
    if url is None or url.scheme not in _PORTS or not _PLAIN_ORIGIN.fullmatch(origin or ""):
        what = f"{key} is no http or https address"
    elif url.userinfo or query_of(url) or url.fragment:
        what = f"{key} holds more than an address"
    else:
        return url
    raise ConfigError(
        name, what, "write scheme://host[:port]/path, and put credentials into headers"
    )
