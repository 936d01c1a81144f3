"""Numbers of carriers are found by their check digits, and in nothing else."""

from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd_front.extraction import (
    FORMS,
    Form,
    form_of,
    likeness,
    numbers_in,
    occurs_in,
    order_near,
    orders_in,
    plain,
    speaks_of_shipment,
)
from syncd_front.llm import parts_of

BY_NAME = {form.name: form for form in FORMS}

# Numbers that carriers' own documents and test pages print as examples.
PRINTED = {
    "1Z999AA10123456784": "ups-1z",
    "1Z5R89390357567127": "ups-1z",
    "RB123456785GB": "s10",
    "RA123456785US": "s10-us",
    "9400111202555842332669": "usps-impb",
    "71969010756003077385": "usps-20",
    "986578788855": "fedex-12",
    "477179081230": "fedex-12",
    "041441760228964": "fedex-15",
    "568283610012000": "fedex-15",
    "9611020987654312345672": "fedex-22",
    "1234567891": "dhl-10",
    "JJD0099999999": None,
    "JJD014600003821234567": "dhl-jjd",
    "GM2951173225174494": "dhl-gm",
}


@pytest.mark.parametrize(("number", "name"), PRINTED.items())
def test_a_printed_example_has_the_form_of_its_carrier(number: str, name: str | None) -> None:
    form = form_of(number)
    assert (form.name if form else None) == name


@pytest.mark.parametrize(
    "number",
    [
        "1Z999AA10123456785",  # its check digit is another
        "RB123456784GB",
        "9400111202555842332668",
        "71969010756003077386",
        "986578788856",
        "041441760228965",
        "1234567892",
        "1Z999AA1012345678",  # too short
        "RB12345678GB",
        "12345",
        "",
        "\uff19\uff14\uff10\uff10111202555842332669",  # digits, and not of ASCII
    ],
)
def test_a_number_that_is_wrong_has_no_form(number: str) -> None:
    assert form_of(number) is None


def made(form: Form, draw: st.DataObject) -> str:
    """Make a number of a form, its check digit right."""
    assert form.check is not None
    pattern = form.pattern.pattern.replace("(?:420(?:\\d{5}|\\d{9}))?", "")
    number = draw.draw(st.from_regex(re.compile(pattern, re.ASCII), fullmatch=True))
    found = form.pattern.fullmatch(number)
    assert found is not None
    at = found.start("digit")
    check = form.check(found["body"])
    if check > 9:
        raise AssertionError(f"{form.name} makes the check digit {check}")
    return f"{number[:at]}{check}{number[at + 1 :]}"


CHECKED = [form for form in FORMS if form.check is not None]

# What a check digit cannot see: a value weighed by 2 modulo 10 (UPS) moves by 5, one modulo 11 of
# which 10 is 0 (FedEx Express, S10), one modulo 7 that moves by 7 (DHL).
SEES_ALL = ["usps-impb", "usps-20", "dhl-sscc", "fedex-20", "fedex-15"]


@pytest.mark.parametrize("form", CHECKED, ids=lambda form: form.name)
@given(data=st.data())
def test_a_number_with_its_check_digit_is_admitted_and_with_any_other_it_is_not(
    form: Form, data: st.DataObject
) -> None:
    number = made(form, data)
    found = form.pattern.fullmatch(number)
    assert found is not None
    assert form.admits(number)
    at = found.start("digit")
    for digit in "0123456789":
        other = f"{number[:at]}{digit}{number[at + 1 :]}"
        assert form.admits(other) == (digit == number[at])


@pytest.mark.parametrize("name", SEES_ALL)
@given(data=st.data())
def test_one_digit_changed_is_refused_where_the_check_digit_can_see_it(
    name: str, data: st.DataObject
) -> None:
    form = BY_NAME[name]
    number = made(form, data)
    at = data.draw(st.integers(0, len(number) - 1))
    digit = data.draw(st.sampled_from("0123456789"))
    other = f"{number[:at]}{digit}{number[at + 1 :]}"
    if other != number and form.fits(other):
        assert not form.admits(other)


@given(data=st.data())
def test_an_s10_digit_changed_is_refused_unless_both_mean_the_rest_that_has_no_digit(
    data: st.DataObject,
) -> None:
    number = made(BY_NAME["s10"], data)
    at = data.draw(st.integers(2, 9))
    other = f"{number[:at]}{(int(number[at]) + 1) % 10}{number[at + 1 :]}"
    # The check digits 0 and 5 stand for two rests each.
    assert not BY_NAME["s10"].admits(other) or number[10] in "05"


@given(st.text(max_size=200))
def test_any_text_is_read_and_what_is_found_has_a_form_and_stands_in_it(text: str) -> None:
    for sighting in numbers_in(text):
        assert sighting.form.admits(sighting.number)
        assert occurs_in(text, sighting.number)
    orders_in(text)
    assert speaks_of_shipment(text) or not numbers_in(text)


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("UPS 1Z999AA10123456784 is on its way", ["1Z999AA10123456784"]),
        ("1z 999 aa1 01 2345 6784", ["1Z999AA10123456784"]),
        ("https://x.example/track?n=1Z999AA10123456784&l=en", ["1Z999AA10123456784"]),
        ("RB 123 456 785 GB", ["RB123456785GB"]),
        ("9400 1112 0255 5842 3326 69", ["9400111202555842332669"]),
        ("42075201 9400111202555842332669", ["9400111202555842332669"]),
        ("FedEx: 9865 7878 8855", ["986578788855"]),
        ("FedEx 986578788855 477179081230", ["986578788855", "477179081230"]),
        ("your tracking number is 986578788855", ["986578788855"]),
        ("DHL 1234567891", ["1234567891"]),
        ("call us on 1234567891", []),  # ten digits, and nobody says that they are DHL's
        ("invoice 986578788855", []),
        ("1Z999AA10123456785", []),  # its check digit is wrong
        ("X1Z999AA10123456784", []),  # a part of something longer
        ("1Z999AA10123456784 1Z999AA10123456784", ["1Z999AA10123456784"]),
        ("", []),
    ],
)
def test_a_text_yields_the_numbers_that_it_means(text: str, numbers: list[str]) -> None:
    assert [sighting.number for sighting in numbers_in(text)] == numbers
    assert all(occurs_in(text, number) for number in numbers)


@pytest.mark.parametrize(
    ("text", "orders"),
    [
        ("PO 4711 has shipped", ["4711"]),
        ("P.O. #A-4711/2", ["A-4711/2"]),
        ("purchase order no. 4500012345, PO: 4711.", ["4500012345", "4711"]),
        ("po4711", ["4711"]),
        ("PO Box 4711", []),
        ("the PO has shipped", []),
        ("depot 4711", []),
    ],
)
def test_a_text_yields_the_purchase_orders_that_it_names(text: str, orders: list[str]) -> None:
    assert [order.number for order in orders_in(text)] == orders


def test_a_number_belongs_to_the_order_before_it() -> None:
    text = "PO 4711: 1Z999AA10123456784\nPO 4712: RB123456785GB"
    orders = orders_in(text)
    assert [order_near(orders, each.at) for each in numbers_in(text)] == ["4711", "4712"]
    assert order_near(orders, 0) == "4711"
    assert order_near([], 5) is None


@pytest.mark.parametrize(
    ("text", "speaks"),
    [
        ("Your parcel is in transit", True),
        ("Ihre Sendung kommt morgen", True),
        ("RB123456785GB", True),
        ("Shall we have lunch?", False),
        ("a fine relationship", False),
        ("", False),
        # in other languages
        ("Seu pedido foi despachado, segue o código de rastreio", True),
        ("Uw bestelling is verzonden", True),
        ("Wysłano dziś, nr przesyłki w załączniku", True),
        ("Mã vận đơn của quý khách", True),
        (unicodedata.normalize("NFD", "Mã vận đơn của quý khách"), True),
        ("ma van don cua quy khach", True),
        ("您的货物已发货", True),
        ("本日発送いたしました", True),
        ("La merce è stata consegnata", True),
        ("오늘 발송했습니다", True),
        # by a number alone, whatever is said around it
        ("Order 4711 left our warehouse today: 794612345678", True),
        ("4711 -> TBA123456789012", True),
        ("今天:YT2312345678901234。", True),
        ("see https://x.example/t?n=794612345678&l=en", True),
        ("7946 1234 5678", True),
        ("it is 1234567891", True),
        # whatever only begins or ends as such a label does
        ("Tell Bob: 794612345678", True),
        ("headphones 794612345678", True),
        ("the smartphone no. is: 794612345678", True),
        ("the automobile: 794612345678", True),
        ("by taxi: 794612345678", True),
        ("C++ 794612345678", True),
        ("Our account: 794612345678", True),
        ("Konto 794612345678", True),
        ("my phone broke 794612345678", True),
        ("we call it 794612345678", True),
        ("it has 0 left, 794612345678", True),
        ("a handy one: 794612345678", True),
        # what is obviously another number
        ("Please call 5550100200.", False),
        ("Tel.: 5125550100, Fax 5125550101", False),
        ("+84 28 3812 3456 or +842838123456", False),
        ("030 1234 5678, 03012345678", False),
        ("My phone number is 5125550100; WhatsApp 5125550100", False),
        ("+49 (0) 3012345678, mobile no.: 1701234567", False),
        ("call us at 5125550100, call me: 5125550100", False),
        ("\u8054\u7cfb\u7535\u8bdd\uff1a13800138000", False),
        ("Tax ID 123456789, VAT no. 123456789", False),
        ("IBAN: DE89370400440532013000", False),
        ("USt-IdNr. DE123456789", False),
        ("at 20251229104500, on 2025-12-29, 29.12.2025 10:45", False),
        ("1234567890.50 EUR, 1,234,567,890.50", False),
        ("invoice 4500012, PO 4711", False),
        ("a8f3c9d2e4b1f6a7c8d9e0f1a2b3c4d5", False),
        ("Shall we meet on Tuesday at 10, or on 12 December 2025?", False),
    ],
)
def test_the_cheap_test_says_whether_a_thread_may_speak_of_a_shipment(
    text: str, speaks: bool
) -> None:
    assert speaks_of_shipment(text) == speaks


def test_a_number_with_a_wrong_check_digit_is_known_for_what_it_is_like() -> None:
    form = likeness("1Z999AA10123456785")
    assert form is not None
    assert form.name == "ups-1z"
    assert likeness("1Z999AA10123456784") is None
    assert likeness("INV-2026-77") is None


def test_a_number_is_known_whatever_is_written_between_its_groups() -> None:
    assert plain("1z 999-aa1 01 2345 6784") == "1Z999AA10123456784"
    assert plain("420752019400111202555842332669") == "9400111202555842332669"
    assert occurs_in("see 1Z 999 AA1 01 2345 6784.", "1Z999AA10123456784")
    assert not occurs_in("see 1Z", "1Z999AA10123456784")
    assert not occurs_in("see 1Z", "")


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("call 12345 67890 today", "1234567890TODAY"),
        ("call 12345 67890 today", "CALL1234567890"),
        ("1Z999AA10123456784", "1Z999AA101234"),  # as a part's edge cuts it
        ("1Z999AA10123456784", "9AA10123456784"),
        ("9400 1112 0255 5842 3326 69", "9400111202555842"),
        ("986578788855\n12345", "98657878885512345"),
        ("order 98657\n8788855", "986578788855"),
        ("see - there", "-"),
    ],
)
def test_a_part_of_something_longer_is_no_number_of_a_text(text: str, number: str) -> None:
    assert not occurs_in(text, number)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("call 12345 67890 today", "1234567890"),
        ("SF 1234567890123, by air", "SF1234567890123"),
        ("FedEx 986578788855 477179081230", "477179081230"),
        ("42075201 9400111202555842332669", "9400111202555842332669"),
        ("4207520194001112 0255 5842 3326 69", "9400111202555842332669"),
        ("\u5355\u53f71Z999AA10123456784\u5728", "1Z999AA10123456784"),
        ("1z\u00a0999-aa1 01 2345\n6784", "1Z999AA10123456784"),
        ("ref AB-12.345/6", "AB12.345/6"),
    ],
)
def test_a_number_by_itself_is_one_of_its_text_however_it_is_written(
    text: str, number: str
) -> None:
    assert occurs_in(text, number)


WORD = st.sampled_from(["a", "PO 4711", "1Z 999 AA1 01 2345 6784", "9400111202555842332669", "\n"])


@given(words=st.lists(WORD, max_size=200), most=st.integers(400, 900))
def test_parts_hold_all_of_a_text_and_none_a_number_that_the_text_has_not(
    words: list[str], most: int
) -> None:
    text = " ".join(words)
    parts = parts_of(text, most)

    assert all(len(part) <= most for part in parts)
    numbers = {each.number for each in numbers_in(text)}
    assert {each.number for part in parts for each in numbers_in(part)} == numbers
    for part in parts:  # every number of a part is whole, its groups included
        for group in re.findall(r"[0-9A-Z]{3,}", part):
            assert group in {"4711", "999", "AA1", "2345", "6784", "9400111202555842332669"}


@given(st.text("ab 1", max_size=3000), st.integers(400, 900))
def test_parts_cover_a_text_and_a_run_without_blanks_comes_to_an_end(text: str, most: int) -> None:
    parts, at = parts_of(text, most), 0
    for part in parts:
        found = text.find(part, max(at - 200, 0))
        assert 0 <= found <= at
        at = max(at, found + len(part))
    assert at == len(text)


def test_a_run_without_blanks_that_is_cut_has_its_number_whole_in_one_part() -> None:
    text = "a=" * 480 + "1Z999AA10123456784" + "&b" * 900
    parts = parts_of(text, 970)
    assert any(occurs_in(part, "1Z999AA10123456784") for part in parts)
