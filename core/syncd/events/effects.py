"""Effects: enqueued with their rows, delivered afterwards."""

from __future__ import annotations

import attrs

from syncd.events.event import Event


@attrs.frozen
class EffectEnqueued(Event):
    """Effects were enqueued by a commit."""

    name = "effect.enqueued"
    level = "debug"
    partition: str
    kind: str
    effects: int


@attrs.frozen
class EffectConflict(Event):
    """An effect that was delivered, or is just being, was produced again with another payload.

    It stays as it is: what the provider has differs from what the row now asks for.
    """

    name = "effect.conflict"
    level = "warning"
    partition: str
    kind: str
    key: str


@attrs.frozen
class EffectDelivered(Event):
    """Effects were delivered by one call."""

    name = "effect.delivered"
    level = "debug"
    kind: str
    instance: str
    account: str
    effects: int
    duration_seconds: float


@attrs.frozen
class EffectRetried(Event):
    """Effects were not delivered and are tried again; `reason` is that of the first."""

    name = "effect.retried"
    kind: str
    instance: str
    account: str
    effects: int
    reason: str


@attrs.frozen
class EffectDead(Event):
    """An effect is not tried again: `syncd effects retry` once the cause is mended."""

    name = "effect.dead"
    level = "error"
    kind: str
    instance: str
    account: str
    effect: int
    key: str
    reason: str


@attrs.frozen
class EffectBacklog(Event):
    """How many effects of a kind are left, every 20 s while there are any.

    `open` waits or is being delivered, the oldest of them for so long; `dead` is tried no more.
    """

    name = "effect.backlog"
    kind: str
    instance: str
    open: int
    oldest_seconds: float
    dead: int


@attrs.frozen
class EffectsFlooded(Event):
    """So many effects of a kind are open that nothing is fetched which may produce more."""

    name = "effect.flooded"
    level = "warning"
    kind: str
    effects_max: int


@attrs.frozen
class EffectsAbated(Event):
    """What may produce effects of a kind is fetched again."""

    name = "effect.abated"
    kind: str
    effects_max: int


@attrs.frozen
class EffectStranded(Event):
    """Effects wait for an account that their connector does not have, or that is disabled.

    They are delivered once it has one of that name: add or enable it, or discard them.
    """

    name = "effect.stranded"
    level = "warning"
    kind: str
    instance: str
    account: str
    effects: int


@attrs.frozen
class EffectAccounts(Event):
    """An instance delivers with other accounts than before, as the table of accounts says."""

    name = "effect.accounts"
    instance: str
    added: int
    removed: int
    changed: int


@attrs.frozen
class EffectLaneDamped(Event):
    """What delivers a kind broke, or its provider is away: the kind rests for a while."""

    name = "effect.damped"
    level = "warning"
    kind: str
    instance: str
    reason: str
    seconds: float
