"""A file of credentials: what is taken as it comes, and what is said of a wrong row."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from syncd.cli.credential_rows import read_rows

CANARY = "of-no-value"
KNOWN = ("north", "south", "west")
HEAD = "account,access_token,refresh_token,access_expires_at,refresh_expires_at"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "line 1: no column account and no column access_token; there: nothing"),
        ("account,token\nnorth,x", "line 1: no column access_token; there: account, token"),
        (f"{HEAD},x,x\n", "line 1: twice: x"),
        (f"{HEAD},\n", "line 1: a column has no name"),
        (f"{HEAD}\n\n ,,\n", "there is no row below the first line"),
        (f"{HEAD}\neast,a,r,,", "line 2 ('east'): there is no such account"),
        (f"{HEAD}\n,a,r,,", "line 2: account is empty"),
        (f"{HEAD}\nnorth,a,r,,\nnorth,a,r,,", "line 3 ('north'): stands in line 2 already"),
        (f"{HEAD}\nnorth,,r,,", "line 2 ('north'): access_token is empty"),
        (f"{HEAD}\nnorth,{CANARY} b,r,,", "access_token holds a blank"),
        (f"{HEAD}\nnorth,a,{CANARY * 2000},,", "refresh_token has 22000 characters, over 16384"),
        (f"{HEAD}\nnorth,a,r,tomorrow,", "access_expires_at 'tomorrow', wanted ISO 8601"),
        (f"{HEAD}\nnorth,a,r,2027-01-01,", "names no zone; add Z for UTC"),
        (f"{HEAD}\nnorth,a,r,1e9,", "wanted ISO 8601"),
        (f"{HEAD}\nnorth,a,r,99999999999,", "is in the year 5138; are these seconds?"),
        (f"{HEAD}\nnorth,a,,,1900000000", "has refresh_expires_at, and no refresh_token"),
        (f"{HEAD}\nnorth,a,r,", "line 2: has 4 columns, where the first line has 5"),
        (f'{HEAD}\nnorth,"a', "line 2: is no CSV"),
        (b"account,access_token\nnorth,\xff", "line 2: is no UTF-8"),
    ],
)
def test_a_wrong_row_is_named_and_none_is_taken(text: str | bytes, said: str) -> None:
    content = text if isinstance(text, bytes) else text.encode()

    rows = read_rows(content, known=KNOWN)

    assert said in "\n".join(rows.problems)
    assert rows.credentials == {}
    assert CANARY not in repr(rows)


def test_every_wrong_row_is_named_at_once() -> None:
    rows = read_rows(f"{HEAD}\neast,a,r,,\nnorth,a,r,,\nsouth,,r,,".encode(), known=KNOWN)

    assert [problem.split(":")[0] for problem in rows.problems] == [
        "line 2 ('east')",
        "line 4 ('south')",
    ]


@pytest.mark.parametrize("between", [",", ";"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_a_file_is_taken_as_office_programs_write_it(between: str, end: str, mark: str) -> None:
    lines = [
        ("Account ", "open_id", "access_token", "refresh_token", "access_expires_at"),
        (" north", "id 1", "act", "rft", "2027-01-01T02:00:00+02:00"),
        ("south", "", "act2", "", "1800000000"),
        ("", "", "", "", ""),
    ]
    text = mark + end.join(between.join(line) for line in lines) + end

    rows = read_rows(text.encode(), known=KNOWN)

    assert rows.problems == []
    north, south = rows.credentials["north"], rows.credentials["south"]
    assert north.access_token.reveal() == "act"
    assert north.refresh_token is not None
    assert north.access_expires_at == datetime(2027, 1, 1, tzinfo=UTC)
    assert north.details == {"open_id": "id 1"}
    assert (south.refresh_token, south.details) == (None, {})
    assert south.access_expires_at == datetime.fromtimestamp(1800000000, UTC)
