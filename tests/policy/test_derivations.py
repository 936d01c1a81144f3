"""What a select names, which derived streams join a job, and when their turn comes."""

from __future__ import annotations

import pytest

from syncd import Derivation
from syncd.derivations import joining, pieces
from syncd.rounds import Sequel, following

LEADS = Derivation("SELECT", reads=("providers",))
CALLS = Derivation("SELECT", reads=("leads",))
DERIVED = {"calls": CALLS, "leads": LEADS}


def test_a_select_is_taken_apart_at_its_tables_and_doubled_braces_are_its_own() -> None:
    select = "SELECT '{{}}' || %(a)s FROM {providers} p JOIN {lead-notes} USING (npi)"

    assert list(pieces(select)) == [
        ("SELECT '{", None),
        ("}", None),
        ("' || %(a)s FROM ", "providers"),
        (" p JOIN ", "lead-notes"),
        (" USING (npi)", None),
    ]


@pytest.mark.parametrize("select", ["{}", "{a!r}", "{a:b}", "{a", "a}"])
def test_braces_hold_a_name_and_nothing_else(select: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        list(pieces(select))


@pytest.mark.parametrize(
    ("walked", "wanted", "joined"),
    [
        (["providers"], ["providers", "leads", "calls"], ["leads", "calls"]),
        (["providers"], ["providers", "leads"], ["leads"]),
        (["providers"], ["providers", "calls"], []),  # of what nobody makes
        (["providers", "leads"], ["providers", "leads", "calls"], ["calls"]),
        (["orders"], ["providers", "leads", "calls"], []),
        (["leads"], ["providers", "leads", "calls"], ["calls"]),
    ],
)
def test_a_derived_stream_that_some_job_names_joins_whoever_walks_what_it_reads(
    walked: list[str], wanted: list[str], joined: list[str]
) -> None:
    assert joining(DERIVED, walked=walked, wanted=wanted) == joined


def test_what_is_made_of_others_has_its_turn_after_them_once() -> None:
    calls = Sequel("calls", frozenset({"leads", "orders"}), (5,))
    leads = Sequel("leads", frozenset({"orders"}), (3, 4))
    had = frozenset[int]()
    turns = []
    while given := following([calls, leads], had):
        turns.append(given)
        had |= frozenset(given)

    assert turns == [[3, 4], [5]]
    assert following([calls, leads], frozenset({3})) == [4]
