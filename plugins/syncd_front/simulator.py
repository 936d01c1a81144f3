"""A stand-in for Front's Core API and for a language model's endpoint, served over real HTTP.

It keeps to what public sources tell of them. What it answers is decided by
`simulator_answers.Front` and `simulator_llm.Model`. It may be a process of its own, which answers
for Front below `/front` and for the model below `/v1`:

    python -m syncd_front.simulator --port 0 --conversations 700
"""

from __future__ import annotations

from urllib.parse import parse_qsl

from starlette.types import Receive, Scope, Send

from syncd.testing import Reply, body_of, headers_of, live, send_reply
from syncd_front.simulator_answers import Asked, Call, Front
from syncd_front.simulator_llm import Model
from syncd_front.simulator_mail import Company

__all__ = ["Asked", "Call", "Company", "Front", "Model", "Reply", "Simulator"]

FRONT = "/front"
LLM = "/v1"


class Simulator:
    """An ASGI application that answers for Front and, where there is one, for a model."""

    def __init__(self, front: Front, model: Model | None = None) -> None:
        self.front = front
        self.model = model

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request (ASGI)."""
        if scope["type"] == "lifespan":
            await live(receive, send)
        elif scope["type"] == "http":
            path = scope["raw_path"].decode("ascii", "replace").partition("?")[0]
            asked = scope["query_string"].decode("ascii", "replace")
            query = parse_qsl(asked, keep_blank_values=True)
            call = Call(scope["method"], path, query, headers_of(scope), await body_of(receive))
            await send_reply(self._reply(call), send)

    def _reply(self, call: Call) -> Reply:
        if self.model is not None and call.path.startswith(LLM):
            return self.model.answer(_below(LLM, call))
        return self.front.answer(_below(FRONT, call))


def _below(prefix: str, call: Call) -> Call:
    path = call.path.removeprefix(prefix)
    return Call(call.method, path, call.query, call.headers, call.body)


if __name__ == "__main__":
    from syncd_front.simulator_serving import main

    main()
