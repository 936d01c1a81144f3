"""What the simulated registry answers: it waits for nothing, so that a clock of any kind may turn.

One object for a real server and for a simulation in virtual time: `Registry.answer` takes the
parameters of a request and returns status, media type and body.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

import attrs
import msgspec

from syncd_nppes.simulator_lookup import CRITERIA, Lookup, is_found
from syncd_nppes.simulator_providers import Provider

LIMIT, LIMIT_MAX, SKIP_MAX = 10, 200, 1000
JSON = "application/json; charset=utf-8"

Befalling = Literal["html", "html as json", "xml", "empty", "refused", "503", "403", "429"]
Query = Mapping[str, str]

_MAINTENANCE = b"<!DOCTYPE html><html><body>The registry is being maintained.</body></html>"
_SOAP = b'<?xml version="1.0"?><Error><Message>Service unavailable</Message></Error>'

_REFUSED = (
    b'{"Errors":[{"description":"Field state requires additional search criteria",'
    b'"field":"state","number":"07"}]}'
)


@attrs.frozen
class Reply:
    """An answer."""

    body: bytes
    status: int = 200
    media_type: str = JSON
    headers: Mapping[str, str] = attrs.field(factory=dict)


@attrs.define
class Trouble:
    """What befalls requests for some time; `when` chooses which."""

    kind: Befalling
    times: int
    when: Callable[[Query], bool]


class Registry:
    """The upstream: providers, the rules of its API, and troubles that a test orders.

    `asked` are all requests; `seed` shifts the order of addresses. `empty_every`: of so many
    different requests one is answered as if it had found nothing, the first time.
    """

    def __init__(
        self, providers: Iterable[Provider], *, seed: int = 0, empty_every: int | None = None
    ) -> None:
        self.lookup = Lookup(providers)
        self.asked: list[dict[str, str]] = []
        self._troubles: list[Trouble] = []
        self._seed = seed
        self._empty_every = empty_every
        self._times: Counter[tuple[tuple[str, str], ...]] = Counter()

    def arm(
        self, kind: Befalling, *, times: int = 1, when: Callable[[Query], bool] = lambda _: True
    ) -> None:
        """Let something befall the next requests that `when` chooses."""
        self._troubles.append(Trouble(kind, times, when))

    def answer(self, query: Query) -> Reply:
        """Answer a request, by its parameters."""
        self.asked.append(dict(query))
        trouble = self._due(query)
        if trouble == "empty":
            return _page([])
        if trouble is not None:
            return _TROUBLED[trouble]
        if refused := refusal(query):
            return Reply(msgspec.json.encode({"Errors": [refused]}))
        key = tuple(sorted(query.items()))
        self._times[key] += 1
        if self._empty_every and self._times[key] == 1 and not len(self._times) % self._empty_every:
            return _page([])
        return _page([self._written(each) for each in self._rows(query)])

    def truth(self, *searches: Query) -> dict[str, Provider]:
        """Return all providers that some searches find, by NPI, however many."""
        return {
            each.npi: each
            for each in self.lookup.providers
            if any(is_found(each, search) for search in searches)
        }

    def _rows(self, query: Query) -> list[Provider]:
        criteria = {name: query[name] for name in (*CRITERIA, "address_purpose") if query.get(name)}
        skip, limit = int(query.get("skip", 0)), min(int(query.get("limit", LIMIT)), LIMIT_MAX)
        if skip > SKIP_MAX:
            return []
        most = SKIP_MAX + LIMIT_MAX
        return list(self.lookup.find(criteria, most=most)[skip : skip + limit])

    def _due(self, query: Query) -> Befalling | None:
        for trouble in self._troubles:
            if trouble.times > 0 and trouble.when(query):
                trouble.times -= 1
                return trouble.kind
        return None

    def _written(self, provider: Provider) -> dict[str, Any]:
        """Write a provider: the addresses in another order each time, some as years ago."""
        addresses, basic = list(provider.addresses), dict(provider.basic)
        if addresses:
            first = (int(provider.npi) // 10 + len(self.asked) + self._seed) % len(addresses)
            addresses = addresses[first:] + addresses[:first]
        created, updated = (
            int(moment.timestamp()) for moment in (provider.created_at, provider.updated_at)
        )
        old = provider.is_old_style
        if old and "sex" in basic:
            basic["gender"] = basic.pop("sex")
        return {
            "number": int(provider.npi) if old else provider.npi,
            "enumeration_type": provider.kind,
            "created_epoch": created if old else f"{created}000",
            "last_updated_epoch": updated if old else f"{updated}000",
            "basic": basic,
            "addresses": addresses,
            "practiceLocations": provider.practice_locations,
            "taxonomies": provider.taxonomies,
            "identifiers": provider.identifiers,
            "endpoints": provider.endpoints,
            "other_names": provider.other_names,
        }


def _page(rows: list[dict[str, Any]]) -> Reply:
    return Reply(msgspec.json.encode({"result_count": len(rows), "results": rows}))


_HTML = "text/html; charset=utf-8"
_TROUBLED: Mapping[Befalling, Reply] = {
    "html": Reply(_MAINTENANCE, media_type=_HTML),
    "refused": Reply(_REFUSED),
    "html as json": Reply(_MAINTENANCE),
    "xml": Reply(_SOAP, media_type="text/xml"),
    "503": Reply(_MAINTENANCE, 503, _HTML),
    "403": Reply(_MAINTENANCE, 403, _HTML, {"retry-after": "1"}),
    "429": Reply(b"", 429, _HTML, {"retry-after": "1"}),
}


def refusal(query: Query) -> dict[str, str] | None:
    """Return the error that a request is answered with, in the order of the registry's checks."""
    given = {name for name in (*CRITERIA, "address_purpose") if query.get(name)}
    number = query.get("number")
    if query.get("version") != "2.1":
        return _error("17", "Unsupported Version", "version")
    if not given - {"address_purpose"}:
        return _error("04", "No valid search criteria provided", "generic")
    if number is not None and not (len(number) == 10 and number.isdecimal()):
        return _error("06", "CMS deactivated NPI or invalid: 10 digits are needed", "number")
    for name in sorted(given):
        if query[name].endswith("*") and len(query[name]) < 3:
            return _error("03", "Wildcard needs two characters", name)
    if query.get("enumeration_type", "NPI-1") not in {"NPI-1", "NPI-2"}:
        return _error("05", "Enumeration type is not valid", "enumeration_type")
    if given == {"enumeration_type"}:
        return _error("09", "Field enumeration_type requires additional search criteria", "*")
    if given in ({"state"}, {"state", "enumeration_type"}):
        return _error("07", "Field state requires additional search criteria", "state")
    return None


def _error(number: str, description: str, field: str) -> dict[str, str]:
    return {"description": description, "field": field, "number": number}
