"""Mail is what anybody sends: whatever it holds, it is read in time in proportion to its length.

What is measured is the processor's time of this process, and no moment of a clock on the wall: the
limit is ten times and more what it takes, and what is quadratic takes minutes.
"""

from __future__ import annotations

import time
import unicodedata
from datetime import UTC, datetime
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd_front.extraction import FORMS, speaks_of_shipment
from syncd_front.found import (
    NAMES_MAX,
    SHIPMENTS_MAX,
    Extraction,
    Scanned,
    Told,
    by_patterns,
    found_in,
    is_silent,
    scanned_of,
)
from syncd_front.llm import parts_of
from syncd_front.threads import Mail, Reading, Thread, plain_text

CHARACTERS = 400_000
CPU_SECONDS = 20.0


def much(text: str) -> str:
    return text * (CHARACTERS // len(text))


def numbers(count: int) -> list[str]:
    """Make numbers of UPS, each with its check digit."""
    form = next(each for each in FORMS if each.name == "ups-1z")
    assert form.check is not None
    bodies = [f"{place:015}" for place in range(count)]
    return [f"1Z{body}{form.check(body)}" for body in bodies]


TEXTS = {
    "marks by turns": "a" + much("\u0301\u0327"),
    "marks that are taken apart": "a" + much("\u0f73"),
    "sigmas": much("\u03a3."),
    "an order and blanks": "PO" + much(" "),
    "orders and blanks": much("PO" + " " * 98),
    "an order and dashes": "PO" + much("-"),
    "orders and dashes": much("PO-"),
    "an order and letters": "PO " + much("A"),
    "purchases": much("purchase  "),
    "numbers": " ".join(numbers(CHARACTERS // 19)),
    "numbers and orders": " ".join(f"PO {n[5:]} {n}" for n in numbers(CHARACTERS // 36)),
    "digits": much("1"),
    "digits in groups": much("1 "),
    "digits and dots": much("1.2,"),
    "numbers that are wrong": much("1Z999AA10123456785 "),
    "parts of numbers": much("x1Z999AA10123456784"),
    "a number that is torn apart": much("1" + " " * 100),
    "labels": much("tel: 030 "),
    "letters": much("a"),
    "blanks": much(" "),
}

BODIES = {
    "comments": much("<!--"),
    "scripts": much("<script>"),
    "scripts that end nearly": "<script>" + much("</script  "),
    "styles": much("<style"),
    "breaks": much("<br "),
    "marks": much("<a "),
    "marks of nothing": much("<"),
    "a mark": "<a" + much(" "),
    "references": much("&#1"),
    "a reference": "&#" + much("1"),
    "a reference in hex": "&#x" + much("f"),
    "no-break blanks": much("\u00a0"),
    "lines": much("\u2028"),
}


def raw(**fields: Any) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(fields))


def read(thread: Thread, told: list[str]) -> None:
    """Do all that is done with a thread on the way to its rows."""
    speaks_of_shipment(thread.text)
    is_silent(thread, prefilter=False)
    parts_of(thread.text, 24_000)
    invented = [Told(number) for number in told]
    for extraction in (by_patterns(thread), Extraction(tuple(invented), "model")):
        found_in(thread, extraction)
        scanned_of(Scanned(thread, extraction, datetime.now(UTC)), confidence_least=0.0)


def test_of_many_mails_that_name_many_shipments_each_is_read_once() -> None:
    listed = numbers(NAMES_MAX)
    mails = [
        Mail(f"msg_{place}", f"shipped: {listed[place % NAMES_MAX]}") for place in range(10_000)
    ]
    thread = Thread("cnv_1", mails)
    began = time.process_time()
    read(thread, listed)
    assert time.process_time() - began < CPU_SECONDS

    found = found_in(thread, by_patterns(thread))
    assert len(found) == SHIPMENTS_MAX
    assert {each.mail.id for each in found} == {each.id for each in mails[-SHIPMENTS_MAX:]}


@pytest.mark.parametrize("kind", TEXTS)
def test_whatever_a_mail_says_is_read_in_time_in_proportion_to_it(kind: str) -> None:
    text = TEXTS[kind]
    some = Random(0).sample(range(len(text) - 20), 50)
    told = ["1" * count for count in range(10, 40)] + [text[at : at + 18] for at in some]
    began = time.process_time()
    read(Thread("cnv_1", [Mail("msg_1", text)]), told)
    assert time.process_time() - began < CPU_SECONDS


@pytest.mark.parametrize("kind", BODIES)
def test_whatever_html_a_mail_holds_is_read_in_time_in_proportion_to_it(kind: str) -> None:
    reading, page = Reading("cnv_1"), [raw(id="msg_1", body=BODIES[kind])]
    began = time.process_time()
    reading.take(page, where="here")
    assert time.process_time() - began < CPU_SECONDS


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("<p>it weighs < 5 kg: 1Z<b>999</b></p>", "it weighs < 5 kg: 1Z999"),
        ("sent <!-- not this", "sent"),  # as browsers have it: what nothing ends goes on
        ("sent <script>not this", "sent"),
        ("a &#" + "1" * 5_000 + "; b &#x41;", "a b A"),
        ("a <br", "a <br"),
    ],
)
def test_html_that_is_wrong_says_what_can_be_seen_of_it(body: str, text: str) -> None:
    assert plain_text(body) == text


def test_marks_beyond_any_language_are_left_out_and_those_of_words_are_not() -> None:
    word = unicodedata.normalize("NFD", "v\u1eadn \u0111\u01a1n")
    assert speaks_of_shipment(word)
    assert speaks_of_shipment("a" + "\u0301\u0327" * 5_000 + f" {word}")


def test_a_model_s_names_beyond_so_many_are_not_looked_for_and_that_is_told() -> None:
    told = [Told(number) for number in numbers(NAMES_MAX + 1)]
    thread = Thread("cnv_1", [Mail("msg_1", told[0].tracking_number)])
    row = scanned_of(
        Scanned(thread, Extraction(tuple(told), "model"), datetime.now(UTC)), confidence_least=0.0
    )
    assert row.shipments_found == 1
    assert row.problem == "more than 2000 numbers were named; those beyond were not looked for"


@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "subject": st.none() | st.text("ab ", max_size=60),
                "text": st.none() | st.text("ab ", max_size=60),
                "body": st.none() | st.text("<b>a ", max_size=600),
                "draft_mode": st.sampled_from([None, None, None, "shared"]),
            }
        ),
        max_size=12,
    ),
    st.integers(1, 100),
)
def test_of_any_thread_the_newest_is_read_as_far_as_there_is_room_and_told_if_that_is_not_all(
    mails: list[dict[str, str | None]], most: int
) -> None:
    page = [raw(id=f"msg_{place}", created_at=-place, **m) for place, m in enumerate(mails)]
    bounded, whole = Reading("cnv_1", most), Reading("cnv_1")
    bounded.take(page, where="here")
    whole.take(page, where="here")

    read, all_of_it = bounded.thread(), whole.thread()
    assert sum(len(mail.text) + len(mail.subject or "") for mail in read.messages) <= most
    assert all_of_it.problem is None
    if not bounded.is_full:
        assert read == all_of_it
        return
    assert read.problem == f"of its mail the newest {most} characters were read"
    newest = all_of_it.messages[::-1]
    for mine, its in zip(read.messages[::-1], newest, strict=False):
        assert mine.id == its.id
        assert (its.subject or "").startswith(mine.subject or "")
    for mine, its in zip(read.messages[:0:-1], newest, strict=False):
        assert mine == its  # but for the oldest of them, none is cut
