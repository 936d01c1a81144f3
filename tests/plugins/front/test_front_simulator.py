"""Laws of the simulated Front and of the simulated model: one request at a time, no network."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import msgspec
import pytest

from syncd_front import llm
from syncd_front.simulator import Call, Company, Front, Model, Reply

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
BEARER = {"authorization": "Bearer front-token"}


@attrs.define
class Bench:
    """Both upstreams, whose clock a test moves."""

    conversations: int = 5
    options: dict[str, Any] = attrs.field(factory=dict)
    at: datetime = NOON
    front: Front = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        mail = Company("acme", self.conversations, newest=NOON.timestamp() - 60)
        self.front = Front(mail, now=lambda: self.at, **self.options)

    def get(self, path: str, *query: tuple[str, str], **headers: str) -> Reply:
        return self.front.answer(Call("GET", path, query, headers or BEARER))

    def wait(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)


SEARCH = "/conversations/search/after%3A0"


@pytest.mark.parametrize("calls", [50, 100, 200])
def test_a_plan_takes_its_calls_a_minute_and_half_as_many_again(calls: int) -> None:
    bench = Bench(options={"calls": calls})
    statuses = [bench.get("/me").status for _ in range(2 * calls)]
    assert statuses.count(200) == calls + calls // 2
    assert statuses.index(429) == calls + calls // 2

    refused = bench.get("/me")
    assert refused.json["_error"]["title"] == "Too many requests"
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert refused.headers["x-ratelimit-remaining"] == "0"
    assert float(refused.headers["x-ratelimit-reset"]) > NOON.timestamp()

    bench.wait(60)
    assert bench.get("/me").status == 200


def test_searches_have_two_fifths_of_the_limit() -> None:
    bench = Bench(options={"calls": 50})
    statuses = [bench.get(SEARCH).status for _ in range(25)]
    assert statuses.count(200) == 20
    assert bench.get("/me").status == 200


def test_one_conversation_is_read_five_times_a_second_at_most_and_the_tier_is_named() -> None:
    bench = Bench(options={"calls": 200})
    replies = [bench.get("/conversations/cnv_000001/messages") for _ in range(6)]
    assert [reply.status for reply in replies] == [200] * 5 + [429]
    assert replies[-1].headers["x-front-tier"] == "resource"
    assert int(replies[-1].headers["x-ratelimit-remaining"]) > 0


def test_a_search_is_paged_at_another_host_newest_first_and_tells_its_total() -> None:
    bench = Bench(120)
    first = bench.get(SEARCH, ("limit", "100")).json
    assert (first["_total"], len(first["_results"])) == (120, 100)
    link = first["_pagination"]["next"]
    assert link.startswith("https://acme.api.frontapp.com/conversations/search/after%3A0?")
    token = link.rpartition("page_token=")[2]
    second = bench.get(SEARCH, ("limit", "100"), ("page_token", token)).json
    assert second["_pagination"]["next"] is None
    times = [each["updated_at"] for each in first["_results"] + second["_results"]]
    assert times == sorted(times, reverse=True)
    assert len({each["id"] for each in first["_results"] + second["_results"]}) == 120


def test_what_comes_to_the_head_between_pages_is_answered_twice() -> None:
    bench = Bench(120)
    first = bench.get(SEARCH, ("limit", "100")).json
    bench.front.company.write(at=NOON.timestamp(), text="new")
    token = first["_pagination"]["next"].rpartition("page_token=")[2]
    second = bench.get(SEARCH, ("limit", "100"), ("page_token", token)).json
    assert {each["id"] for each in first["_results"]} & {each["id"] for each in second["_results"]}


def test_messages_come_newest_first_and_a_merged_conversation_is_elsewhere() -> None:
    bench = Bench(2)
    bench.front.company.reply("cnv_000001", at=NOON.timestamp(), text="newest")
    rows = bench.get("/conversations/cnv_000001/messages").json["_results"]
    assert rows[0]["text"] == "newest"

    bench.front.company.merge("cnv_000001", "cnv_000003", at=NOON.timestamp())
    moved = bench.get("/conversations/cnv_000001/messages")
    assert (moved.status, moved.body) == (301, b"")
    assert moved.headers["location"].endswith("/conversations/cnv_000003/messages")
    assert len(bench.get("/conversations/cnv_000003/messages").json["_results"]) == 3
    assert bench.get("/conversations/cnv_000001").status == 301


def test_events_come_fifteen_a_page_of_the_types_that_are_asked_for() -> None:
    bench = Bench(20)
    page = bench.get("/events", ("q[types]", "inbound"), ("limit", "100")).json
    assert len(page["_results"]) == 15
    assert page["_pagination"]["next"]
    assert bench.get("/events", ("q[types]", "archive")).json["_results"] == []


@pytest.mark.parametrize(
    ("path", "headers", "status", "title"),
    [
        ("/me", {"authorization": "Bearer wrong"}, 401, "Unauthenticated"),
        ("/me", {"authorization": "front-token"}, 401, "Unauthenticated"),
        ("/conversations/cnv_none", BEARER, 404, "Not found"),
        ("/nothing", BEARER, 404, "Not found"),
        ("/conversations/search/inbox%3Aa%20inbox%3Ab", BEARER, 400, "Bad request"),
        ("/conversations/search/after%3Ayesterday", BEARER, 400, "Bad request"),
    ],
)
def test_an_error_bears_its_status_and_title(
    path: str, headers: dict[str, str], status: int, title: str
) -> None:
    reply = Bench().get(path, **headers)
    assert reply.status == status
    assert reply.json["_error"]["title"] == title


def test_a_token_without_a_scope_is_refused_there_alone() -> None:
    bench = Bench(options={"scopes": ["conversations:read"]})
    assert bench.get(SEARCH).status == 200
    assert bench.get("/conversations/cnv_000001/messages").status == 403


def test_the_same_seed_invents_the_same_mail_and_two_fifths_of_it_name_shipments() -> None:
    one, same, other = (Company("acme", 700, seed=seed) for seed in (1, 1, 2))
    assert one.truth() == same.truth() != other.truth()
    shipping = sum(bool(each.parcels) for each in one.conversations.values())
    assert shipping == 280


# --- The model ------------------------------------------------------------------------------------


def completion(model: Model, text: str, tokens_max: int = 800, key: str = "sk-demo") -> Reply:
    body = llm.body_of(text, model="gpt-4o-mini", tokens_max=tokens_max)
    headers = {"authorization": f"Bearer {key}"}
    return model.answer(Call("POST", "/chat/completions", (), headers, msgspec.json.encode(body)))


def test_the_model_names_what_stands_in_the_text_and_tells_what_it_cost() -> None:
    model = Model(now=lambda: NOON)
    reply = completion(model, "PO 4711 by UPS: 1Z999AA10123456784")
    (choice,) = reply.json["choices"]
    (shipment,) = msgspec.json.decode(choice["message"]["content"])["shipments"]
    assert (shipment["tracking_number"], shipment["po_number"]) == ("1Z999AA10123456784", "4711")
    assert choice["finish_reason"] == "stop"
    assert reply.json["usage"]["total_tokens"] == model.tokens > 0


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        ("busy", 429, "rate_limit_exceeded"),
        ("used up", 429, "insufficient_quota"),
        ("slow down", 429, "slow_down"),
        ("overloaded", 503, "server_is_overloaded"),
        ("broken", 500, "server_error"),
        ("too long", 400, "context_length_exceeded"),
    ],
)
def test_the_model_fails_as_it_is_told_and_always_with_four_keys(
    fault: Any, status: int, code: str
) -> None:
    model = Model(now=lambda: NOON)
    model.faults.append(fault)
    reply = completion(model, "text")
    assert reply.status == status
    assert reply.json["error"].keys() == {"message", "type", "param", "code"}
    assert reply.json["error"]["code"] == code
    assert ("retry-after" in reply.headers) == (fault == "busy")
    assert model.calls == 0


def test_requests_and_tokens_are_limited_by_themselves_and_told_in_go_s_durations() -> None:
    model = Model(now=lambda: NOON, requests=2, tokens=10_000)
    told = completion(model, "text").headers
    assert told["x-ratelimit-remaining-requests"] == "1"
    assert told["x-ratelimit-reset-requests"] == "1m0s"
    assert completion(model, "text").status == 200
    refused = completion(model, "text")
    assert (refused.status, refused.json["error"]["type"]) == (429, "requests")

    starved = Model(now=lambda: NOON, tokens=2_000)
    assert completion(starved, "text", tokens_max=1_000).status == 200
    assert completion(starved, "text", tokens_max=1_000).json["error"]["type"] == "tokens"


def test_what_the_connector_asks_keeps_to_the_rules_of_strict_schemas() -> None:
    assert completion(Model(now=lambda: NOON), "text").status == 200
    loose = llm.body_of("text", model="gpt-4o-mini", tokens_max=10)
    loose["response_format"]["json_schema"]["schema"] = {**llm.SCHEMA, "required": []}
    headers = {"authorization": "Bearer sk-demo"}
    call = Call("POST", "/chat/completions", (), headers, msgspec.json.encode(loose))
    assert Model().answer(call).json["error"]["code"] == "invalid_schema"
    assert completion(Model(), "text", key="wrong").status == 401


def test_the_program_says_how_syncd_is_set_up_to_ask_it() -> None:
    command = [sys.executable, "-m", "syncd_front.simulator", "--exit-with-parent", "--model"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        said = msgspec.json.decode(process.stdout.readline())
        process.stdin.write(b"change 0.5\n")
        process.stdin.flush()
        changed = msgspec.json.decode(process.stdout.readline())
        process.stdin.close()
        assert process.wait(timeout=60) == 0
    tables = tomllib.loads(said["configuration"])["connectors"]["front"]
    assert tables["base_url"] == f"{said['base_url']}/front"
    assert tables["accounts"][0]["name"] == "acme"
    assert tables["llm_api_key"]
    assert changed == {"changed": 100}
