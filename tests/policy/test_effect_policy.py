"""What follows on a delivery, and to whom effects go: pure decisions."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.effects import (
    DELAY_SECONDS_MAX,
    REST_CAP_SECONDS,
    RETRY_CAP_SECONDS,
    RETRY_LEAST_SECONDS,
    SUSPECT_ATTEMPTS,
    UNKNOWN,
    Address,
    Pace,
    Turn,
    account_of,
    after,
    halves,
    in_turn,
    parts,
    turns,
    unwrapped,
)
from syncd.enqueuing import Rosters
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
from syncd.routing import refuse_strangers, routes_of, strangers

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


@given(attempts, ages, chances, st.none() | st.floats(0.0, 1000.0))
def test_a_retry_that_does_not_count_costs_no_attempt_and_only_age_ends_it(
    tries: int, age: float, chance: float, seconds: float | None
) -> None:
    said = Retry("the plan's quota is used up", seconds, counts=False)

    fate = after(said, KIND, attempts=tries, age_seconds=age, chance=chance)

    assert not fate.counts
    assert fate.state == ("dead" if age >= KIND.age_max_seconds else "pending")
    if fate.state == "pending" and seconds is not None:
        assert fate.wait_seconds == max(seconds, RETRY_LEAST_SECONDS)  # else it were a storm


def test_what_does_not_count_and_names_no_time_waits_for_longer_the_older_it_is() -> None:
    """Its attempts do not grow, so that they cannot say how long it has been refused."""
    kind = attrs.evolve(KIND, age_max_seconds=1e6)
    said = Retry("busy", counts=False)
    ages = (0.0, 60.0, 600.0, 1e5)

    fates = [after(said, kind, attempts=1, age_seconds=age, chance=0.5) for age in ages]

    assert [fate.wait_seconds for fate in fates] == [2.5, 30.0, 300.0, RETRY_CAP_SECONDS / 2]


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


@pytest.mark.parametrize(
    ("accounts", "settled", "refused"),
    [
        (("a", "b"), ["eu"], True),
        (("a", "b"), [], False),  # the table may say more of them any time
        (("a", "main"), ["eu"], False),
        (("a",), ["eu"], False),  # the only one delivers for all
    ],
)
def test_an_account_that_nobody_has_is_refused_where_the_configuration_alone_tells(
    accounts: tuple[str, ...], settled: list[str], refused: bool
) -> None:
    found = {KIND.name: Address("eu", accounts, ordered=False), "ship.other": None}
    if not refused:
        refuse_strangers(found, ["main"], whose="mail", settled=settled)
        return
    with pytest.raises(ConfigError) as error:
        refuse_strangers(found, ["main", "b"], whose="mail", settled=settled)

    assert str(error.value) == (
        "effects.\"ship.register\": what follows from rows of mail.main is for the account 'main' "
        "of eu, which has a, b; give it one of that name ([[connectors.eu.accounts]], or `syncd "
        "accounts add eu main ...`), name another connector under [effects], or switch it off: "
        '`"ship.register" = "off"`'
    )


def test_rows_of_whoever_delivers_them_itself_are_for_their_own_accounts() -> None:
    found = {KIND.name: Address("eu", ("a", "b"), ordered=False)}

    refuse_strangers(found, ["a", "b"], whose="eu", settled=["eu"])
    for address in found.values():
        assert strangers(address, ["a", "b"], whose="eu") == {}
        assert strangers(address, ["a", "c"], whose="eu") == {"c": "c"}


def test_addresses_follow_the_accounts_that_lanes_know_by_now() -> None:
    rosters = Rosters()
    found = {KIND.name: Address("eu", ("a",), ordered=False), "ship.other": None}
    assert rosters.present(found) == {KIND.name: found[KIND.name]}

    rosters.note(instance("eu", "a", "b"))
    rosters.note(instance("us", "c"))

    assert rosters.present(found)[KIND.name].accounts == ("a", "b")


# --- Calls that fail as a whole -------------------------------------------------------------------


@given(st.lists(chances, min_size=1, max_size=40))
def test_rests_grow_to_their_cap_and_the_longest_stands(drawn: list[float]) -> None:
    pace, now = Pace(), 100.0
    pace.failed(started_at=now, now=now, chance=0.0, least_seconds=3600.0)

    for chance in drawn:
        assert pace.failed(started_at=now, now=now, chance=chance) <= REST_CAP_SECONDS

    assert pace.rest_until == 3700.0
    assert pace.failures == 1 + len(drawn)


def test_of_calls_that_were_under_way_together_one_failure_counts() -> None:
    pace = Pace()

    for now in (10.0, 11.0, 12.0):
        pace.failed(started_at=1.0, now=now, chance=0.5)
    assert pace.failures == 1

    pace.failed(started_at=13.0, now=14.0, chance=0.5)
    assert pace.failures == 2
    pace.well()
    assert pace.failures == 0


def test_who_asks_goes_first_and_then_who_holds_the_fewest_slots() -> None:
    paces = {name: Pace() for name in ("busy", "idle", "later", "ill", "asks", "rests", "nothing")}
    paces["ill"].failures = paces["asks"].failures = paces["rests"].failures = 1
    paces["rests"].rest_until = 11.0
    slots, due = {"busy": 2, "asks": 1}, {"busy": 1, "ill": 9, "later": 5, "idle": 3, "rests": 0}

    found = turns(paces, slots=slots, asking={"busy", "asks"}, now=10.0, concurrency=8)

    assert in_turn(found, due) == [
        Turn("ill", probes=True),
        Turn("idle"),
        Turn("later"),
        Turn("busy", 2),
    ]


def test_so_many_accounts_ask_at_once_whether_a_failure_has_passed() -> None:
    paces = {name: Pace(failures=1) for name in "abc"}

    def probing(asking: set[str], concurrency: int) -> list[str]:
        found = turns(paces, slots={}, asking=asking, now=0.0, concurrency=concurrency)
        assert all(turn.probes for turn in found)
        return [turn.account for turn in found]

    assert [probing({"a"}, concurrency) for concurrency in (1, 4, 7)] == [[], [], []]
    assert probing({"a"}, 8) == ["b", "c"]
    # A call that will not end is no question under way.
    assert probing(set(), 1) == ["a", "b", "c"]


def test_one_that_is_refused_alone_is_blamed_until_another_one_is() -> None:
    pace = Pace()

    assert [pace.suspects(7), pace.suspects(7)] == [True, True]
    assert [pace.suspects(8), pace.suspects(7)] == [False, False]
    pace.well()
    assert pace.suspects(7)


@given(attempts, chances)
def test_a_failure_that_is_not_its_own_costs_an_effect_nothing(tries: int, chance: float) -> None:
    error = Unintelligible("x", "what?")

    fate = after(error, KIND, attempts=tries, age_seconds=0.0, chance=chance, blamed=False)

    assert (fate.state, fate.counts) == ("pending", False)


@given(st.floats(0.0, 1e300))
def test_no_wait_is_longer_than_a_delay_may_be(seconds: float) -> None:
    fate = after(Retry("no", seconds), KIND, attempts=1, age_seconds=0.0, chance=0.5)

    assert fate.wait_seconds == min(max(seconds, RETRY_LEAST_SECONDS), DELAY_SECONDS_MAX)


@attrs.frozen
class Held:
    """As much of a claimed effect as decides in which call it is delivered."""

    attempts: int
    unknown: bool


@given(st.lists(st.builds(Held, attempts, st.booleans())))
def test_what_processes_may_die_of_comes_last_and_alone(claimed: list[Held]) -> None:
    found = parts(claimed)

    risky = [each for each in claimed if each.unknown and each.attempts > SUSPECT_ATTEMPTS]
    assert found[len(found) - len(risky) :] == [[each] for each in risky]
    assert sum(map(len, found)) == len(claimed)
    assert len(found) - len(risky) <= 1
