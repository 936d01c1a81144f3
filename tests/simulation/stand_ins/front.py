"""The simulators of Front and of a model, answering in virtual time, and a judge before each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs
from inline import BEGAN_AT, now
from judge import Allowed, Judge
from transport import Answer, Asked

from syncd_front.simulator import Call, Company, Front, Model

HOST = "api2.front.test"
MODEL_HOST = "model.test"


class Upstream:
    """A week of mail; with `asks`, a model extracts, which answers as soon as Front does."""

    def __init__(self, conversations: int, *, allowed: Allowed | None) -> None:
        self.company = Company("acme", conversations, newest=BEGAN_AT.timestamp() - 60)
        self.front = Front(self.company, now=now)
        self.model = Model(now=now)
        self.judge = Judge("core", allowed)
        self.judges: Mapping[str, Judge] = {"core": self.judge, "llm": Judge("llm", None)}

    def judge_of(self, asked: Asked) -> Judge:
        return self.judges["llm" if asked.host == MODEL_HOST else "core"]

    def answer(self, asked: Asked) -> Answer:
        path = asked.path
        call = Call(asked.method, path, tuple(asked.query.items()), asked.headers, asked.body)
        at_model = asked.host == MODEL_HOST
        if not self.judge_of(asked).arrives(asked.at, sender=asked.sender, left_at=asked.left_at):
            reply = self.front.refuse(call)
        elif at_model:
            reply = self.model.answer(attrs.evolve(call, path=path.removeprefix("/v1")))
        else:
            reply = self.front.answer(call)
        return Answer(reply.status, reply.body, reply.headers, reply.seconds)


def limits(*, calls: int, per_seconds: float) -> str:
    """Write what Front and a model take of one daemon, each, in a window of seconds."""
    return "".join(
        f'[connectors.front.quotas.{key}]\nrequests = {calls}\n{more}per = "{per_seconds:g}s"\n'
        for key, more in (("core", ""), ("llm", f"tokens = {10**9}\n"))
    )


def configuration(
    *, calls: int, asks: bool, tracks: bool = False, companies: Sequence[str] = ("acme",)
) -> str:
    """Write the connector's tables; `calls` a minute, 0: there is no limit."""
    model = f'llm_base_url = "https://{MODEL_HOST}/v1"\nllm_api_key = "sk-demo"\n' if asks else ""
    unlimited = "".join(
        f'[connectors.front.quotas.{key}]\nrequests = {10**9}\n{more}per = "60s"\n'
        for key, more in (("core", ""), ("llm", f"tokens = {10**9}\n"))[: 1 + asks]
    )
    return (
        f'[connectors.front]\nbase_url = "https://{HOST}"\n{model}'
        f"{'register_trackers = true' if tracks else ''}\n"
        f"{'' if calls else unlimited}"
        f"{''.join(map(_account, companies))}"
    )


def token_of(company: str) -> str:
    return "front-token" if company == "acme" else f"front-token-of-{company}"


def _account(company: str) -> str:
    return (
        f'[[connectors.front.accounts]]\nname = "{company}"\ntoken = "{token_of(company)}"\n'
        'plan = "professional"\n'
    )
