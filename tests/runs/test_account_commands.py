"""`syncd accounts`: the table's accounts are kept by command, checked, run, and never shown."""

from __future__ import annotations

import io
import queue
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import database_facts as facts
import pytest
import trio
from control_room import Said
from ticket_desk import Desk

from syncd.accounts import Books, take
from syncd.cli.commands import invoke
from syncd.cli.ending import CONFIGURATION, FAILED, PARTIAL, USAGE
from syncd.cli.invocation import Invocation
from syncd.cli.loading import load
from syncd.store.accounts import Sealed
from syncd.store.hops import Connection
from syncd.vault import Vault, new_key

HIDDEN = "tok-never-to-be-shown"


@attrs.frozen
class Counter:
    """The console of a database with one connector that has tenants, each with a secret."""

    dsn: str
    folder: Path
    file: Path
    capsys: pytest.CaptureFixture[str]

    def syncd(self, *words: str) -> Said:
        """Type a command; no token ever shows."""
        self.capsys.readouterr()
        code = invoke(["-c", str(self.file), *words])
        said = self.capsys.readouterr()
        assert HIDDEN not in said.out + said.err
        assert "Traceback" not in said.err
        return Said(code, said.out, said.err)

    def sheet(self, text: str) -> str:
        file = self.folder / "sheet.csv"
        file.write_text(text)
        return str(file)

    def rows(self) -> list[dict[str, Any]]:
        return facts.rows(
            self.dsn,
            "SELECT name, origin, enabled, settings, secrets IS NOT NULL AS sealed"
            " FROM syncd.account ORDER BY name",
        )

    def configure(self, more: str = "", *, keys: str = "", url: str = "http://127.0.0.1:1") -> None:
        self.file.write_text(
            f"[database]\nurl = '''{self.dsn}'''\npool_max = 2\n{keys}\n"
            f"[connectors.desk]\nbase_url = '{url}'\nprivate_network = true\n{more}\n"
            "[jobs.desk]\nconnector = 'desk'\nmode = 'full'\n"
        )


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The desk's plugin is installed, by an entry point as any is."""
    info = tmp_path / "desk-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: desk\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[syncd.plugins]\ndesk = ticket_desk:PLUGIN\n")
    monkeypatch.syspath_prepend(tmp_path)


@pytest.fixture
def counter(
    dsn: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], installed: None
) -> Counter:
    made = Counter(dsn, tmp_path, tmp_path / "syncd.toml", capsys)
    key = tmp_path / "vault.key"
    key.write_text(new_key().reveal())
    made.configure(keys=f"[vault]\nkeys = [{{ file = '{key}' }}]")
    return made


def test_an_account_is_added_changed_disabled_enabled_and_removed(
    counter: Counter, monkeypatch: pytest.MonkeyPatch
) -> None:
    (counter.folder / "token").write_text(f"{HIDDEN}\n")
    add = ("accounts", "add", "desk", "north", f"token=@{counter.folder}/token")

    assert "1 added" in counter.syncd(*add).out
    assert "1 unchanged" in counter.syncd(*add).out
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{HIDDEN}-2\n"))
    assert (
        "1 changed" in counter.syncd("accounts", "add", "desk", "north", "token=-", "seats=3").out
    )
    (row,) = counter.rows()
    assert (row["origin"], row["enabled"], row["sealed"]) == ("table", True, True)
    assert row["settings"] == {"seats": 3}

    assert counter.syncd("accounts", "disable", "desk", "north", "--json").json() == {
        "disabled": ["north"]
    }
    assert "they were disabled already" in counter.syncd("accounts", "disable", "desk", "north").out
    assert "1 changed; disabled, and stays so: north" in counter.syncd(*add).out
    listed = counter.syncd("accounts", "list", "--json").json()
    assert [(e["account"], e["origin"], e["state"]) for e in listed] == [
        ("north", "table", "disabled")
    ]
    assert listed[0]["secrets"] == ["token"]
    counter.syncd("accounts", "enable", "desk", "north")
    assert "token=***" in counter.syncd("accounts", "list", "desk").out

    assert counter.syncd("accounts", "remove", "desk", "north").code == USAGE, "nobody to ask"
    removed = counter.syncd("accounts", "remove", "desk", "north", "--yes")
    assert "rows in data tables stay" in removed.out
    (row,) = counter.rows()
    assert (row["origin"], row["settings"], row["sealed"]) == ("configuration", None, False)
    assert counter.syncd("accounts", "list").out.startswith("no accounts")
    assert "1 added" in counter.syncd(*add).out
    revision = facts.rows(counter.dsn, "SELECT accounts_revision AS n FROM syncd.instance")
    assert revision == [{"n": 7}], "each change is told once, and nothing else is"


def test_what_is_wrong_with_an_account_is_told_in_the_words_of_the_file(counter: Counter) -> None:
    counter.configure("[[connectors.desk.accounts]]\nname = 'North'\ntoken = 't'\n")
    for words, told in (
        (("south",), "token: missing, of type secret"),
        (("south", "tok=x"), "did you mean 'token'?"),
        (("south", f"token={HIDDEN}", "seats=many"), "seats: found 'many', wanted an integer"),
        (("-south", f"token={HIDDEN}"), "wanted a letter or digit"),
        (("north", f"token={HIDDEN}"), "stands in the configuration, which wins"),
        (("south", "token=@gone"), "cannot be read"),
    ):
        said = counter.syncd("accounts", "add", "desk", "--", *words)
        assert (said.code, told in said.err) == (USAGE, True), said.err
    said = counter.syncd("accounts", "add", "desk", "south", f"token={HIDDEN}")
    assert (said.code, "syncd credentials new-key" in said.err) == (CONFIGURATION, True), "no key"
    assert counter.syncd("accounts", "disable", "desk", "south").code == USAGE
    assert "no account of desk" in counter.syncd("accounts", "disable", "desk", "south").err
    assert counter.syncd("accounts", "list", "desc").code == USAGE
    assert counter.rows() == []


def test_a_secret_on_the_command_line_is_taken_and_warned_of(counter: Counter) -> None:
    said = counter.syncd("accounts", "add", "desk", "north", f"token={HIDDEN}")

    assert said.code == 0
    assert "token stood on the command line" in said.err


def test_hundreds_are_imported_at_once_and_again_without_a_change(counter: Counter) -> None:
    lines = [f"store-{n:03};{HIDDEN}-{n};{n + 1}" for n in range(300)]
    file = counter.sheet("\ufeffname;token;seats\r\n" + "\r\n".join(lines))

    first = counter.syncd("accounts", "import", "desk", file)
    again = counter.syncd("accounts", "import", "desk", file, "--json").json()
    lines[7] = f"store-007;{HIDDEN}-anew;8"
    counter.sheet("name;token;seats\n" + "\n".join([*lines, f"store-new;{HIDDEN};1"]))
    third = counter.syncd("accounts", "import", "desk", file, "--json").json()

    assert (first.code, first.out.split(".")[0]) == (0, "desk: 300 added")
    assert len(again["unchanged"]) == 300
    assert (third["added"], third["changed"]) == (["store-new"], ["store-007"])
    texts = facts.rows(counter.dsn, "SELECT to_jsonb(a)::text AS t FROM syncd.account a")
    assert len(texts) == 301
    assert not any(HIDDEN in each["t"] for each in texts)


def test_bad_lines_are_named_and_none_is_half_imported(counter: Counter) -> None:
    text = f"name,token,seats\na,{HIDDEN},1\nb,,2\nc,{HIDDEN},many\nd d,{HIDDEN},\ne,{HIDDEN},5\n"
    file = counter.sheet(text)

    said = counter.syncd("accounts", "import", "desk", file)
    told = counter.syncd("accounts", "import", "desk", file, "--json").json()
    assert counter.rows() == []
    some = counter.syncd("accounts", "import", "desk", file, "--skip-bad")

    assert said.code == FAILED
    assert f"{file}: line 3, column token (b): missing, of type secret" in said.err
    assert f"{file}: line 4, column seats (c): found 'many', wanted an integer" in said.err
    assert f"{file}: line 5, column name (d d): found 'd d', wanted a letter or digit" in said.err
    assert "3 lines" in said.err
    assert "nothing was imported" in said.err
    assert [(e["line"], e["column"]) for e in told["bad"]] == [
        (3, "token"), (4, "seats"), (5, "name"),
    ]  # fmt: skip
    assert told["added"] == []
    assert some.code == PARTIAL
    assert [row["name"] for row in counter.rows()] == ["a", "e"]


def test_the_number_of_statements_does_not_grow_with_the_number_of_accounts(
    counter: Counter,
) -> None:
    config = load(Invocation(counter.file)).config
    books = Books.of(config, config.instances["desk"], Vault([new_key()]))

    def statements(count: int, token: str) -> list[str]:
        rows = [books.sealed(f"s-{n}", {"token": f"{token}-{n}"}) for n in range(count)]
        told = Told(facts.connect(counter.dsn))
        with told as connection:
            take(connection, books, [row for row in rows if isinstance(row, Sealed)])
        return told.said

    few, many, changed = statements(3, "a"), statements(300, "a"), statements(300, "b")

    assert len(few) == len(many) == len(changed) <= 7
    assert sum("INSERT INTO syncd.account (instance, name, origin" in each for each in many) == 1


class Told:
    """A connection that tells what was said on it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.said: list[str] = []

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def execute(self, query: Any, *parameters: Any) -> Any:
        self.said.append(str(query))
        return self._connection.execute(query, *parameters)


@contextmanager
def served(desk: Desk) -> Iterator[str]:
    """Serve a desk in a thread: `syncd run` takes the signals of this one."""
    ready: queue.SimpleQueue[tuple[str, trio.Event, trio.lowlevel.TrioToken]] = queue.SimpleQueue()

    async def serve() -> None:
        over = trio.Event()
        async with desk.serve() as url:
            ready.put((url, over, trio.lowlevel.current_trio_token()))
            with trio.move_on_after(60):
                await over.wait()

    thread = threading.Thread(target=trio.run, args=(serve,), daemon=True)
    thread.start()
    url, over, token = ready.get(timeout=60)
    yield url
    trio.from_thread.run_sync(over.set, trio_token=token)
    thread.join(60)


def test_check_run_and_preview_see_the_tables_accounts_and_an_invalid_one_stands_alone(
    counter: Counter,
) -> None:
    keys = counter.file.read_text().partition("[vault]")[2].partition("\n[conn")[0]
    with served(Desk({0: ([1, 2], None)})) as url:
        counter.configure(keys=f"[vault]{keys}", url=url)
        for words in (("check",), ("run", "desk"), ("preview", "desk.tickets")):
            said = counter.syncd(*words)
            assert (said.code, "syncd accounts add desk" in said.out + said.err) == (78, True)

        for name in ("north", "south"):
            counter.syncd("accounts", "add", "desk", name, f"token={HIDDEN}-{name}")
        facts.execute(
            counter.dsn,
            "UPDATE syncd.account SET settings = '{\"seats\": \"many\"}' WHERE name = 'south'",
        )
        checked = counter.syncd("check")
        ran = counter.syncd("run", "desk")
        shown = counter.syncd("preview", "desk.tickets", "--account", "north")
        parked = counter.syncd("park", "desk", "--account", "nor*", "--reason", "r")
        status = counter.syncd("status")

    wrong = "connectors.desk.accounts.south.seats: found 'many', wanted an integer"
    assert checked.code == CONFIGURATION
    assert f"FAILED  account desk.south: {wrong}" in checked.out
    assert "job desk: desk.tickets[north]: the next pass is full" in checked.out
    assert (ran.code, wrong in ran.err + ran.out) == (FAILED, True)
    assert '"event":"account.invalid"' in ran.err.replace(": ", ":")
    assert {row["account_id"] for row in facts.rows(counter.dsn, "TABLE desk.tickets")} == {"north"}
    assert shown.code == 0
    assert "2 rows" in shown.out
    assert "parked 1 account: north" in parked.out
    assert "account desk.north is parked: r" in status.out
    assert counter.syncd("resume", "desk", "--account", "north").out.startswith("resumed: 1")
    assert counter.syncd("accounts", "list").code == FAILED
