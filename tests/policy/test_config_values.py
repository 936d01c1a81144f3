"""Durations, sizes and variables as people write them."""

from __future__ import annotations

import datetime as dt

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from syncd.config import Unwanted, duration_seconds, duration_text, size_bytes, size_text
from syncd.config.values import DURATION_MAX_SECONDS, did_you_mean, interpolate, shown, sort_of


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30s", 30.0),
        ("6h", 21_600.0),
        ("500ms", 0.5),
        ("2d", 172_800.0),
        ("1h30m", 5_400.0),
        ("1w", 604_800.0),
        ("0s", 0.0),
        ("1.5h", 5_400.0),
        ("1d2h3m4s5ms", 93_784.005),
    ],
)
def test_a_duration_is_numbers_with_units(text: str, seconds: float) -> None:
    assert duration_seconds(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        *("", "\n", "30", "s", "30 s", "-1s", "30m1h", "1h1h", "1e3s", "5min", "1s\n", "infs"),
        *("1.s", "30S", "٣s", "99999w", "9" * 5000 + "s"),
    ],
)
def test_anything_else_is_no_duration(text: str) -> None:
    with pytest.raises(Unwanted, match="wanted a duration"):
        duration_seconds(text)


@given(st.floats(min_value=0, max_value=DURATION_MAX_SECONDS, allow_subnormal=False))
def test_a_duration_that_is_written_reads_back_exactly(seconds: float) -> None:
    assert duration_seconds(duration_text(seconds)) == seconds


@given(st.integers(0, 99), st.integers(0, 23), st.integers(0, 59), st.integers(0, 999))
def test_a_duration_is_the_sum_of_its_parts(d: int, h: int, s: int, ms: int) -> None:
    seconds = duration_seconds(f"{d}d{h}h{s}s{ms}ms")

    assert round(seconds * 1000) == ((d * 24 + h) * 3600 + s) * 1000 + ms


@pytest.mark.parametrize(
    ("text", "count"),
    [("64MiB", 64 * 2**20), ("500kB", 500_000), ("1B", 1), ("1.5KiB", 1536), ("0B", 0)],
)
def test_a_size_is_a_number_with_a_unit(text: str, count: int) -> None:
    assert size_bytes(text) == count


@pytest.mark.parametrize("text", ["", "64", "64M", "64KB", "64 MiB", "-1B", "0.1B", "1025TiB"])
def test_anything_else_is_no_size(text: str) -> None:
    with pytest.raises(Unwanted, match="wanted a"):
        size_bytes(text)


@given(st.integers(0, 2**50))
def test_a_size_that_is_written_reads_back(count: int) -> None:
    assert size_bytes(size_text(count)) == count


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("${X}", "1"),
        ("a ${X} b ${LONG_1} c", "a 1 b two c"),
        ("$${X}", "${X}"),
        ("a$${X}b${X}", "a${X}b1"),
        ("$X costs $5 $$ $", "$X costs $5 $$ $"),
        ("${RECURSIVE}", "${X}"),
        ("", ""),
    ],
)
def test_variables_are_filled_in_once(text: str, filled: str) -> None:
    environment = {"X": "1", "LONG_1": "two", "RECURSIVE": "${X}"}

    done = interpolate(text, environment)

    assert (done.text, done.missing, done.malformed) == (filled, (), False)


@given(st.text(alphabet="${}A b"))
def test_an_escaped_text_stands_for_itself(text: str) -> None:
    assume("$${" not in text)  # which is read as the escape itself

    assert interpolate(text.replace("${", "$${"), {}).text == text


@pytest.mark.parametrize("text", ["${", "${}", "${1}", "${a b}", "${A:-b}", "${A"])
def test_a_reference_that_names_no_variable_is_malformed(text: str) -> None:
    assert interpolate(text, {"A": "1"}).malformed


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("ten", "'ten'"),
        ("https://user:pa/ss@w@host/x?key=1", "'https://***@host/x?***'"),
        ("x" * 100, repr("x" * 57 + "...")),
        (3, "the number 3"),
        (float("inf"), "the number inf"),
        (2**63, "a huge number"),
        (True, "true"),
        (dt.date(2026, 1, 1), "a date or time"),
        ({"a": "b"}, "a table"),
        (["a"], "an array"),
    ],
)
def test_a_value_is_shown_on_one_short_line_without_credentials(value: object, text: str) -> None:
    assert shown(value) == text


@pytest.mark.parametrize(
    ("value", "sort"),
    [
        *((True, "a boolean"), ("x", "text"), (1, "a number"), (1.5, "a number")),
        *(({}, "a table"), ([], "an array"), (dt.time(1), "a date or time")),
    ],
)
def test_the_sort_of_a_value_is_told_without_the_value(value: object, sort: str) -> None:
    assert sort_of(value) == sort


@pytest.mark.parametrize(
    ("word", "hint"),
    [("carz", " (did you mean 'cars'?)"), ("CARS", " (did you mean 'cars'?)"), ("zebra", "")],
)
def test_only_a_near_word_is_suggested(word: str, hint: str) -> None:
    assert did_you_mean(word, ["lots", "cars"]) == hint
