"""Whether a text may speak of a shipment: the cheap first test, before anybody is asked. Pure.

It errs on the side of asking: a thread that it calls silent is read by nobody. A text speaks where
it holds a word of shipping in one of a dozen languages, or what may be a tracking number. Raise
`FIRST_TEST_VERSION` with any change of it: what was called silent is then looked at again.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

from syncd_front.extraction.finding import numbers_in

FIRST_TEST_VERSION = 3

# Marks on one letter (UAX 15, 13, "Stream-Safe Text Format"): composing them takes the square of
# their count, and no letter of any language has so many.
_MARKS_MAX = 30

# Where a word begins; and parts of words, which say the same in the middle of one. Small letters.
_WORDS = re.compile(
    r"\b(?:ship(?:s|ped|ping|ments?)?\b|track(?:ing|ed)?\b|d[ei]spatch|deliver|waybill|awb\b|parcel"
    r"|packages?\b|courier|carrier|consignment|freight|in transit\b|customs\b|eta\b|bill of lading"
    r"|forwarder|container\b"
    r"|ups\b|fed\s?ex\b|usps\b|dhl\b|tnt\b|gls\b|dpd\b|ems\b"  # carriers, in any language
    r"|pakete?\b|(?:ge|be)?lever(?:d|t|ing|en)\b"  # German, Dutch
    r"|colis\b|suivi\b|livrer\b|pacc(?:o|hi)\b|correios\b"  # French, Italian, Portuguese
    r"|kurier|nadan[aoey]"  # Polish
    r"|van don\b|van chuyen\b|giao hang\b|gui hang\b|chuyen phat\b)"  # Vietnamese, unmarked
)
_STEMS = (
    # German, Dutch
    *("versand", "versend", "sendung", "liefer", "verschick", "frachtbrief", "spedition"),
    *("verzend", "verzond", "zending", "pakket", "bezorg", "vrachtbrief"),
    # French, Italian
    *("expédi", "expedi", "livré", "livraison", "transporteur", "achemin"),
    *("spedit", "spediz", "spedir", "consegn", "tracciament", "corriere"),
    # Spanish, Portuguese
    *("envío", "envio", "envía", "envia", "despach", "entrega", "entregu", "rastre", "seguimiento"),
    *("paquete", "encomenda", "remessa", "transportadora"),
    # Polish, Vietnamese
    *("wysł", "wysył", "przesył", "paczk", "dostaw", "przewozow", "śledz"),
    *("vận đơn", "vận chuyển", "giao hàng", "gửi hàng", "chuyển phát", "lô hàng"),
    *("bưu kiện", "bưu phẩm", "bưu gửi"),
    # Chinese in both ways of writing, Japanese, Korean
    *("快递", "快遞", "物流", "运单", "運單", "运输", "運輸", "运费", "運費", "单号", "單號"),
    *("发货", "發貨", "出货", "出貨", "寄出", "包裹", "配送", "提单", "提單", "顺丰", "順豐"),
    *("発送", "出荷", "送り状", "追跡", "荷物", "宅配", "伝票番号", "お届け", "納品"),
    *("배송", "운송장", "택배", "발송"),
)

# What may be a carrier's number: unbroken, or digits in groups as they are printed on labels.
_TOKEN = re.compile(r"(?<![0-9A-Za-z.,])[0-9A-Za-z]{10,34}(?![0-9A-Za-z]|[.,]\d)", re.ASCII)
_GROUPED = re.compile(
    r"(?<![0-9A-Za-z.,-])\d{3,5}(?:[ -]\d{3,5}){2,8}(?![0-9A-Za-z]|[.,-]\d)", re.ASCII
)
_DIGITS_MIN = 8
_LETTERS_MAX = 6  # beyond that it is a word, or a hash in an address; 1Z is known by its form
_GROUPED_DIGITS_MIN = 12

# What it obviously is instead. A number is called so right before it, by a whole word: of a
# telephone, a bank or a tax office. An account may be the shipper's with a carrier.
_MOMENT = re.compile(r"20\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])(?:\d{4}|\d{6})?")
_LABEL = re.compile(
    r"(?:(?<![\w+])\+|\(0\)\W?|\bcall(?:\s(?:us|me))?(?:\s(?:at|on))?\W{1,3}"
    r"|(?:\b(?:tel|telephone|telefon|telefono|phone|mobile?|fax|telefax|whatsapp|zalo|hotline"
    r"|IBAN|VAT|USt|tax)|电话|電話|手机)"
    r"(?:\W{0,2}(?:id|idnr|numbers?|nummer|no|nr|num)\b)*(?:\sis)?\W{1,6})$",
    re.IGNORECASE,
)
_LABEL_CHARACTERS = 24


def speaks_of_shipment(text: str) -> bool:
    """Say, cheaply, whether a text may speak of a shipment; where it does not, nobody is asked."""
    lowered = _composed(text).lower()
    return (
        any(stem in lowered for stem in _STEMS)
        or _WORDS.search(lowered) is not None
        or any(_may_be_number(text, *each) for each in _candidates(text))
        or bool(numbers_in(text))
    )


def _composed(text: str) -> str:
    """Return a text with its letters and their marks in one, where there is a character for both.

    Of marks without end on one letter, those beyond `_MARKS_MAX` are left out.
    """
    if text.isascii():
        return text
    marks = "".join(filter(_is_mark, sorted(set(text))))
    if marks:
        text = re.sub(f"([{marks}]{{{_MARKS_MAX}}})[{marks}]+", r"\1", text)
    return unicodedata.normalize("NFC", text)


def _is_mark(character: str) -> bool:
    """Say whether a character is put on the letter before it, or is taken apart into such ones."""
    return unicodedata.combining(unicodedata.normalize("NFD", character)[0]) != 0


def _candidates(text: str) -> Iterator[tuple[str, int]]:
    for match in _TOKEN.finditer(text):
        digits = sum(character.isdigit() for character in match[0])
        if digits >= _DIGITS_MIN and len(match[0]) - digits <= _LETTERS_MAX:
            yield match[0], match.start()
    for match in _GROUPED.finditer(text):
        if sum(character.isdigit() for character in match[0]) >= _GROUPED_DIGITS_MIN:
            yield match[0], match.start()


def _may_be_number(text: str, number: str, at: int) -> bool:
    """Say whether a candidate is not obviously a telephone's number, an account's, or a moment."""
    dialled = number.startswith("0") and len(number) <= 11
    label = _LABEL.search(text, max(at - _LABEL_CHARACTERS, 0), at)  # which sees what is before
    return not (dialled or _MOMENT.fullmatch(number) or label)
