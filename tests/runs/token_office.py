"""An upstream that lets accounts in by tokens which rotate, and the connector for it.

A refresh token works once (unless the office is lenient): used again it is an invalid_grant
(RFC 6749, 5.2). Each account has a chain of pages of stamps.
"""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast
from urllib.parse import parse_qs

import attrs
import msgspec
import psycopg
import pytest
from psycopg.rows import dict_row

from syncd import (
    Connector,
    Context,
    Credential,
    Cursor,
    Feed,
    Page,
    Partition,
    Pass,
    Quota,
    Record,
    Request,
    Secret,
    SourceError,
    Stream,
    Unauthorized,
    Unintelligible,
    Upstream,
    decode,
    hookimpl,
)
from syncd.cli.commands import invoke
from syncd.config import Config, parse, structure
from syncd.daemon import Process, Root
from syncd.events import Event
from syncd.jobs import run_job
from syncd.observe import Observer
from syncd.plugins import Plugins
from syncd.vault import new_key
from syncd.verdicts import Result
from syncd_cars.simulator_serving import serve

PAGES = 4
CANARY = "of-no-value"  # in every token


class TokenOffice:
    """The upstream: `numbers` says which pair of an account is good."""

    def __init__(self, *accounts: str) -> None:
        self.public_url = ""
        self.numbers = dict.fromkeys(accounts, 0)
        self.dead: set[str] = set()  # accounts that must be let in by a person
        self.revoked: set[str] = set()  # access tokens that are taken no more
        self.revokes_at: dict[str, int] = {}  # by account, the page before which it does
        self.expires_in = 7200
        self.refreshes: Counter[str] = Counter()
        self.pages: Counter[str] = Counter()  # by account and page

    def serve(self) -> AbstractAsyncContextManager[str]:
        return serve(cast("Any", self))

    def access(self, account: str) -> str:
        return f"act.{account}.{self.numbers[account]}.{CANARY}"

    def refresh(self, account: str) -> str:
        return f"rft.{account}.{self.numbers[account]}.{CANARY}"

    def csv(self, *, good_for_seconds: float = 7200.0, between: str = ",") -> str:
        """Write a file of the credentials that are good now."""
        ends_at = datetime.now(UTC) + timedelta(seconds=good_for_seconds)
        head = ("account", "access_token", "refresh_token", "access_expires_at", "open_id")
        rows = [
            (name, self.access(name), self.refresh(name), ends_at.isoformat(), f"id-{name}")
            for name in self.numbers
        ]
        return "\r\n".join(between.join(row) for row in (head, *rows)) + "\r\n"

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            while (message := await receive())["type"] != "lifespan.shutdown":
                await send({"type": f"{message['type']}.complete"})
            await send({"type": "lifespan.shutdown.complete"})
            return
        body = (await receive()).get("body", b"")
        fields = {name.decode(): value.decode() for name, value in scope["headers"]}
        if scope["path"] == "/token":
            status, said = self._trade(fields, body)
        else:
            status, said = self._page(fields, parse_qs(scope["query_string"].decode()))
        head = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": status, "headers": head})
        await send({"type": "http.response.body", "body": json.dumps(said).encode()})

    def _trade(self, fields: Mapping[str, str], body: bytes) -> tuple[int, Any]:
        assert "authorization" not in fields
        asked = {name: values[0] for name, values in parse_qs(body.decode()).items()}
        assert asked["grant_type"] == "refresh_token"
        account = asked["refresh_token"].split(".")[1]
        self.refreshes[account] += 1
        if account in self.dead or asked["refresh_token"] != self.refresh(account):
            return 400, {"error": "invalid_grant", "log_id": asked["refresh_token"]}
        self.numbers[account] += 1
        return 200, {
            "access_token": self.access(account),
            "refresh_token": self.refresh(account),
            "expires_in": self.expires_in,
            "refresh_expires_in": 15552000,
        }

    def _page(self, fields: Mapping[str, str], query: Mapping[str, list[str]]) -> tuple[int, Any]:
        token = fields.get("authorization", "").removeprefix("Bearer ")
        account = token.split(".")[1] if token.count(".") >= 3 else ""
        number = int(query.get("page", ["1"])[0])
        if self.revokes_at.get(account) == number:
            del self.revokes_at[account]
            self.revoked.add(token)
        if account not in self.numbers or token != self.access(account) or token in self.revoked:
            return 401, {"error": f"access_token_invalid: {token}"}
        self.pages[f"{account}/{number}"] += 1
        return 200, {"stamps": [{"id": number}], "next": number + 1 if number < PAGES else None}


# --- The connector --------------------------------------------------------------------------------


def install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have any command of this process find the connector as one that is installed."""
    info = folder / "stamps-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: stamps\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[syncd.plugins]\nstamps = {__name__}:PLUGIN\n")
    monkeypatch.syspath_prepend(folder)


@attrs.frozen
class Settings:
    base_url: str


@attrs.frozen
class AccountSettings:
    token_until: str = ""


@attrs.define
class Stamp:
    id: int


class _Page(msgspec.Struct):
    stamps: list[msgspec.Raw]
    next: int | None


class _Tokens(msgspec.Struct):
    access_token: str = ""
    refresh_token: str = ""
    expires_in: int = 0
    refresh_expires_in: int = 0
    error: str = ""


def upstream(settings: Settings, _: AccountSettings) -> Upstream:
    return Upstream(settings.base_url, quotas=(Quota("all"),), authorize=bearer)


def bearer(credential: Credential) -> Mapping[str, str | Secret]:
    return {"authorization": Secret(f"Bearer {credential.access_token.reveal()}")}


def ends_at(_: Settings, account: AccountSettings) -> datetime | None:
    return datetime.fromisoformat(account.token_until) if account.token_until else None


STAMPS = Stream("stamps", Stamp, key=("id",), per_account=True)
CONNECTOR = Connector(
    "stamps",
    "1.0.0",
    settings=Settings,
    account_settings=AccountSettings,
    feeds=(Feed("stamps", (STAMPS,), quota="all"),),
    upstream=upstream,
    expires_at=ends_at,
)


class Plugin:
    """The connector's hooks."""

    @hookimpl
    def connectors(self) -> Sequence[Connector]:
        return [CONNECTOR]

    @hookimpl
    def begin(self) -> Any:
        def first(_: Partition, request: Request, __: datetime) -> Pass:
            return Pass(request.mode, (Cursor(1),))

        return first

    @hookimpl
    def fetch(self) -> Any:
        async def page(ctx: Context[Settings, None], cursor: Cursor) -> Page:
            assert isinstance(cursor.value, int)
            answer = await ctx.http.get("/stamps", params={"page": cursor.value})
            found = decode(answer, _Page, where="GET /stamps")
            opens = () if found.next is None else (Cursor(found.next),)
            return Page({"stamps": [Record(raw) for raw in found.stamps]}, opens)

        return page

    @hookimpl
    def refresh(self) -> Any:
        return renewed

    @hookimpl
    def check(self) -> Any:
        async def ask(ctx: Context[Settings, None]) -> str:
            await ctx.http.get("/stamps")
            return "the token is accepted"

        return ask


async def renewed(ctx: Context[Settings, None], old: Credential) -> Credential:
    assert old.refresh_token is not None
    answer = await ctx.http.post(
        "/token",
        form={"grant_type": "refresh_token", "refresh_token": old.refresh_token},
        also=frozenset({400}),
    )
    said = decode(answer, _Tokens, where="POST /token")
    if error := refusal(said.error):
        raise error
    now = ctx.http.now()
    return attrs.evolve(
        old,
        access_token=Secret(said.access_token),
        refresh_token=Secret(said.refresh_token),
        access_expires_at=now + timedelta(seconds=said.expires_in),
        refresh_expires_at=now + timedelta(seconds=said.refresh_expires_in),
    )


def refusal(error: str) -> SourceError | None:
    if error == "invalid_grant":
        return Unauthorized("POST /token", "invalid_grant")
    return Unintelligible("POST /token", error) if error else None


PLUGIN = Plugin()  # as an entry point names it


# --- A world --------------------------------------------------------------------------------------


@attrs.frozen
class Said:
    code: int
    out: str
    err: str


@attrs.define
class World:
    """A database, an office, a configuration; every byte that was said."""

    dsn: str
    office: TokenOffice
    folder: Path
    capsys: pytest.CaptureFixture[str]
    base_url: str = "http://127.0.0.1:9"
    keys: list[Secret] = attrs.field(factory=lambda: [new_key()])
    token_until: str = ""  # of the last account's settings
    events: list[Event] = attrs.field(factory=list)
    said: list[str] = attrs.field(factory=list)

    def text(self) -> str:
        accounts = [f'[[connectors.stamps.accounts]]\nname = "{n}"\n' for n in self.office.numbers]
        if self.token_until:
            accounts.append(f'token_until = "{self.token_until}"\n')
        keys = json.dumps([key.reveal() for key in self.keys])
        return (
            f"[database]\nurl = '''{self.dsn}'''\npool_max = 4\n[vault]\nkeys = {keys}\n"
            f'[connectors.stamps]\nbase_url = "{self.base_url}"\n{"".join(accounts)}'
            '[jobs.stamps]\nconnector = "stamps"\nmode = "full"\nconcurrency = 8\n'
        )

    def config(self) -> Config:
        raw = parse(self.text(), file="syncd.toml", folder=self.folder)
        return structure(raw, {"stamps": CONNECTOR}, environment={})

    async def run(self) -> dict[str, Result]:
        """Run the job; answer with what came of each account."""
        self.events.clear()
        log, config = io.StringIO(), self.config()
        observer = Observer(stream=log, level="debug")
        observer.listen(self.events.append)

        async def main(process: Process) -> list[Result]:
            return await run_job(process, config.jobs["stamps"], mode="full", wait_seconds=5.0)

        results = await Root(config, Plugins({"stamps": PLUGIN}), observer).run(main)
        assert observer.flush()
        self.said += [log.getvalue(), repr(self.events), repr(results)]
        return {each.partition: each for each in results}

    def syncd(self, *words: str) -> Said:
        """Type a command."""
        file = self.folder / "syncd.toml"
        file.write_text(self.text())
        self.capsys.readouterr()
        code = invoke(["-c", str(file), *words])
        found = self.capsys.readouterr()
        self.said += [found.out, found.err]
        assert "Traceback" not in found.err
        return Said(code, found.out, found.err)

    def bring(self, text: str | bytes, *words: str) -> Said:
        """Import a file."""
        file = self.folder / "stores.csv"
        file.write_bytes(text.encode() if isinstance(text, str) else text)
        return self.syncd("credentials", "import", "stamps", str(file), *words)

    def rows(self, query: str) -> list[dict[str, Any]]:
        with psycopg.connect(self.dsn, row_factory=dict_row, autocommit=True) as connection:
            return connection.execute(query.encode()).fetchall()

    def told(self, kind: type[Event]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    def everything(self) -> str:
        """Return all that was said, and all tables as text."""
        names = self.rows(
            "SELECT format('%I.%I', schemaname, tablename) AS name FROM pg_tables"
            " WHERE schemaname IN ('syncd', 'stamps')"
        )
        tables = [repr(self.rows(f"SELECT t::text AS row FROM {n['name']} t")) for n in names]
        return "\n".join([*self.said, *tables])
