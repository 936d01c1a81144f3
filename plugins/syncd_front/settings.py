"""What an operator says of a Front connector, and how its upstreams are talked to by that."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal
from urllib.parse import urlsplit

import attrs

from syncd import Duration, Quota, Response, Secret, SlidingWindow, SourceError, Upstream
from syncd_front import llm

CORE_QUOTA = "core"
LLM_QUOTA = "llm"
SEARCHES = "searches"

# dev.frontapp.com, "Rate limiting": calls a minute of a company, all of its tokens together; 40 %
# of them may be searches. Half as many again, over ten minutes, are left to others, or used as far
# as answers tell what is left of them. How the fields that tell it are named is not documented.
PLANS = {"starter": 50, "professional": 100, "enterprise": 200}
SEARCH_SHARE = 0.4

# The same page says that Retry-After is in seconds; milliseconds were seen. No window of a company
# is longer than a minute, so that who waits for two has waited enough.
LOCK_MAX_SECONDS = 120.0

_PORTS = {"http": ":80", "https": ":443"}  # which an origin does not name

IN_FLIGHT = 150  # a ceiling: the quota decides

_above_zero = attrs.validators.ge(1)


@attrs.frozen
class Settings:
    """What `[connectors.NAME]` may hold."""

    base_url: str = attrs.field(
        default="https://api2.frontapp.com", metadata={"about": "where Front's Core API is"}
    )
    next_origins: tuple[str, ...] = attrs.field(
        default=(),
        metadata={
            "about": "origins of next links that are followed with the token, as "
            "https://acme.api.frontapp.com; of others only the page's token is taken"
        },
    )
    history_seconds: Duration = attrs.field(
        default=30 * 86400.0,
        validator=attrs.validators.ge(0.0),
        metadata={"about": "how far back a full pass looks; 0s: at everything"},
    )
    overlap_seconds: Duration = attrs.field(
        default=600.0,
        validator=attrs.validators.ge(0.0),
        metadata={"about": "how far an incremental pass reaches back before the last one"},
    )
    confidence_least: float = attrs.field(
        default=0.7,
        validator=[attrs.validators.ge(0.0), attrs.validators.le(1.0)],
        metadata={
            "about": "how sure a model must be of a shipment, from now on: a change of it asks "
            "about nothing again, and what was found stays"
        },
    )
    register_trackers: bool = attrs.field(
        default=False,
        metadata={
            "about": "have each shipment tracked (effect ship24.register_tracker); a change of it "
            "asks a model about all mail of the history again, and so tracks what was found before"
        },
    )
    prefilter: bool = attrs.field(
        default=True,
        metadata={
            "about": "ask a model only about threads with a word of shipping or what may be a "
            "tracking number; false: about every thread; a change of it asks about all mail again"
        },
    )
    llm_base_url: str = attrs.field(
        default=llm.OPENAI,
        metadata={"about": "where a model is asked: any endpoint that speaks Chat Completions"},
    )
    llm_model: str = attrs.field(
        default="gpt-4o-mini",
        metadata={"about": "which model is asked; another one is asked about all mail again"},
    )
    llm_api_key: Secret | None = attrs.field(
        default=None,
        metadata={
            "about": "the endpoint's key; without it, and without an endpoint of your own, "
            "shipments are found by carriers' check digits, and no model is asked"
        },
    )
    llm_requests_per_minute: int = attrs.field(
        default=500, validator=_above_zero, metadata={"about": "as your tier allows"}
    )
    llm_tokens_per_minute: int = attrs.field(
        default=200_000, validator=_above_zero, metadata={"about": "as your tier allows"}
    )
    llm_completion_tokens: int = attrs.field(
        default=800,
        validator=_above_zero,
        metadata={"about": "of one answer; what is asked for counts, be it used or not"},
    )
    llm_timeout_seconds: Duration = attrs.field(
        default=300.0,
        validator=[attrs.validators.gt(0.0), attrs.validators.le(3600.0)],
        metadata={
            "about": "how long a model may take for one answer; a question whose answer is later "
            "may have been paid for, and is asked again with a later try of its conversation"
        },
    )
    llm_part_characters: int = attrs.field(
        default=24_000,
        validator=attrs.validators.ge(1_000),
        metadata={
            "about": "of a thread in one question; a longer one is asked about in parts; a change "
            "of it asks about all mail again"
        },
    )

    @property
    def asks_model(self) -> bool:
        """Whether a model is asked, in place of patterns alone."""
        return self.llm_api_key is not None or self.llm_base_url != llm.OPENAI

    @property
    def extractor(self) -> str:
        """Name who extracts: another one extracts everything anew."""
        return f"{self.llm_model} v{llm.PROMPT_VERSION}" if self.asks_model else "patterns"


@attrs.frozen
class Company:
    """What `[[connectors.NAME.accounts]]` may hold: a company, by one of its API tokens."""

    token: Secret = attrs.field(metadata={"about": "an API token, with leave to read"})
    plan: Literal["starter", "professional", "enterprise"] = attrs.field(
        default="starter", metadata={"about": "how many calls a minute it has: 50, 100 or 200"}
    )
    burst: bool = attrs.field(
        default=False,
        metadata={
            "about": "use the burst too, half the calls of a minute that fill up again over ten: "
            "as much as Front tells is left of it; otherwise it is left to others"
        },
    )
    inboxes: tuple[str, ...] = attrs.field(
        default=(), metadata={"about": "ids of inboxes, each a partition; none: all that is seen"}
    )
    search: str = attrs.field(
        default="", metadata={"about": "further filters of the search, as `tag:tag_x`"}
    )


def upstream(settings: Settings, company: Company) -> Upstream:
    """Say how to talk to Front for one company, and to the model beside it."""
    calls = PLANS[company.plan]
    burst: Literal["left", "announced"] = "announced" if company.burst else "left"
    searches = SlidingWindow(round(calls * SEARCH_SHARE), per_seconds=60, unit=SEARCHES)
    quotas = [
        Quota(
            CORE_QUOTA,
            (SlidingWindow(calls, per_seconds=60, burst=burst), searches),
            concurrency=IN_FLIGHT,
            per="account",
            lock_max_seconds=LOCK_MAX_SECONDS,
        )
    ]
    beside: Mapping[str, Mapping[str, str | Secret]] = {}
    if settings.asks_model:
        quotas.append(_llm_quota(settings))
        beside = {_origin(settings.llm_base_url): _llm_headers(settings.llm_api_key)}
    model = _origin(settings.llm_base_url)

    def judge(response: Response) -> SourceError | None:
        return llm.judge(response) if _origin(response.url) == model else None

    def spent(response: Response) -> Mapping[str, int]:
        return llm.spent(response) if _origin(response.url) == model else {}

    return Upstream(
        base_url=settings.base_url,
        headers={
            "accept": "application/json",
            "authorization": Secret(f"Bearer {company.token.reveal()}"),
        },
        credential_origins=settings.next_origins,
        beside=beside,
        quotas=tuple(quotas),
        judge=judge,
        spent=spent,
    )


def _llm_quota(settings: Settings) -> Quota:
    windows = (
        SlidingWindow(settings.llm_requests_per_minute, per_seconds=60),
        SlidingWindow(settings.llm_tokens_per_minute, per_seconds=60, unit="tokens"),
    )
    # platform.openai.com, "Rate limits": what a request asks for counts, whatever is answered.
    return Quota(LLM_QUOTA, windows, concurrency=IN_FLIGHT, gives_back=False)


def _llm_headers(key: Secret | None) -> Mapping[str, str | Secret]:
    told = {} if key is None else {"authorization": Secret(f"Bearer {key.reveal()}")}
    return {"accept": "application/json", **told}


def _origin(url: str) -> str:
    parts = urlsplit(url.lower())
    return f"{parts.scheme}://{parts.netloc.removesuffix(_PORTS.get(parts.scheme, ' '))}"
