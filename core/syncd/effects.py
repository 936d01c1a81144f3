"""What becomes of an effect: which it is, and what follows on a delivery. Pure.

Effects are delivered at least once: what is unknown is tried again with the same key. An outage of
the provider costs no attempt, only time; a refusal of the one effect costs one, unless it says that
it does not count. Such a one waits for as long again as it is old: its attempts say nothing of it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from math import inf
from typing import Any, Literal, Protocol, TypeVar

import attrs

from syncd.backoff import full_jitter
from syncd.errors import (
    WAIT_MAX_SECONDS,
    RecordError,
    SyncdError,
    Throttled,
    Unauthorized,
    Unavailable,
    is_wait,
    sayable,
)
from syncd.model import Dead, Delivered, Effect, EffectKind, Outcome, Retry, WithEffects

State = Literal["pending", "delivered", "dead"]

RETRY_BASE_SECONDS = 5.0
RETRY_LEAST_SECONDS = 1.0  # of a wait that the plugin names
RETRY_CAP_SECONDS = 3600.0
KEY_BYTES_MAX = 1000
DELAY_SECONDS_MAX = WAIT_MAX_SECONDS
ERROR_CHARACTERS_MAX = 1000
SUSPECT_ATTEMPTS = 3  # of which the last ended with its process
REST_BASE_SECONDS = 1.0
REST_CAP_SECONDS = 300.0
PROBES_SHARE = 4  # a slot of so many may be one that asks whether a failure has passed
UNKNOWN = Retry("the function that delivers said nothing of it: what became of it is unknown")


class Attempted(Protocol):
    """An effect under a claim."""

    @property
    def attempts(self) -> int:
        """How often its delivery began, with this time."""

    @property
    def unknown(self) -> bool:
        """Whether what became of it the last time is unknown: its claim ran out."""


C = TypeVar("C", bound=Attempted)

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
    blamed: bool = True,
) -> Fate:
    """Decide what follows on an outcome, or on what the call as a whole failed with.

    `attempts`: with this one. `chance`: evenly drawn from [0, 1). `response`: of one that was
    delivered, as JSON. `blamed`: it may be the effect's own fault that a call failed.
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
            wait, reason, counts = None, str(error), blamed
        case Retry(reason=reason, seconds=wait, counts=counts):
            if wait is None and not counts:
                wait = chance * min(max(age_seconds, RETRY_BASE_SECONDS), RETRY_CAP_SECONDS)
            elif wait is not None:  # at once, for ever, would be a storm
                wait = max(wait, RETRY_LEAST_SECONDS)
    if worn := worn_out(kind, attempts=attempts if counts else 0, age_seconds=age_seconds):
        return Fate("dead", error=_cut(f"{worn}; last: {reason}"), counts=counts)
    if wait is None:
        wait = full_jitter(
            attempts,
            base_seconds=RETRY_BASE_SECONDS,
            cap_seconds=RETRY_CAP_SECONDS,
            chance=chance,
        )
    return Fate("pending", min(max(wait, 0.0), DELAY_SECONDS_MAX), _cut(reason), counts=counts)


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


def parts(claimed: Sequence[C]) -> list[Sequence[C]]:
    """Return in which calls a claim is delivered: all by one, but for what processes may die of.

    Those come last, each by itself: if this process dies, nobody else's attempt is lost with it.
    """
    together: list[C] = []
    alone: list[Sequence[C]] = []
    for each in claimed:
        if each.unknown and each.attempts > SUSPECT_ATTEMPTS:
            alone.append([each])
        else:
            together.append(each)
    return [together, *alone] if together else alone


def halves(count: int) -> tuple[slice, ...]:
    """Return the parts in which a bulk that was refused as a whole is delivered again."""
    return (slice(0, count // 2), slice(count // 2, count)) if count > 1 else ()


def _cut(text: str) -> str:
    shown = sayable(text)
    return shown if len(shown) <= ERROR_CHARACTERS_MAX else f"{shown[:ERROR_CHARACTERS_MAX]}..."


# --- How the calls of an account go ---------------------------------------------------------------


@attrs.define
class Pace:
    """A rest after each call that failed as a whole, ever longer, until one does what it should."""

    failures: int = 0
    rest_until: float = 0.0
    _failed_at: float = -inf
    _refused: set[int] = attrs.field(factory=set)

    def well(self) -> None:
        """Take note of a call that did what it should."""
        self.failures = 0
        self._refused.clear()

    def failed(
        self, *, started_at: float, now: float, chance: float, least_seconds: float = 0.0
    ) -> float:
        """Take note of a call that failed; answer with how long to rest.

        Of calls that were under way together one counts. The longest rest stands.
        """
        if started_at >= self._failed_at:
            self.failures += 1
            self._failed_at = now
        seconds = full_jitter(
            self.failures,
            base_seconds=REST_BASE_SECONDS,
            cap_seconds=REST_CAP_SECONDS,
            chance=0.5 + chance / 2,
        )
        seconds = max(seconds, least_seconds)
        self.rest_until = max(self.rest_until, now + seconds)
        return seconds

    def suspects(self, effect: int) -> bool:
        """Take note that one alone was refused; say whether no other was since the last success."""
        self._refused.add(effect)
        return self._refused == {effect}


@attrs.frozen
class Turn:
    """An account whose effects may be claimed, which holds so many slots of its lane.

    `probes`: with one effect, which asks how it goes.
    """

    account: str
    slots: int = 0
    probes: bool = False


def turns(
    paces: Mapping[str, Pace],
    *,
    slots: Mapping[str, int],
    asking: Collection[str],
    now: float,
    concurrency: int,
) -> list[Turn]:
    """Return which accounts of a lane may have their turn: those that rest are left out.

    After a failure of a whole call one effect of its account asks whether it has passed, and no
    other, in a quarter of the lane's slots at most: a provider that hangs takes its deadline each
    time. `concurrency`: how many slots there are; `slots`: how many an account holds; `asking`: who
    has a call under way that will end.
    """
    probes_max = max(1, concurrency // PROBES_SHARE)
    probing = sum(1 for name in asking if name in paces and paces[name].failures)
    found = []
    for name, pace in paces.items():
        if pace.rest_until > now:
            continue
        if not pace.failures:
            found.append(Turn(name, slots.get(name, 0)))
        elif name not in asking and probing < probes_max:
            found.append(Turn(name, probes=True))
    return found


def in_turn(turns: Sequence[Turn], due: Mapping[str, Any]) -> list[Turn]:
    """Return turns in their order; `due`: since when accounts have what is due, and who has any.

    Who asks how it goes comes first, for its rest was before; then who holds the fewest slots:
    however much one has to be delivered, the others do not wait for it.
    """
    having = [turn for turn in turns if turn.account in due]
    return sorted(having, key=lambda turn: (not turn.probes, turn.slots, due[turn.account]))


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
            if not isinstance(each.effects, Sequence):
                said = f"{transform}: {type(each.effects).__name__} is no list of effects"
                raise RecordError("transform", said)
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
    elif not is_wait(effect.delay_seconds):
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
    only account, else with the one of the same name. Where it has none of that name the effect
    waits until it has.
    """
    if address.instance != instance and len(address.accounts) == 1:
        return address.accounts[0]
    return account
