"""What becomes of an effect: which it is, and what follows on a delivery. Pure.

Effects are delivered at least once: what is unknown is tried again with the same key. An outage of
the provider costs no attempt, only time; a refusal of the one effect costs one.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

import attrs

from syncd.backoff import full_jitter
from syncd.errors import RecordError, SyncdError, Throttled, Unauthorized, Unavailable
from syncd.model import Dead, Delivered, Effect, EffectKind, Outcome, Retry, WithEffects

State = Literal["pending", "delivered", "dead"]

RETRY_BASE_SECONDS = 5.0
RETRY_CAP_SECONDS = 3600.0
KEY_BYTES_MAX = 1000
DELAY_SECONDS_MAX = 366 * 86400.0
ERROR_CHARACTERS_MAX = 1000
UNKNOWN = Retry("the function that delivers said nothing of it: what became of it is unknown")

# --- What follows on a delivery -------------------------------------------------------------------


@attrs.frozen
class Fate:
    """What is recorded of one effect. `counts`: whether the attempt was one of those allowed."""

    state: State
    wait_seconds: float = 0.0
    error: str | None = None
    response: str | None = None  # JSON
    counts: bool = True


def after(
    outcome: Outcome | SyncdError,
    kind: EffectKind,
    *,
    attempts: int,
    age_seconds: float,
    chance: float,
    response: str | None = None,
) -> Fate:
    """Decide what follows on an outcome, or on what the call as a whole failed with.

    `attempts`: with this one. `chance`: evenly drawn from [0, 1). `response`: of one that was
    delivered, as JSON.
    """
    wait: float | None
    match outcome:
        case Delivered():
            return Fate("delivered", response=response)
        case Dead(reason=reason):
            return Fate("dead", error=_cut(reason))
        case Throttled(retry_after_seconds=seconds) as error:
            wait, reason, counts = seconds, str(error), False
        case Unavailable() | Unauthorized() as error:
            wait, reason, counts = None, str(error), False
        case SyncdError() as error:
            wait, reason, counts = None, str(error), True
        case Retry(reason=reason, seconds=wait):
            counts = True
    if worn := worn_out(kind, attempts=attempts if counts else 0, age_seconds=age_seconds):
        return Fate("dead", error=_cut(f"{worn}; last: {reason}"), counts=counts)
    if wait is None:
        wait = full_jitter(
            attempts,
            base_seconds=RETRY_BASE_SECONDS,
            cap_seconds=RETRY_CAP_SECONDS,
            chance=chance,
        )
    return Fate("pending", max(wait, 0.0), _cut(reason), counts=counts)


def worn_out(kind: EffectKind, *, attempts: int, age_seconds: float) -> str | None:
    """Return why an effect that failed is not tried again, `None` where it is."""
    if attempts >= kind.attempts_max:
        return f"tried {attempts} times"
    if age_seconds >= kind.age_max_seconds:
        return f"{age_seconds:.0f} s old, and the kind allows {kind.age_max_seconds:.0f} s"
    return None


def given_back(reason: str) -> Fate:
    """Return the fate of an effect whose delivery we broke off: its turn comes at once again."""
    return Fate("pending", error=_cut(reason), counts=False)


def halves(count: int) -> tuple[slice, ...]:
    """Return the parts in which a bulk that was refused as a whole is delivered again."""
    return (slice(0, count // 2), slice(count // 2, count)) if count > 1 else ()


def _cut(text: str) -> str:
    shown = text.replace("\0", "\\x00")
    return shown if len(shown) <= ERROR_CHARACTERS_MAX else f"{shown[:ERROR_CHARACTERS_MAX]}..."


# --- Which effects there are ----------------------------------------------------------------------


def unwrapped(
    result: Any, carried: Sequence[Effect], declared: Collection[str], transform: str
) -> list[tuple[Any, Sequence[Effect]]]:
    """Take apart what a transform answered: rows, each with its effects.

    `carried` are those of the transforms before, which stay with each row that is left.

    Raises: `RecordError` for effects that cannot be, or are not of a kind that is `declared`.
    """
    results = result if isinstance(result, list) else [] if result is None else [result]
    taken: list[tuple[Any, Sequence[Effect]]] = []
    for each in results:
        if isinstance(each, WithEffects):
            for effect in each.effects:
                refuse_unfit(effect, declared, transform)
            taken.append((each.row, (*carried, *each.effects)))
        else:
            taken.append((each, carried))
    return taken


def refuse_unfit(effect: Any, declared: Collection[str], transform: str) -> None:
    """Refuse what cannot be enqueued.

    Raises: `RecordError`.
    """
    if not isinstance(effect, Effect):
        what = f"{transform}: {type(effect).__name__} is no Effect"
    elif effect.kind not in declared:
        what = f"{transform}: it does not declare effects of kind {effect.kind!r}"
    elif not _is_key(effect.key):
        what = f"{transform}: an effect's key is printable text of 1 to {KEY_BYTES_MAX} bytes"
    elif effect.ordering_key is not None and not _is_key(effect.ordering_key):
        what = f"{transform}: an ordering key is printable text of 1 to {KEY_BYTES_MAX} bytes"
    elif not 0.0 <= effect.delay_seconds <= DELAY_SECONDS_MAX:
        what = f"{transform}: a delay is of 0 s to {DELAY_SECONDS_MAX:.0f} s"
    else:
        return
    raise RecordError("transform", what)


def _is_key(text: Any) -> bool:
    if not isinstance(text, str) or not text:
        return False
    return text.isprintable() and len(text.encode()) <= KEY_BYTES_MAX


# --- Where they go --------------------------------------------------------------------------------


@attrs.frozen
class Address:
    """Who delivers a kind; with which account, says `account_of`."""

    instance: str
    accounts: Sequence[str]
    ordered: bool


Routes = Mapping[str, Address | None]  # by kind; `None`: switched off


def account_of(address: Address, *, instance: str, account: str) -> str:
    """Return the account that delivers what follows from a row of this one.

    An instance that delivers its own effects does so with the account of the row; another with its
    only account, else with the one of the same name, which it then must have.
    """
    if address.instance != instance and len(address.accounts) == 1:
        return address.accounts[0]
    return account
