"""One fetch of a plugin: what it is given to ask with, and what its answers told."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING

import attrs

from syncd.http.asked import Asked, form_body, json_body
from syncd.http.authorization import Authority
from syncd.http.statistics import Tally
from syncd.limits.fair import Traffic
from syncd.model import JSON, Credential, Response, Secret
from syncd.validators import Condition

if TYPE_CHECKING:
    from syncd.http.client import Client


FORM = "application/x-www-form-urlencoded"


class NotModified(Exception):
    """A 304 on its way through the plugin's fetch, which has nothing to do for it."""


class FetchHttp(Tally):
    """The client as one fetch sees it (`model.Http`), and what that fetch cost.

    `sent_at`: the earliest moment, by the database's clock, at which a request of this fetch left
    that was answered for good; `None` while there is none. `conditional`: its validators are
    wanted, and its first request goes out with `condition` if that was told about the same one.
    `quota`: the key of the one that requests spend which name none (default: the first).
    """

    def __init__(
        self,
        client: Client,
        *,
        conditional: bool = False,
        condition: Condition | None = None,
        traffic: Traffic = "sync",
        quota: str | None = None,
    ) -> None:
        super().__init__()
        self.traffic = traffic
        self._quota = quota
        self._client = client
        self._condition = condition
        self._requests = 0
        self._told: Condition | None = None
        self.authority: Authority | None = None  # who knows what its requests are let in by
        self.conditional = conditional
        self.sent_at: datetime | None = None
        self.paid: dict[str, int] = {}  # what its answers cost, by unit, as far as they tell
        self.received_bytes = 0  # of answers that were data, decoded
        self.not_modified = False
        self.date: datetime | None = None  # of the answer that said so

    @property
    def told(self) -> Condition | None:
        """Return the validators of the one answer that the fetch was made of."""
        return self._told if self._requests == 1 else None

    def offered(self) -> Condition | None:
        """Return the condition for the request that is about to be sent: of the first only."""
        return self._condition if self._requests == 1 else None

    def answered(self, told: Condition | None) -> None:
        """Take note of the validators of an answer."""
        self._told = told

    def stands(self, date: datetime | None, told: Condition | None) -> NotModified:
        """Take note of a 304; answer with what is to be raised."""
        self.not_modified, self.date, self._told = True, date, told
        return NotModified()

    def pay(self, costs: Mapping[str, int]) -> None:
        """Take note of what an answer cost."""
        for unit, cost in costs.items():
            self.paid[unit] = self.paid.get(unit, 0) + cost

    def now(self) -> datetime:
        """Return the moment, by the database's clock."""
        return self._client.now()

    async def credential(self) -> Credential | None:
        """Return what its requests are let in by: see `model.Http.credential`."""
        return None if self.authority is None else (await self.authority.badge()).credential

    async def get(
        self,
        url: str,
        *,
        params: Mapping[str, str | int] | None = None,
        quota: str | None = None,
        cost: Mapping[str, int] | None = None,
        accept: str = "application/json",
        also: frozenset[int] = frozenset(),
    ) -> Response:
        """Get one resource: see `model.Http.get`."""
        return await self._ask(Asked(url, params, quota, cost, accept, also))

    async def post(
        self,
        url: str,
        *,
        json: JSON = None,
        form: Mapping[str, str | Secret] | None = None,
        params: Mapping[str, str | int] | None = None,
        quota: str | None = None,
        cost: Mapping[str, int] | None = None,
        accept: str = "application/json",
        also: frozenset[int] = frozenset(),
        idempotent: bool = True,
        timeout_seconds: float | None = None,
    ) -> Response:
        """Read by POST: see `model.Http.post`."""
        if form is not None and json is not None:  # a bug of the plugin, and treated as one
            raise ValueError("json and form are two bodies, and a request has one")
        if timeout_seconds is not None and not timeout_seconds > 0:
            raise ValueError(f"timeout_seconds={timeout_seconds:g} is no time to wait")
        body, secrets = json_body(json) if form is None else form_body(form)
        asked = Asked(url, params, quota, cost, accept, also, "POST", body, secrets)
        once = form is not None or not idempotent
        asked = attrs.evolve(asked, once=once, timeout_seconds=timeout_seconds)
        return await self._ask(asked if form is None else attrs.evolve(asked, media=FORM))

    async def _ask(self, asked: Asked) -> Response:
        self._requests += 1
        if asked.quota is None:
            asked = attrs.evolve(asked, quota=self._quota)
        response = await self._client.ask(self, asked)
        self.received_bytes += len(response.content)
        return response
