"""Where a partition goes from here: the two tables of `progress`, row by row."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd import errors
from syncd.progress import (
    BACKOFF_CAP_SECONDS,
    EXHAUSTED_WAIT_SECONDS,
    Anew,
    Bounds,
    Broke,
    Drained,
    Ended,
    Fingerprints,
    GiveUp,
    Leave,
    Next,
    OnlyWaiting,
    OpenPass,
    PassEnded,
    Resume,
    Standing,
    TryAgain,
    Wanted,
    after,
    after_failure,
    choose_pass,
    does_for,
    ended_pass,
    failed_pass,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
PRINTS = {"s": {"row": "a", "version_rule": "sent"}}
WANTED = Wanted("incremental", "r", PRINTS, "1.2.0", 3600.0)
OPEN = OpenPass(
    id=1,
    number=4,
    mode="incremental",
    since=NOW - timedelta(hours=2),
    until=NOW,
    started_at=NOW - timedelta(minutes=5),
    request_fingerprint="r",
    row_fingerprints=PRINTS,
    connector_version="1.2.0",
    high=0,
    ends_at=None,
    pages=0,
    records=0,
)
WATERMARK = NOW - timedelta(hours=1)


def chosen(
    open_pass: OpenPass | None,
    wanted: Wanted = WANTED,
    *,
    watermark: datetime | None = WATERMARK,
    covered: Fingerprints = PRINTS,
) -> Resume | Anew | Leave:
    return choose_pass(open_pass, wanted, watermark=watermark, covered=covered, now=NOW)


def test_the_first_pass_of_a_partition_is_full() -> None:
    decided = chosen(None, watermark=None)

    assert isinstance(decided, Anew)
    assert (decided.mode, decided.since) == ("full", None)


def test_an_incremental_pass_starts_from_the_watermark() -> None:
    assert chosen(None) == Anew("incremental", WATERMARK, None, "asked for")


def test_changed_rows_make_the_next_pass_full_and_say_why() -> None:
    decided = chosen(None, covered={})

    assert isinstance(decided, Anew)
    assert decided.mode == "full"
    assert "how rows are made changed for s" in decided.why


def test_an_open_pass_is_gone_on_with() -> None:
    assert chosen(OPEN) == Resume(OPEN)


def test_an_incremental_request_goes_on_with_an_open_full_pass() -> None:
    full = attrs.evolve(OPEN, mode="full", since=None)

    assert chosen(full) == Resume(full)


@pytest.mark.parametrize(
    ("known", "wanted"),
    [
        (attrs.evolve(OPEN, request_fingerprint="other"), WANTED),
        (attrs.evolve(OPEN, started_at=NOW - timedelta(hours=1, seconds=1)), WANTED),
        (attrs.evolve(OPEN, row_fingerprints={}), WANTED),
        (OPEN, attrs.evolve(WANTED, mode="full")),
    ],
    ids=["cursors mean something else", "too old", "rows are made otherwise", "full asked for"],
)
def test_a_pass_that_cannot_be_gone_on_with_is_superseded(known: OpenPass, wanted: Wanted) -> None:
    decided = chosen(known, wanted)

    assert isinstance(decided, Anew)
    assert decided.superseded


def test_a_newer_connectors_pass_is_left_to_newer_daemons() -> None:
    newer = attrs.evolve(OPEN, connector_version="1.10.0", request_fingerprint="other")

    assert isinstance(chosen(newer), Leave)
    assert isinstance(chosen(attrs.evolve(newer, request_fingerprint="r")), Resume)


BOUNDS = Bounds(NOW - timedelta(days=9), NOW - timedelta(days=8))
BACKFILL = attrs.evolve(WANTED, mode="backfill", bounds=BOUNDS)
OPEN_BACKFILL = attrs.evolve(OPEN, mode="backfill", since=BOUNDS.since, until=BOUNDS.until)


def test_a_backfill_has_bounds_of_its_own_whatever_the_watermark() -> None:
    begun = Anew("backfill", BOUNDS.since, None, "asked for", until=BOUNDS.until)

    assert chosen(None, BACKFILL) == begun
    assert chosen(None, BACKFILL, watermark=None, covered={}) == begun


def test_before_a_backfill_an_open_pass_is_walked_to_its_end() -> None:
    assert chosen(OPEN, BACKFILL) == Resume(OPEN)
    assert not does_for(BACKFILL, OPEN.mode, OPEN.since, OPEN.until)
    assert does_for(BACKFILL, "backfill", BOUNDS.since, BOUNDS.until)
    assert not does_for(BACKFILL, "backfill", BOUNDS.since, NOW)
    assert does_for(WANTED, OPEN.mode, OPEN.since, OPEN.until)


def test_an_open_backfill_is_owed_to_its_end_unless_everything_is_walked() -> None:
    old = attrs.evolve(OPEN_BACKFILL, request_fingerprint="other")

    assert chosen(OPEN_BACKFILL) == Resume(OPEN_BACKFILL)
    again = chosen(old)
    assert isinstance(again, Anew)
    assert (again.mode, again.since, again.until) == ("backfill", BOUNDS.since, BOUNDS.until)
    full = chosen(OPEN_BACKFILL, attrs.evolve(WANTED, mode="full"))
    assert isinstance(full, Anew)
    assert (full.mode, full.superseded) == ("full", "a full pass was asked for")


def decided(
    ended: Ended,
    *,
    failures: int = 0,
    since: datetime | None = None,
    pages: int = 0,
    chance: float = 0.5,
) -> Next | None:
    return after(ended, Standing(failures, since), committed_pages=pages, now=NOW, chance=chance)


def broke(kind: type[errors.SyncdError], **details: float) -> Broke:
    return Broke(kind("here", "it happened", "do", **details))


def test_a_pass_that_ended_waits_for_its_schedule() -> None:
    assert decided(PassEnded("complete"), failures=3, since=NOW) == Next("complete", None, 0, "")
    assert decided(PassEnded("partial")) == Next("partial", None, 0, "")


def test_waiting_cursors_are_no_failure() -> None:
    assert decided(OnlyWaiting(12.0), failures=2, since=NOW) == Next("waiting", 12.0, 2, "")


def test_a_throttled_run_waits_as_long_as_it_was_asked_to() -> None:
    end = decided(broke(errors.Throttled, retry_after_seconds=77.0), failures=2, since=NOW)

    assert end is not None
    assert (end.status, end.wait_seconds, end.failures) == ("waiting", 77.0, 2)


def test_a_drain_frees_the_partition_at_once() -> None:
    end = decided(Drained(), failures=1, since=NOW)

    assert end is not None
    assert (end.status, end.wait_seconds, end.failures) == ("drained", 0.0, 1)


@pytest.mark.parametrize("kind", [errors.LeaseLost, errors.CommitUnknown])
def test_nothing_is_written_for_a_lease_that_may_not_be_ours(
    kind: type[errors.SyncdError],
) -> None:
    assert decided(broke(kind)) is None


@pytest.mark.parametrize(
    "kind",
    [errors.Unavailable, errors.StoreUnavailable, errors.StatementTimeout, errors.PagingLoop],
)
def test_what_is_unavailable_is_tried_again_with_backoff(kind: type[errors.SyncdError]) -> None:
    end = decided(broke(kind), failures=3, since=NOW)

    assert end is not None
    assert (end.status, end.failures, end.wait_seconds) == ("failed", 4, 20.0)


def test_a_server_that_lacks_something_is_left_alone_for_long() -> None:
    soonest = decided(broke(errors.StoreExhausted), chance=0.0)
    late = decided(broke(errors.StoreExhausted), failures=12, since=NOW)

    assert soonest is not None
    assert late is not None
    assert (soonest.status, soonest.failures) == ("failed", 1)
    assert soonest.wait_seconds == EXHAUSTED_WAIT_SECONDS / 2
    assert late.wait_seconds == BACKOFF_CAP_SECONDS / 2


def test_what_the_database_refuses_by_configuration_waits_for_an_operator() -> None:
    end = decided(broke(errors.StoreRefused))

    assert end is not None
    assert (end.status, end.park_partition) == ("failed", "here: it happened; do")


def test_a_refused_credential_parks_the_account_not_the_partition() -> None:
    end = decided(broke(errors.Unauthorized))

    assert end is not None
    assert (end.park_account, end.park_partition) == ("here: it happened; do", None)
    assert end.failures == 0


def test_a_plugin_that_breaks_many_cursors_parks_its_partition() -> None:
    end = decided(broke(errors.PluginError))

    assert end is not None
    assert end.park_partition == "here: it happened; do"


def test_what_is_not_understood_parks_after_ten_runs_over_half_a_day() -> None:
    long_ago, lately = NOW - timedelta(hours=12), NOW - timedelta(hours=11)

    def parked(failures: int, since: datetime) -> str | None:
        end = decided(broke(errors.Unintelligible), failures=failures, since=since)
        assert end is not None
        return end.park_partition

    assert parked(9, long_ago) is not None
    assert parked(9, lately) is None
    assert parked(8, long_ago) is None


def test_a_run_that_committed_pages_resets_the_failures() -> None:
    end = decided(broke(errors.Unavailable), failures=9, since=NOW, pages=1)

    assert end is not None
    assert end.failures == 1


def test_expired_cursors_begin_anew_at_once_but_not_in_a_storm() -> None:
    fruitful = decided(broke(errors.CursorExpired), pages=5)
    fruitless = decided(broke(errors.CursorExpired), failures=4, since=NOW)

    assert fruitful is not None
    assert fruitless is not None
    assert fruitful.wait_seconds == 0.0
    assert fruitless.wait_seconds == 40.0


def leaves(kind: type[Exception]) -> list[type[Exception]]:
    """Return the classes of ours that have none below them; tests have some of their own."""
    ours = (each for each in kind.__subclasses__() if each.__module__.startswith("syncd"))
    found = [leaf for below in ours for leaf in leaves(below)]
    return found or [kind]


@pytest.mark.parametrize("kind", leaves(errors.SyncdError), ids=lambda kind: kind.__name__)
def test_every_error_has_a_decided_consequence(kind: type[errors.SyncdError]) -> None:
    if kind is errors.InvalidConfig:
        return  # ends the process before any run begins
    details = {"retry_after_seconds": 1.0} if kind is errors.Throttled else {}
    error = kind("here", "it happened", "do", **details)

    end = decided(Broke(error))

    assert end is None or end.status in {"failed", "waiting"}
    assert str(error) == "here: it happened; do"


@given(st.integers(0, 10_000), st.floats(0, 0.9999))
def test_backoff_never_exceeds_its_cap(failures: int, chance: float) -> None:
    end = decided(broke(errors.Unavailable), failures=failures, since=NOW, chance=chance)

    assert end is not None
    assert end.wait_seconds is not None
    assert 0 <= end.wait_seconds <= BACKOFF_CAP_SECONDS


def test_failed_items_make_a_pass_partial_and_too_many_park_the_partition() -> None:
    assert ended(failed=0, items=5) == PassEnded("complete")
    assert ended(failed=100, items=100).park is None
    assert ended(failed=101, items=5000).park is not None
    assert ended(failed=101, items=20_000).park is None


def test_items_that_failed_in_an_outage_make_a_pass_partial_and_park_nothing() -> None:
    assert ended(failed=700, items=700, excused=700) == PassEnded(
        "partial", message="700 of 700 items failed; they are tried again in the next pass"
    )
    assert ended(failed=700, items=700, excused=599).park is not None


def ended(*, failed: int, items: int, excused: int = 0) -> PassEnded:
    return ended_pass(failed_items=failed, excused_items=excused, items=items)


def test_three_failed_passes_in_a_row_park_the_partition() -> None:
    assert failed_pass(failed_passes=2, message="m").park is None
    assert failed_pass(failed_passes=3, message="m").park is not None


def test_an_outage_parks_nothing_however_long_it_lasts() -> None:
    assert failed_pass(failed_passes=300, message="m", outage=True).park is None


@given(st.integers(0, 60), st.floats(0, 0.999))
def test_waits_between_tries_of_a_cursor_grow_and_stay_bounded(
    attempts: int, chance: float
) -> None:
    again = after_failure(attempts=attempts, failing_since=NOW, now=NOW, chance=chance)

    assert isinstance(again, TryAgain)
    assert 0.5 <= again.wait_seconds <= 900
    assert again.wait_seconds >= min(900.0, 2.0**attempts) / 2


def test_a_cursor_is_given_up_after_five_tries_over_an_hour_not_sooner() -> None:
    def after_minutes(attempts: int, minutes: int) -> TryAgain | GiveUp:
        now = NOW + timedelta(minutes=minutes)
        return after_failure(attempts=attempts, failing_since=NOW, now=now, chance=0.5)

    assert isinstance(after_minutes(50, 59), TryAgain)
    assert isinstance(after_minutes(3, 120), TryAgain)
    assert isinstance(after_minutes(4, 60), GiveUp)
