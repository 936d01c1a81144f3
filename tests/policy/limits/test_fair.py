"""Everybody has a turn: classes by weight, accounts one after the other."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from syncd.limits.fair import WEIGHTS, FairQueue, Traffic

classes = st.sampled_from(sorted(WEIGHTS))


def test_one_account_of_10000_pages_does_not_delay_299_small_ones() -> None:
    queue: FairQueue[str] = FairQueue()
    for _ in range(10_000):
        queue.push("huge", traffic="sync", account="huge")
    for account in range(299):
        for _ in range(10):
            queue.push(f"{account}", traffic="sync", account=f"{account}")

    order = [queue.pop() for _ in range(3_000)]

    assert Counter(order)["huge"] == 10
    assert order.count("298") == 10
    assert order[:300] == ["huge", *map(str, range(299))]


def test_classes_share_by_weight_where_all_wait() -> None:
    queue: FairQueue[Traffic] = FairQueue()
    for traffic in WEIGHTS:
        for number in range(1_000):
            queue.push(traffic, traffic=traffic, account=str(number % 3))

    found = Counter(queue.pop() for _ in range(1_000))

    assert {name: count / 100 for name, count in found.items()} == WEIGHTS


def test_a_class_alone_has_all_and_saves_nothing_up() -> None:
    queue: FairQueue[Traffic] = FairQueue()
    for _ in range(100):
        queue.push("backfill", traffic="backfill", account="a")
        queue.pop()
    for _ in range(100):
        for traffic in WEIGHTS:
            queue.push(traffic, traffic=traffic, account="a")

    assert Counter(queue.pop() for _ in range(100)) == {"sync": 60, "effect": 30, "backfill": 10}


def test_dear_requests_are_charged_what_they_take() -> None:
    queue: FairQueue[str] = FairQueue()
    for _ in range(400):
        queue.push("dear", traffic="sync", account="a", charge=12.0)
        queue.push("cheap", traffic="effect", account="a")

    found = Counter(queue.pop() for _ in range(140))

    # By weight 6 to 3 of the quota: of what 12 dear ones take, half is left for cheap ones.
    assert 18 <= found["dear"] <= 22


def test_one_as_dear_as_a_milliard_others_is_found_without_so_many_rounds() -> None:
    queue: FairQueue[str] = FairQueue()
    queue.push("dearest", traffic="effect", account="a", charge=4e12)
    queue.push("dear", traffic="sync", account="a", charge=4e12)
    for _ in range(3):
        queue.push("cheap", traffic="backfill", account="a")

    assert [queue.pop() for _ in range(5)] == ["cheap"] * 3 + ["dear", "dearest"]


def test_accounts_share_by_weight_where_all_wait() -> None:
    queue: FairQueue[str] = FairQueue()
    for name, weight in {"big": 3.0, "plain": 1.0, "small": 0.25}.items():
        for _ in range(1_000):
            queue.push(name, traffic="sync", account=name, weight=weight)

    order = [queue.pop() for _ in range(850)]

    assert Counter(order) == {"big": 600, "plain": 200, "small": 50}
    assert "small" in order[:17]


def test_a_heavy_account_alone_saves_nothing_up() -> None:
    queue: FairQueue[str] = FairQueue()
    for _ in range(50):
        queue.push("heavy", traffic="sync", account="heavy", weight=3.0)
        queue.pop()
    for _ in range(100):
        for name, weight in {"heavy": 3.0, "plain": 1.0}.items():
            queue.push(name, traffic="sync", account=name, weight=weight)

    assert Counter(queue.pop() for _ in range(80)) == {"heavy": 60, "plain": 20}


pushes = st.lists(
    st.one_of(
        st.tuples(classes, st.sampled_from("abc"), st.floats(0.5, 20), st.floats(0.1, 100)),
        st.just("pop"),
        st.just("cut"),
    ),
    max_size=120,
)


@given(pushes)
def test_nobody_starves_nobody_is_lost_and_order_holds_inside_an_account(
    steps: list[tuple[Traffic, str, float, float] | str],
) -> None:
    queue: FairQueue[tuple[int, str, str]] = FairQueue()
    waiting: list[tuple[int, Traffic, str]] = []
    for number, step in enumerate(steps):
        if step == "cut" and waiting:
            item = waiting.pop(len(waiting) // 2)
            queue.remove(item, traffic=item[1], account=item[2])
        elif step == "pop" and waiting:
            taken = queue.pop()
            same = [each for each in waiting if each[1:] == taken[1:]]
            assert same[0] == taken
            waiting.remove(same[0])
        elif isinstance(step, tuple):
            item = (number, step[0], step[1])
            waiting.append(item)
            queue.push(item, traffic=step[0], account=step[1], charge=step[2], weight=step[3])
        assert len(queue) == len(waiting)

    rest = sorted(queue.pop() for _ in range(len(queue)))
    assert rest == sorted(waiting)
