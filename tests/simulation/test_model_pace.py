"""How an endpoint's limit of tokens is kept, which tells nothing of it and gives nothing back."""

from __future__ import annotations

import attrs
from inline import now
from scenarios import Scenario, play
from stages import Stage, week_of_mail
from stand_ins.front import Upstream

from syncd_front.simulator import Model

TOKENS = 20_000  # a minute


def starved_mail(model: Model) -> Stage:
    """The week of mail, whose model counts what it is asked for, be it used or not."""
    mail = week_of_mail(small=True)
    upstream: Upstream = mail.upstream
    upstream.model = model
    tables = mail.configuration.replace(f"tokens = {10**9}", f"tokens = {TOKENS}")
    assert tables != mail.configuration
    return attrs.evolve(mail, configuration=tables, reach=float("inf"), seconds=7200.0)


def test_a_strict_limit_of_tokens_that_nobody_tells_of_refuses_nothing(worlds: str) -> None:
    model = Model(now=now, tokens=TOKENS, tells_limits=False)
    reached = play(Scenario("", "", lambda _: starved_mail(model)), worlds, small=True)

    assert reached.misses == []
    assert model.refused == 0
    assert set(model.asked.values()) == {1}
    assert model.reserved / reached.seconds * 60.0 >= 0.8 * TOKENS
