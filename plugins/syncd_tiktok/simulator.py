"""A stand-in for TikTok's Display API v2, served over real HTTP.

It keeps to what public sources tell of that API: users and videos behind tokens of OAuth, errors in
bodies, a sliding limit for each endpoint. Beyond that it moves, and misbehaves where a test tells
it to. What it answers is decided by `simulator_answers.TikTok`. It may be a
process of its own:

    python -m syncd_tiktok.simulator --port 0 --stores 300 --videos 500 --restless
"""

from __future__ import annotations

from syncd.testing import Application, Call, Reply
from syncd_tiktok.simulator_answers import SCOPES, Asked, TikTok
from syncd_tiktok.simulator_stores import Store, Video
from syncd_tiktok.simulator_tokens import Grant, Tokens

__all__ = ["SCOPES", "Asked", "Call", "Grant", "Reply", "Simulator", "Store", "TikTok", "Tokens",
           "Video"]  # fmt: skip

PREFIX = "/v2"  # of all paths, as behind the real host


class Simulator(Application):
    """An ASGI application that answers for the upstream below `/v2`."""

    def __init__(self, upstream: TikTok) -> None:
        super().__init__(upstream, prefix=PREFIX)
        self.upstream = upstream


if __name__ == "__main__":
    from syncd_tiktok.simulator_serving import main

    main()
