"""What follows from a row: enqueued in the transaction that writes it, delivered afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import attrs

from syncd.model.pages import JSON


@attrs.frozen
class Effect:
    """Something to be done at another system because of a row, some time after its commit.

    `key` says what is one and the same: of equal kind and key one is delivered, however often it is
    produced. `payload` is what the delivery needs to know. Effects of one `ordering_key` are
    delivered one after the other, as they were enqueued, where their kind is `ordered`.
    `delay_seconds`: not earlier than that after the commit.
    """

    kind: str
    key: str
    payload: JSON
    ordering_key: str | None = None
    delay_seconds: float = 0.0


@attrs.frozen
class WithEffects:
    """A row and what follows from it: what a transform may return in place of the row.

    Transforms after it are given the row alone. Its effects are enqueued only if the row is
    inserted, updated or found equal.
    """

    row: Any
    effects: Sequence[Effect]


@attrs.frozen
class EffectKind:
    """One kind of effect that a connector delivers, in a lane of its own.

    `name` begins with the connector's (``ship24.register_tracker``). `quota` is the key of one of
    the upstream's quotas. `bulk_max` effects at most are handed to one call of the function that
    `deliver` returned, and `concurrency` calls at most are under way.

    What fails is tried again until `attempts_max` or `age_max_seconds` (since it was enqueued) is
    reached; then it is dead until a person retries or discards it. An outage, and a `Retry` that
    says so, is no attempt. A call is cancelled after
    `deadline_seconds`, and what becomes of its effects is then unknown: they are tried again.

    `ordered`: effects of one ordering key are delivered one at a time, in the order in which they
    were enqueued; a dead one holds up those behind it, unless the kind says `skip_dead`.
    """

    name: str
    quota: str
    bulk_max: int = 1
    concurrency: int = 4
    attempts_max: int = 20
    age_max_seconds: float = 30 * 86400.0
    deadline_seconds: float = 60.0
    ordered: bool = False
    skip_dead: bool = False


@attrs.frozen
class Queued:
    """One effect as it is handed to the function that delivers.

    `attempts` were made before, those aside that did not count.
    """

    id: int
    key: str
    payload: JSON
    attempts: int = 0


@attrs.frozen
class Delivered:
    """The provider has it; `response` is kept with the effect."""

    response: JSON = None


@attrs.frozen
class Retry:
    """It may pass later: after `seconds` (1 at least), or a backoff where the provider named none.

    `counts`: whether it was one of the kind's `attempts_max`. Say `False` where waiting is all that
    it takes, as for a plan's quota that is used up: then the attempts do not grow, and only
    `age_max_seconds` ends it.
    """

    reason: str
    seconds: float | None = None
    counts: bool = True


@attrs.frozen
class Dead:
    """It never will pass: it waits for a person."""

    reason: str


Outcome: TypeAlias = Delivered | Retry | Dead
