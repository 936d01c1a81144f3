"""An operator narrows or replaces a quota; what cannot be meant is refused with what can."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest

from syncd.cli import findings
from syncd.config import Config, parse, structure
from syncd.errors import InvalidConfig
from syncd.model import (
    Adaptive,
    Connector,
    Feed,
    FixedWindow,
    Quota,
    SlidingWindow,
    Stream,
    TokenBucket,
    Upstream,
)

DECLARED = (
    Quota("list", FixedWindow(150, 30.0), concurrency=4),
    Quota("pace", TokenBucket(1, 1.0, burst=2)),
    Quota("model", (SlidingWindow(500, 60.0), SlidingWindow(200_000, 60.0, unit="tokens"))),
    Quota("open", adaptive=Adaptive(rate_start=5.0)),
)


@attrs.frozen
class Settings:
    pass


@attrs.frozen
class Item:
    id: int


SHOP = Connector(
    "shop",
    "1.0.0",
    settings=Settings,
    feeds=(Feed("items", streams=(Stream("items", record=Item, key=("id",)),), quota="list"),),
    upstream=lambda _, __: Upstream("https://shop.test", DECLARED),
)


def config(text: str) -> Config:
    raw = parse(f"[connectors.shop]\n{text}", file="syncd.toml", folder=Path())
    return structure(raw, {"shop": SHOP}, environment={})


def kept(text: str) -> dict[str, Quota]:
    instance = config(text).instances["shop"]
    return {quota.key: quota for quota in instance.upstream(instance.accounts[0]).quotas}


@pytest.mark.parametrize(
    ("text", "key", "quota"),
    [
        (
            "[connectors.shop.quotas.list]\nrequests = 100",
            "list",
            Quota("list", FixedWindow(100, 30.0), concurrency=4),
        ),
        (
            'quotas.list = {requests = 300, per = "1m", form = "sliding", concurrency = 2}',
            "list",
            Quota("list", SlidingWindow(300, 60.0), concurrency=2),
        ),
        (
            '[connectors.shop.quotas.pace]\nrequests = 3\nper = "2s"',
            "pace",
            Quota("pace", TokenBucket(3, 2.0, burst=2)),
        ),
        (
            "[connectors.shop.quotas.model]\ntokens = 90000",
            "model",
            Quota("model", (SlidingWindow(90_000, 60.0, unit="tokens"), SlidingWindow(500, 60.0))),
        ),
        (
            '[connectors.shop.quotas.open]\nadaptive = false\nrequests = 5\nper = "1s"',
            "open",
            Quota("open", SlidingWindow(5, 1.0)),
        ),
        ("[connectors.shop.quotas.list]\nadaptive = true", "list",
         Quota("list", FixedWindow(150, 30.0), concurrency=4, adaptive=Adaptive())),
    ],
)  # fmt: skip
def test_what_is_said_replaces_what_is_declared_and_the_rest_stays(
    text: str, key: str, quota: Quota
) -> None:
    quotas = kept(text)

    assert quotas.pop(key) == quota
    assert list(quotas.values()) == [each for each in DECLARED if each.key != key]


@pytest.mark.parametrize(
    ("text", "key", "said"),
    [
        ("quotas.lisst.requests = 3", "quotas.lisst", "did you mean 'list'?"),
        ("quotas.zzz.requests = 3", "quotas.zzz", "known: list, model, open, pace"),
        ("quotas.list.zzz = 3", "quotas.list.zzz", "known: requests, tokens, per, form"),
        ("quotas.list.requests = 0", "quotas.list.requests", "wanted 1 to"),
        ("quotas.list.tokens = 9", "quotas.list.tokens", "does not say what requests cost"),
        ("quotas.open.requests = 9", "quotas.open.per", "missing"),
        ('quotas.list.per = "1m"', "quotas.list", "wanted requests or tokens beside"),
        ("quotas.list = 3", "quotas.list", "wanted a table"),
        ("quotas = 3", "quotas", "wanted"),
        ("quotas.list = {requests = 3, burst = 2}", "quotas.list.burst", "only a bucket has one"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_its_key(text: str, key: str, said: str) -> None:
    with pytest.raises(InvalidConfig) as caught:
        config(text)

    (problem,) = caught.value.problems
    assert problem.key == f"connectors.shop.{key}"
    assert said in problem.what


def test_check_says_what_is_kept_to() -> None:
    found = findings.quotas(config('quotas.list = {requests = 300, per = "1m"}'))

    assert [(each.what, each.said) for each in found] == [
        ("quota shop.list", "300 requests in each 1m00s, 4 at once (configured)")
    ]
