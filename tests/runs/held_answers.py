"""An upstream whose answers are held back while a test wants it: what was asked has been done."""

from __future__ import annotations

from typing import Any

import attrs
import trio


@attrs.define
class HeldAnswers:
    """An ASGI application around another; `held` counts answers that waited, or wait.

    `path`: only answers to what is asked there.
    """

    application: Any
    path: str = "/"
    held: int = 0
    _passing: int = 0
    _open: trio.Event = attrs.field(factory=trio.Event)

    def __attrs_post_init__(self) -> None:
        self._open.set()

    def hold(self, *, after: int = 0) -> None:
        """Hold back every answer from now on, after so many that still pass."""
        self._open, self._passing = trio.Event(), after

    def release(self) -> None:
        self._open.set()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request (ASGI)."""
        is_meant = scope["type"] == "http" and scope["path"].startswith(self.path)

        async def later(message: Any) -> None:
            if is_meant and message["type"] == "http.response.start":
                await self._pass()
            await send(message)

        await self.application(scope, receive, later)

    async def _pass(self) -> None:
        if self._passing:
            self._passing -= 1
        elif not self._open.is_set():
            self.held += 1
            await self._open.wait()
