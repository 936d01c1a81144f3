"""What follows on a delivery, and to whom effects go: pure decisions."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.effects import (
    RETRY_CAP_SECONDS,
    UNKNOWN,
    Address,
    account_of,
    after,
    halves,
    unwrapped,
)
from syncd.errors import (
    ConfigError,
    PluginError,
    RecordError,
    SyncdError,
    Throttled,
    Unauthorized,
    Unavailable,
    Unintelligible,
)
from syncd.model import (
    Account,
    Connector,
    Dead,
    Delivered,
    Effect,
    EffectKind,
    Instance,
    Quota,
    Retry,
    Upstream,
    WithEffects,
)
from syncd.routing import routes_of

KIND = EffectKind("ship.register", "all", attempts_max=20, age_max_seconds=1000.0)
OUTAGES = (
    Throttled("x", "wait", retry_after_seconds=77.0),
    Unavailable("x", "away"),
    Unauthorized("x", "refused"),
)
REFUSALS = (Retry("no"), UNKNOWN, Unintelligible("x", "what?"), PluginError("x", "broke"))

attempts = st.integers(1, 100)
ages = st.floats(0.0, 2000.0)
chances = st.floats(0.0, 1.0, exclude_max=True)


@given(attempts, ages, chances)
def test_what_the_provider_has_is_delivered_however_old_it_is(
    tries: int, age: float, chance: float
) -> None:
    fate = after(Delivered(), KIND, attempts=tries, age_seconds=age, chance=chance)

    assert fate.state == "delivered"


@given(attempts, ages, chances, st.sampled_from(REFUSALS))
def test_a_refusal_counts_and_is_tried_again_until_it_is_worn_out(
    tries: int, age: float, chance: float, said: Retry | SyncdError
) -> None:
    fate = after(said, KIND, attempts=tries, age_seconds=age, chance=chance)

    worn_out = tries >= KIND.attempts_max or age >= KIND.age_max_seconds
    assert fate.counts
    assert fate.state == ("dead" if worn_out else "pending")
    assert fate.error
    assert 0.0 <= fate.wait_seconds <= RETRY_CAP_SECONDS


@given(attempts, ages, chances, st.sampled_from(OUTAGES))
def test_an_outage_costs_no_attempt_and_only_age_ends_it(
    tries: int, age: float, chance: float, error: SyncdError
) -> None:
    fate = after(error, KIND, attempts=tries, age_seconds=age, chance=chance)

    assert not fate.counts
    assert fate.state == ("dead" if age >= KIND.age_max_seconds else "pending")


def test_what_the_provider_asks_for_is_waited_for() -> None:
    asked = {"attempts": 3, "age_seconds": 1.0, "chance": 0.5}

    assert after(Retry("later", 42.0), KIND, **asked).wait_seconds == 42.0  # type: ignore[arg-type]
    assert after(OUTAGES[0], KIND, **asked).wait_seconds == 77.0  # type: ignore[arg-type]


def test_what_never_will_pass_is_dead_at_once() -> None:
    fate = after(Dead("no such parcel"), KIND, attempts=1, age_seconds=0.0, chance=0.0)

    assert (fate.state, fate.error) == ("dead", "no such parcel")


@given(st.integers(0, 1000))
def test_halves_are_the_whole_and_smaller(count: int) -> None:
    items = list(range(count))
    parts = [items[part] for part in halves(count)]

    assert [each for part in parts for each in part] == (items if count > 1 else [])
    assert all(0 < len(part) < count for part in parts)


# --- Which effects there are ----------------------------------------------------------------------

EFFECT = Effect("ship.register", "k", {"n": 1})


def test_effects_stay_with_each_row_that_is_left() -> None:
    first = unwrapped(WithEffects("a", [EFFECT]), (), ["ship.register"], "t")
    assert first == [("a", (EFFECT,))]

    assert unwrapped(["b", "c"], (EFFECT,), [], "t") == [("b", (EFFECT,)), ("c", (EFFECT,))]
    assert unwrapped(None, (EFFECT,), [], "t") == []


@pytest.mark.parametrize(
    "unfit",
    [
        attrs.evolve(EFFECT, kind="other"),
        attrs.evolve(EFFECT, key=""),
        attrs.evolve(EFFECT, key="x" * 1001),
        attrs.evolve(EFFECT, key="a\0b"),
        attrs.evolve(EFFECT, ordering_key=""),
        attrs.evolve(EFFECT, delay_seconds=-1.0),
        attrs.evolve(EFFECT, delay_seconds=float("nan")),
        "no effect",
    ],
)
def test_an_effect_that_cannot_be_costs_its_record_alone(unfit: Any) -> None:
    with pytest.raises(RecordError):
        unwrapped(WithEffects("a", [unfit]), (), ["ship.register"], "t")


# --- Where they go --------------------------------------------------------------------------------


@attrs.frozen
class Settings:
    """None."""


def instance(name: str, *accounts: str, delivers: bool = True) -> Instance[Any]:
    connector = Connector(
        "ship",
        "1.0.0",
        settings=Settings,
        feeds=(),
        upstream=lambda *_: Upstream("http://127.0.0.1", quotas=(Quota("all"),)),
        effects=(KIND,) if delivers else (),
    )
    named = tuple(Account(each, None) for each in accounts or ("default",))
    return Instance(name, connector, Settings(), named)


def routes(*instances: Instance[Any], chosen: str = "") -> Any:
    configured = {KIND.name: chosen} if chosen else {}
    by_name = {each.name: each for each in instances}
    return routes_of([KIND.name], by_name, configured, whose="mail")[KIND.name]


def test_the_only_instance_that_delivers_a_kind_is_its_addressee() -> None:
    assert routes(instance("eu"), instance("mail", delivers=False)).instance == "eu"


def test_of_several_the_configuration_says_which() -> None:
    assert routes(instance("eu"), instance("us"), chosen="us").instance == "us"
    assert routes(instance("eu"), instance("us"), chosen="off") is None


@pytest.mark.parametrize(
    ("instances", "ways_out"),
    [([], "configure one that does"), (["eu", "us"], 'say which, `"ship.register" = "eu"`')],
)
def test_a_kind_without_addressee_is_an_error_that_names_both_ways_out(
    instances: list[str], ways_out: str
) -> None:
    with pytest.raises(ConfigError) as error:
        routes(*map(instance, instances))

    assert ways_out in str(error.value)
    assert '"ship.register" = "off"' in str(error.value)


def test_an_addressee_that_does_not_deliver_the_kind_is_refused() -> None:
    with pytest.raises(ConfigError, match="delivers no effects of this kind; able: eu"):
        routes(instance("eu"), instance("mail", delivers=False), chosen="mail")


@pytest.mark.parametrize(
    ("own", "accounts", "account"),
    [("eu", ("a", "b"), "b"), ("mail", ("main",), "main"), ("mail", ("a", "b"), "b")],
)
def test_an_account_is_the_rows_own_or_the_only_one_or_the_namesake(
    own: str, accounts: tuple[str, ...], account: str
) -> None:
    address = Address("eu", accounts, ordered=False)

    assert account_of(address, instance=own, account="b") == account
