"""Laws of the simulated TikTok, and of the connector's hooks over it: one request at a time."""

from __future__ import annotations

import csv
import io
import subprocess
import sys
import urllib.request
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any, cast
from urllib.parse import urlencode

import attrs
import msgspec
import pytest
import trio

from syncd import (
    Account,
    Context,
    Instance,
    Partition,
    Request,
    Secret,
    SlidingWindow,
    Unauthorized,
)
from syncd.cli.credential_rows import read_rows
from syncd.config import parse, structure
from syncd.events import Event
from syncd.http import Client, Limiters
from syncd.plugins import Plugins
from syncd.testing import serve
from syncd_tiktok import plugin
from syncd_tiktok.plugin import CONNECTOR, AccountSettings, Settings
from syncd_tiktok.simulator import SCOPES, Call, Reply, Simulator, TikTok
from syncd_tiktok.simulator_answers import OAUTH_TOKEN, USER_INFO, VIDEO_LIST
from syncd_tiktok.simulator_tokens import Regime

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


@attrs.define
class Bench:
    """An upstream of one store whose clock a test moves."""

    options: dict[str, Any] = attrs.field(factory=dict)
    at: datetime = NOON
    upstream: TikTok = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        videos = self.options.pop("videos", 45)
        self.upstream = TikTok({"store-1": videos}, now=lambda: self.at, **self.options)
        self.upstream.permit("store-1")

    def users(self, fields: str = "open_id,follower_count", token: str = "act.store-1") -> Reply:
        headers = {"authorization": f"Bearer {token}"}
        return self.upstream.answer(Call("GET", USER_INFO, {"fields": fields}, headers))

    def videos(self, fields: str = "id,create_time,like_count", **body: int) -> Reply:
        headers = {"authorization": "Bearer act.store-1"}
        content = msgspec.json.encode(body)
        return self.upstream.answer(Call("POST", VIDEO_LIST, {"fields": fields}, headers, content))

    def trade(self, refresh_token: str, **changed: str) -> Reply:
        form = {
            "client_key": "client-key",
            "client_secret": "client-secret",
            "grant_type": "refresh_token",
            "refresh_token": refresh_token,
        }
        headers = {"content-type": "application/x-www-form-urlencoded"}
        body = urlencode(form | changed).encode()
        return self.upstream.answer(Call("POST", OAUTH_TOKEN, {}, headers, body))

    def walk(self, count: int = 20) -> list[Any]:
        """Walk all pages by the cursors that they name."""
        pages = [self.videos(max_count=count).json["data"]]
        while pages[-1]["has_more"]:
            pages.append(self.videos(max_count=count, cursor=pages[-1]["cursor"]).json["data"])
        return pages


def code(reply: Reply) -> tuple[int, str]:
    return reply.status, reply.json["error"]["code"]


# --- The upstream ---------------------------------------------------------------------------------


def test_pages_hold_the_newest_first_and_only_has_more_ends_them() -> None:
    bench = Bench({"cursors_in": "milliseconds"})
    bench.upstream.stores["store-1"].videos[10].hidden = True
    pages = bench.walk()

    times = [video["create_time"] for page in pages for video in page["videos"]]
    assert [len(page["videos"]) for page in pages] == [20, 19, 5]
    assert times == sorted(times, reverse=True)
    assert all(isinstance(v["id"], str) for page in pages for v in page["videos"])


def test_a_page_may_be_empty_while_more_follow() -> None:
    bench = Bench({"videos": 30})
    for video in bench.upstream.stores["store-1"].videos[10:]:
        video.hidden = True

    assert [(len(p["videos"]), p["has_more"]) for p in bench.walk()] == [(0, True), (10, False)]


def test_a_second_at_an_edge_is_passed_over_where_cursors_are_seconds() -> None:
    found = {}
    for unit in ("seconds", "milliseconds"):
        bench = Bench({"cursors_in": unit, "videos": 40})
        store = bench.upstream.stores["store-1"]
        edge = store.videos[-20]
        store.publish(edge.created_ms // 1000 * 1000)
        found[unit] = len({v["id"] for page in bench.walk() for v in page["videos"]})

    assert found == {"seconds": 40, "milliseconds": 41}


def test_a_restless_store_moves_between_pages_and_is_the_same_for_one_seed() -> None:
    walks = [Bench({"restless": True, "videos": 200, "seed": seed}).walk() for seed in (3, 3, 4)]

    assert walks[0] == walks[1] != walks[2]
    bench = Bench({"restless": True, "videos": 200})
    before = bench.upstream.truth()
    bench.walk()
    assert before - bench.upstream.truth()
    assert bench.upstream.truth() - before


@pytest.mark.parametrize("always_200", [False, True])
def test_each_gate_says_what_is_wrong(always_200: bool) -> None:
    app = ["user.info.basic", "user.info.stats", "video.list"]
    bench = Bench({"always_200": always_200, "app": app})
    bench.upstream.permit("store-1", ("user.info.basic", "video.list"))

    def said(reply: Reply) -> tuple[int, str]:
        return code(reply)

    expected = {
        (401, "access_token_invalid"): bench.users(token="act.other"),
        (400, "invalid_params"): bench.users("open_id,shoe_size"),
        (401, "scope_not_authorized"): bench.users("open_id,follower_count"),
        (401, "scope_permission_missed"): bench.users("open_id,username"),
    }
    for (status, name), reply in expected.items():
        assert said(reply) == (200 if always_200 else status, name)
    assert said(bench.users("")) == said(expected[400, "invalid_params"])
    assert said(bench.videos(max_count=21)) == said(expected[400, "invalid_params"])
    assert code(bench.videos(max_count=20)) == (200, "ok")
    assert len(bench.videos().json["data"]["videos"]) == 10, "which is the default"


def test_a_window_slides_and_each_endpoint_has_its_own() -> None:
    bench = Bench({"limit": (3, 60.0)})
    codes = []
    for seconds in (0, 30, 59):
        bench.at = NOON + timedelta(seconds=seconds)
        codes.append(code(bench.users())[0])
    assert codes == [200, 200, 200]
    assert code(bench.users()) == (429, "rate_limit_exceeded")
    assert code(bench.videos()) == (200, "ok")
    bench.at = NOON + timedelta(seconds=60)
    assert code(bench.users())[0] == 200
    assert code(bench.users())[0] == 429


@pytest.mark.parametrize(("regime", "hours", "rotates"), [("2h", 2, True), ("24h", 24, False)])
def test_tokens_live_as_long_as_told_and_a_rotated_one_is_dead(
    regime: Regime, hours: int, rotates: bool
) -> None:
    bench = Bench({"regime": regime})
    grant = bench.upstream.tokens.grant("store-1", tuple(SCOPES))
    assert code(bench.users(token=grant.access_token)) == (200, "ok")
    bench.at += timedelta(hours=hours)
    assert code(bench.users(token=grant.access_token)) == (401, "access_token_invalid")

    pair = bench.trade(grant.refresh_token).json
    assert pair["expires_in"] == hours * 3600
    assert (pair["refresh_token"] != grant.refresh_token) == rotates
    assert code(bench.users(token=pair["access_token"])) == (200, "ok")

    again = bench.trade(grant.refresh_token)
    assert ("error" in again.json) == rotates
    assert bench.upstream.tokens.reused == rotates


def test_what_is_wrong_with_a_refresh_is_said_flat() -> None:
    bench = Bench({"oauth_status": 200})
    refresh_token = bench.upstream.tokens.grant("store-1", tuple(SCOPES)).refresh_token

    def said(reply: Reply) -> tuple[int, str]:
        return reply.status, reply.json["error"]

    assert said(bench.trade("rft.other")) == (200, "invalid_grant")
    assert said(bench.trade(refresh_token, client_secret="x")) == (200, "invalid_client")
    assert said(bench.trade(refresh_token, grant_type="x")) == (200, "unsupported_grant_type")
    bench.upstream.tokens.revoke("store-1")
    assert said(bench.trade(refresh_token)) == (200, "invalid_grant")
    as_json = Call("POST", OAUTH_TOKEN, {}, {"content-type": "application/json"}, b"{}")
    assert said(bench.upstream.answer(as_json)) == (200, "invalid_request")


# --- The connector --------------------------------------------------------------------------------


def instance_of(settings: Settings | None = None) -> Instance[Settings]:
    accounts = (Account("store-1", AccountSettings()),)
    return Instance("tiktok", CONNECTOR, settings or Settings(), accounts)


def test_the_plugin_binds_both_of_its_feeds_and_answers_for_no_other() -> None:
    plugins, instance = Plugins({"tiktok": plugin}), instance_of()

    users, videos = (plugins.pipeline(instance, feed) for feed in CONNECTOR.feeds)
    assert list(users.transforms) == ["user_daily"]
    assert list(videos.transforms) == ["videos", "video_daily"]
    assert plugins.check(instance) is not None
    assert plugins.refresh(instance) is not None
    other = attrs.evolve(instance, connector=attrs.evolve(CONNECTOR, name="others"))
    for hook in (plugin.begin, plugin.fetch):
        assert hook(other, CONNECTOR.feeds[0]) is None
    assert plugin.transform(other, plugin.USERS) is None
    assert plugin.check(other) is None
    assert plugin.refresh(other) is None


def test_limits_are_the_apps_unless_an_operator_knows_better() -> None:
    for limit, per in (("app", "instance"), ("store", "account")):
        settings = Settings(limit_per=cast("Any", limit))
        users, videos, _ = plugin.upstream(settings, AccountSettings()).quotas
        assert users.windows == videos.windows == (SlidingWindow(600, per_seconds=60),)
        assert (users.concurrency, videos.concurrency) == (30, 20)
        assert (users.per, videos.per) == (per, per)


def test_a_token_of_the_configuration_takes_the_vaults_place() -> None:
    own = plugin.upstream(Settings(), AccountSettings(access_token=Secret("act.mine")))
    vaults = plugin.upstream(Settings(), AccountSettings())

    assert own.authorize is None
    assert own.headers["authorization"] == Secret("Bearer act.mine")
    assert vaults.authorize is not None
    assert "authorization" not in vaults.headers
    assert "act.mine" not in repr(own)


@pytest.mark.parametrize("cls", [Settings, AccountSettings])
@pytest.mark.parametrize("zone", ["Asia", "Mars/Olympus", "../etc/passwd"])
def test_a_zone_that_is_none_is_refused(cls: Any, zone: str) -> None:
    with pytest.raises(ValueError, match="wanted a time zone"):
        cls(timezone=zone)


async def asked_who(upstream: TikTok, scopes: Sequence[str] | None = None) -> str:
    """Put the question of `syncd check` to a served upstream."""
    with trio.fail_after(60):
        async with serve(Simulator(upstream)) as base_url:
            settings = Settings(base_url=f"{base_url}/v2", scopes=tuple(scopes or SCOPES))
            account = Account("store-1", AccountSettings(access_token=Secret("act.store-1")))
            events: list[Event] = []
            client = Client(
                "tiktok[store-1]",
                plugin.upstream(settings, account.settings),
                limiters=Limiters(random=Random(0)),
                emit=events.append,
                clock=lambda: NOON,
                random=Random(0),
            )
            where = Partition("tiktok", "store-1", "users")
            request = Request("full", None, NOON)
            async with client:
                http = client.for_fetch()
                return await plugin.whose(Context(http, account, settings, None, where, request))


async def test_a_check_says_whose_account_it_is() -> None:
    upstream = TikTok({"store-1": 1}, now=lambda: NOON)
    upstream.permit("store-1")
    open_id = upstream.stores["store-1"].open_id

    said = await asked_who(upstream)
    assert said == f"the token is accepted: Toko store-1 (open_id {open_id}); nobody renews it"

    upstream.tokens.revoke("store-1")
    with pytest.raises(Unauthorized, match="access token is refused"):
        await asked_who(upstream)


def test_the_simulator_is_a_program_that_says_how_to_ask_it_and_ends_with_its_parent() -> None:
    command = [sys.executable, "-m", "syncd_tiktok.simulator", "--stores", "2", "--videos", "20"]
    with subprocess.Popen(
        [*command, "--exit-with-parent"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        said = msgspec.json.decode(process.stdout.readline())
        raw = parse(said["configuration"], file="said.toml", folder=Path.cwd())
        config = structure(raw, {"tiktok": CONNECTOR}, environment={})
        settings = config.instances["tiktok"].settings
        token = said["credentials"][1]["access_token"]
        request = urllib.request.Request(
            f"{settings.base_url}/user/info/?fields=open_id,video_count",
            headers={"authorization": f"Bearer {token}"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            user = msgspec.json.decode(answer.read())["data"]["user"]
        process.stdin.write(b"change 0.1\n")
        process.stdin.flush()
        changed = msgspec.json.decode(process.stdout.readline())
        process.stdin.close()
        assert process.wait(timeout=30) == 0

    assert user == {"open_id": said["credentials"][1]["open_id"], "video_count": 20}
    assert changed == {"changed": 4}
    assert [each.name for each in config.instances["tiktok"].accounts] == ["store-001", "store-002"]
    assert config.jobs["tiktok-videos"].after == ("tiktok-users",)
    rows = io.StringIO()
    writer = csv.DictWriter(rows, list(said["credentials"][0]))
    writer.writeheader()
    writer.writerows(said["credentials"])
    read = read_rows(rows.getvalue().encode(), known={"store-001", "store-002"})
    assert not read.problems
    assert set(read.credentials["store-001"].details) == {"open_id", "scope"}
