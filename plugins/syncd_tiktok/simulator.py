"""A stand-in for TikTok's Display API v2, served over real HTTP.

It keeps to what public sources tell of that API: users and videos behind tokens of OAuth, errors in
bodies, a sliding limit for each endpoint. Beyond that it moves, and misbehaves where a test tells
it to. What it answers is decided by `simulator_answers.TikTok`. It may be a
process of its own:

    python -m syncd_tiktok.simulator --port 0 --stores 300 --videos 500 --restless
"""

from __future__ import annotations

from urllib.parse import parse_qsl

from starlette.types import Receive, Scope, Send

from syncd.testing import body_of, live
from syncd_tiktok.simulator_answers import SCOPES, Asked, Call, Reply, TikTok
from syncd_tiktok.simulator_stores import Store, Video
from syncd_tiktok.simulator_tokens import Grant, Tokens

__all__ = ["SCOPES", "Asked", "Call", "Grant", "Reply", "Simulator", "Store", "TikTok", "Tokens",
           "Video"]  # fmt: skip

PREFIX = "/v2"  # of all paths, as behind the real host


class Simulator:
    """An ASGI application that answers for the upstream below `/v2`."""

    def __init__(self, upstream: TikTok) -> None:
        self.upstream = upstream

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request (ASGI)."""
        if scope["type"] == "lifespan":
            await live(receive, send)
            return
        if scope["type"] != "http":
            return
        headers = {name.decode("latin-1"): value.decode("latin-1")
                   for name, value in scope["headers"]}  # fmt: skip
        query = parse_qsl(scope["query_string"].decode("ascii", "replace"), keep_blank_values=True)
        call = Call(
            method=scope["method"],
            path=scope["path"].removeprefix(PREFIX),
            query=dict(query),
            headers=headers,
            body=await body_of(receive),
        )
        await _send(self.upstream.answer(call), send)


async def _send(reply: Reply, send: Send) -> None:
    fields = {**reply.headers, "content-length": str(len(reply.body))}
    headers = [(name.encode(), value.encode()) for name, value in fields.items()]
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": reply.body})


if __name__ == "__main__":
    from syncd_tiktok.simulator_serving import main

    main()
