"""What a simulator sends by itself: webhooks."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol, TypeVar

import attrs
import httpx

POST_SECONDS = 10.0  # for one message: senders of events wait about as long


class Message(Protocol):
    """A request that is to be sent by POST."""

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        """Its header fields."""

    @property
    def body(self) -> bytes:
        """Its body."""


M = TypeVar("M", bound=Message)


@attrs.frozen
class Posted:
    """How many webhooks were sent, and how many of them count as heard."""

    posted: int = 0
    heard: int = 0


async def post_all(
    url: str, messages: Iterable[M], *, answered: Callable[[M, int, bytes], bool]
) -> Posted:
    """Post messages one after the other; `answered` takes status and body, and says who was heard.

    One that gets no answer is not heard.
    """
    posted = heard = 0
    async with httpx.AsyncClient(timeout=POST_SECONDS) as client:
        for message in messages:
            posted += 1
            try:
                answer = await client.post(url, headers=[*message.headers], content=message.body)
            except httpx.HTTPError:
                continue
            heard += answered(message, answer.status_code, answer.content)
    return Posted(posted, heard)
