"""What is configured: instances, their accounts, and what of them is walked by itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Generic, Literal, Protocol, TypeVar

import attrs

from syncd.model.declared import Connector, Feed, OnAbsent, Upstream
from syncd.model.quotas import Quota

Settings = TypeVar("Settings")
Covers = Literal["all", "part", "share"]
DEFAULT_ACCOUNT = "default"


@attrs.frozen
class Account(Generic[Settings]):
    """One tenant of an instance; an instance without tenants has one, named `default`.

    `weight`: its share of a quota while others wait for it, too.
    """

    name: str
    settings: Settings
    weight: float = 1.0


class Override(Protocol):
    """What an operator says of a quota."""

    def applied(self, quota: Quota) -> Quota:
        """Return the quota as it is to be kept."""
        ...


@attrs.frozen
class Instance(Generic[Settings]):
    """A configured connector: ``[connectors.cars-kr] plugin = "cars"``.

    `accounts`: those of the configuration, or all that are worked on, once those of the control
    tables are known. `implied`: the configuration lists none; what is here for want of any gives
    way to accounts of the tables.
    `private_network`: names may lead to addresses of the operator's own network. `on_absent`: by
    stream, what the operator wants otherwise than the connector says.
    """

    name: str
    connector: Connector
    settings: Settings
    accounts: tuple[Account[Any], ...]
    private_network: bool = False
    on_absent: Mapping[str, OnAbsent] = attrs.field(factory=dict)
    quotas: Mapping[str, Override] = attrs.field(factory=dict)  # by key
    implied: bool = False

    def upstream(self, account: Account[Any]) -> Upstream:
        """Return how to talk to an account: as the connector declares it, quotas as configured."""
        declared = self.connector.upstream(self.settings, account.settings)
        if not self.quotas:
            return declared
        kept = tuple(
            self.quotas[each.key].applied(each) if each.key in self.quotas else each
            for each in declared.quotas
        )
        return attrs.evolve(declared, quotas=kept)

    def accounts_of(self, feed: Feed) -> tuple[Account[Any], ...]:
        """Return the accounts at which a feed has partitions.

        What is derived for all of them at once stands at `default`, be there such an account or
        not: it is nobody's own, and stays where it is when accounts come and go.
        """
        if not feed.of_instance:
            return self.accounts
        named = tuple(each for each in self.accounts if each.name == DEFAULT_ACCOUNT)
        return named or (Account(DEFAULT_ACCOUNT, None),)


@attrs.frozen
class Slice:
    """A part of an account's feed that is leased and walked by itself.

    `name` (512 bytes at most) is ``""`` for the whole feed. `settings` (JSON, 64 KiB at most) shape
    its requests. A higher `priority` is claimed earlier, by that many seconds. What it `covers`
    says whether it tells that records are gone: ``"all"`` of the account's (by default the one
    without a name), by itself; ``"share"``, together with the other shares of the feed, which cover
    all of them; ``"part"``, not at all.
    """

    name: str = ""
    settings: Mapping[str, Any] = attrs.field(factory=dict)
    priority: int = 0
    covers: Covers = attrs.field()

    @covers.default
    def _covers(self) -> Covers:
        return "part" if self.name else "all"


@attrs.frozen
class Partition:
    """Account x feed x slice: what is leased, has a watermark, and is run."""

    instance: str
    account: str
    feed: str
    slice: Slice = attrs.field(factory=Slice)

    def __str__(self) -> str:
        name = f"{self.instance}.{self.feed}"
        marks = [self.account] if self.account != DEFAULT_ACCOUNT else []
        marks += [self.slice.name] if self.slice.name else []
        return f"{name}[{', '.join(marks)}]" if marks else name
