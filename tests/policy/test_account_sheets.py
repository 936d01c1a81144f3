"""Sheets of accounts are read as spreadsheets write them, and what is bad is named by its line."""

from __future__ import annotations

import pytest

from syncd.cli.sheets import Bad, Line, Sheet, read

KNOWN = ("token", "seats")
TWO = [Line(2, "a", {"token": "x"}), Line(3, "b", {"token": "y", "seats": "2"})]


def sheet(text: str) -> Sheet:
    return read(text.encode(), known=KNOWN, required=("token",))


@pytest.mark.parametrize(
    "text",
    [
        "name,token,seats\na,x,\nb,y,2\n",
        "name;token;seats\r\na;x;\r\nb;y;2",
        "name\ttoken\tseats\na\tx\t\nb\ty\t2\n",
        '\ufeff"name";"token";"seats"\r\n"a";"x";""\r\n b ; y ;2\r\n',
        "name,token,seats\na,x,\nb,y,2\n,,\n\n",
    ],
)
def test_what_spreadsheets_write_says_the_same(text: str) -> None:
    assert sheet(text) == Sheet(TWO, [])


def test_columns_stand_in_any_order_and_optional_ones_may_be_missing() -> None:
    assert sheet("token,name\nx,a\n").lines == [Line(2, "a", {"token": "x"})]


def test_the_number_of_a_line_is_the_one_an_editor_shows() -> None:
    text = 'name,token\na,"two\nlines"\n\nb,y\n,z\n'

    found = sheet(text)

    assert [(each.number, each.name) for each in found.lines] == [(3, "a"), (5, "b")]
    assert found.bad == [Bad(6, "name", "missing")]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "line 1: empty; wanted a line with the columns name, token, seats"),
        ("token\nx\n", "line 1, column name: missing"),
        ("name,seats\na,1\n", "line 1, column token: missing"),
        ("name,token,seat\na,x,1\n", "did you mean 'seats'?"),
        ("name,token,token\na,x,y\n", "line 1, column token: it stands there twice"),
        ("name,token,\na,x,\n", "line 1: the column in place 3 has no name"),
        ("name,token\na,x,1\n", "line 2: 3 cells, where the first line has 2"),
        ("name,token\na,x\nA,y\n", "line 3, column name (A): line 2 has this name"),
        ('name,token\na,"x\n', "no CSV: unexpected end of data"),
    ],
)
def test_what_is_bad_is_told_with_its_line_and_column(text: str, told: str) -> None:
    (bad,) = sheet(text).bad

    assert told in str(bad)


def test_a_sheet_in_another_encoding_says_what_to_do() -> None:
    (bad,) = read("name,token\na,x\nb,é".encode("latin-1"), known=KNOWN).bad

    assert str(bad) == 'line 3: not UTF-8; save the sheet as "CSV UTF-8"'


def test_no_cell_shows_where_a_line_is_printed() -> None:
    assert "x" not in repr(sheet("name,token\na,xxxxxx\n").lines[0]).replace("texts", "")
