"""TikTok's simulator behind the network in memory; a judge counts the calls of each endpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from inline import now
from judge import Allowed, Judge
from transport import Answer, Asked

from syncd.testing import Call
from syncd_tiktok.simulator_answers import USER_INFO, TikTok
from syncd_tiktok.simulator_stores import CursorsIn

HOST = "open.tiktokapis.test"
PREFIX = "/v2"
UNLIMITED = 10**9  # calls of a window, for the connector

TRUTH = """
    SELECT account_id, video_id, create_time, title, like_count
    FROM tiktok.videos JOIN tiktok.video_daily USING (account_id, video_id)
    WHERE snapshot_date = (SELECT max(snapshot_date) FROM tiktok.video_daily)
"""


class Stores:
    """The upstream of a world: TikTok with these stores and how many videos each has."""

    def __init__(
        self,
        stores: Mapping[str, int],
        *,
        allowed: Allowed | None = None,
        cursors_in: CursorsIn = "milliseconds",
        user_seconds: float = 0.0,
        video_seconds: float = 0.0,
    ) -> None:
        self.tiktok = TikTok(stores, now=now, cursors_in=cursors_in)
        for name in stores:
            self.tiktok.permit(name)
        keys = ("user_info", "video_list")
        self.judges: Mapping[str, Judge] = {key: Judge(key, allowed) for key in keys}
        self._seconds = {"user_info": user_seconds, "video_list": video_seconds}

    @property
    def stores(self) -> Mapping[str, Any]:
        return self.tiktok.stores

    def judge_of(self, asked: Asked) -> Judge:
        return self.judges["user_info" if asked.path.endswith(USER_INFO) else "video_list"]

    def answer(self, asked: Asked) -> Answer:
        path = asked.path.removeprefix(PREFIX)
        call = Call(asked.method, path, asked.query, asked.headers, asked.body)
        judge = self.judge_of(asked)
        if not judge.arrives(asked.at, sender=asked.sender, left_at=asked.left_at):
            reply, seconds = self.tiktok.refuse(call), 0.0
        else:
            reply, seconds = self.tiktok.answer(call), self._seconds[judge.key]
        return Answer(reply.status, reply.body, reply.headers, seconds)

    def twin(self) -> None:
        """Give each store of several pages a second video of one second at a page's edge."""
        for store in self.stores.values():
            if len(store.videos) > 20:
                store.publish(store.videos[-20].created_ms)

    def change(self, random: Any) -> None:
        """Let some counts move, and a new video appear somewhere."""
        for store in self.stores.values():
            store.move(random, share=0.3)
        random.choice(list(self.stores.values())).publish()

    def truth(self) -> set[tuple[Any, ...]]:
        """Return what is true: account, id, time, title, likes."""
        return {
            (
                store.name,
                video.id,
                datetime.fromtimestamp(video.create_time, UTC),
                video.title,
                video.likes,
            )
            for store in self.stores.values()
            for video in store.shown
        }


def configuration(
    accounts: Sequence[str], *, calls: int, at_once: int, per_seconds: float = 60.0
) -> str:
    """Write the connector's tables; `calls` of each endpoint in a window, 0: there is no limit."""
    lines = [f'[connectors.tiktok]\nbase_url = "https://{HOST}{PREFIX}"']
    lines += [
        f"[connectors.tiktok.quotas.{key}]\nrequests = {calls or UNLIMITED}\n"
        f'per = "{per_seconds:g}s"\nconcurrency = {at_once}'
        for key in ("user_info", "video_list")
    ]
    return "\n".join([*lines, *map(account, accounts)])


def account(name: str) -> str:
    return f'[[connectors.tiktok.accounts]]\nname = "{name}"\naccess_token = "act.{name}"'
