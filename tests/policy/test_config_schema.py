"""The JSON Schema and the reference say what the classes say."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import attrs
import jsonschema  # type: ignore[import-untyped]
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syncd.config import Duration, RawConfig, Size, parse, reference, structure
from syncd.config.schema import generate
from syncd.errors import InvalidConfig
from syncd.model import Connector, EffectKind, Feed, Secret, Stream, Upstream

ROOT = Path(__file__).parents[2]
COMMITTED = ROOT / "schemas" / "syncd_schemas" / "config.schema.json"
EXAMPLE = """
[database]
url = "postgresql://sync:${DB_PASSWORD}@db.example/sync"
[connectors.cars]
api_key = "${CARS_KEY}"
[[connectors.shop.accounts]]
name = "store-1"
[jobs.cars]
connector = "cars"
streams = ["cars", "lots"]
every = "6h"
[jobs.cars-nightly]
connector = "cars"
streams = ["cars", "lots"]
mode = "full"
cron = "0 2 * * *"
timezone = "Asia/Ho_Chi_Minh"
"""
BLOCK = re.compile(r"^```toml\n(.*?)^```", re.MULTILINE | re.DOTALL)
PAGES = [
    pytest.param(EXAMPLE, id="example"),
    *(
        pytest.param(block, id=f"{page.name}-{n}")
        for page in sorted(ROOT.glob("*.md"))
        for n, block in enumerate(BLOCK.findall(page.read_text()))
    ),
]


@attrs.frozen
class Paging:
    """How pages are asked for."""

    size: int = attrs.field(default=100, metadata={"about": "records on a page | at most"})
    order: Literal["id", "updated"] = "id"


@attrs.frozen
class Settings:
    """Cars of auctions."""

    api_key: Secret = attrs.field(metadata={"about": "the key of the account"})
    timeout_seconds: Duration = 90.0
    body_max_bytes: Size | None = 64 * 2**20
    countries: tuple[str, ...] = ("kr",)
    paging: Paging = attrs.field(factory=Paging)
    verify: bool = True
    ca_file: Path | None = None
    sorts: tuple[Paging, ...] = ()
    fallback: Secret | None = attrs.field(factory=lambda: Secret("canary"))


@attrs.frozen
class AccountSettings:
    token: Secret


@attrs.frozen
class Scope:
    region: str = "all"


@attrs.frozen
class Item:
    id: int


def upstream(_settings: Any, _account: Any) -> Upstream:
    return Upstream("https://upstream.test", ())


FEEDS = (Feed("cars", (Stream("cars", Item, ("id",)),), "key", incremental=True),)
CONNECTORS = {
    "cars": Connector("cars", "1", Settings, FEEDS, upstream),
    "shop": Connector("shop", "1", Settings, FEEDS, upstream, AccountSettings),
    "open": Connector("open", "1", Scope, FEEDS, upstream, Scope),
}
ENVIRONMENT = {"KEY": "k", "LEVEL": "debug", "TIME": "5s", "SIZE": "1MiB"}
CAR = '[connectors.cars]\napi_key = "${KEY}"\n'
SHOP = '[connectors.s]\nplugin = "shop"\napi_key = "k"\n[[connectors.s.accounts]]\nname = "a"\n'


def refused_by(schema: dict[str, Any], text: str) -> list[str]:
    validator = jsonschema.Draft202012Validator(schema)
    return [error.message for error in validator.iter_errors(tomllib.loads(text))]


def refused(text: str) -> bool:
    try:
        raw = parse(text, file="f", folder=Path("/nowhere"))
        structure(raw, CONNECTORS, environment=ENVIRONMENT)
    except InvalidConfig:
        return True
    return False


def test_the_committed_schema_is_what_the_classes_generate() -> None:
    assert json.loads(COMMITTED.read_text()) == generate()


def test_the_committed_schema_is_what_the_module_prints() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "syncd.config.schema"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )

    assert done.stdout == COMMITTED.read_text()


@pytest.mark.parametrize("connectors", [{}, CONNECTORS], ids=["without", "with connectors"])
def test_the_schema_is_a_schema(connectors: dict[str, Connector]) -> None:
    jsonschema.Draft202012Validator.check_schema(generate(connectors))


@pytest.mark.parametrize("text", PAGES)
def test_every_example_in_the_pages_is_valid(text: str) -> None:
    assert refused_by(generate(), text) == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[database]\nurl = 'postgresql:///x'\npool_max = 1\nstatement_timeout = '1h30m'",
        "[daemon]\ndata_dir = '/x'\nlease = '${TIME}'\ndrain_timeout = '0s'",
        "[log]\nlevel = '${LEVEL}'\nformat = 'json'",
        CAR + "timeout = '1h'\nbody_max = '1.5MiB'\ncountries = []\nverify = false",
        CAR + "timeout = '${TIME}'\nbody_max = '${SIZE}'\npaging = { order = 'updated' }",
        CAR + "[connectors.two]\nplugin = 'cars'\napi_key = 'k'\npaging.size = 3",
        SHOP + "token = 't'\n[[connectors.s.accounts]]\nname = 'b'\ntoken = 'u'",
        "[connectors.open]",
        "[connectors.open]\n[[connectors.open.accounts]]\nname = 'a'\nregion = 'b'",
        CAR + "sorts = [{ size = 1 }, {}]",
        CAR + "[jobs.a]\nconnector = 'cars'\nevery = '1d'",
        CAR + "[jobs.a]\nconnector = 'cars'\ncron = '0 2 * * *'\nstreams = ['cars']\nmode = 'full'",
    ],
)
def test_what_syncd_accepts_the_schema_accepts(text: str) -> None:
    assert not refused(text)
    assert refused_by(generate(CONNECTORS), text) == []
    assert refused_by(generate(), text) == []


@pytest.mark.parametrize(
    "text",
    [
        "[databse]",
        "database = 1",
        "[database]\nurl = 1",
        "[database]\nurl = { path = 'x' }",
        "[database]\npool_max = 0",
        "[database]\npool_max = '10'",
        "[daemon]\nlease = 30",
        "[daemon]\nlease = '30'",
        "[log]\nlevel = 'loud'",
        "[connectors.pg_x]\nplugin = 'cars'\napi_key = 'k'",
        "[connectors.Cars]\nplugin = 'cars'\napi_key = 'k'",
        "[connectors.cars]",
        "[connectors.two]\nplugin = 'cars'",
        CAR + "colour = 1",
        CAR + "body_max = '1'",
        CAR + "paging = { order = 'name' }",
        CAR + "paging = { siz = 1 }",
        CAR + "accounts = [{ name = 'a' }]",
        SHOP,
        SHOP + "token = 't'\ncolour = 1",
        "[jobs.a]",
        CAR + "[jobs.a]\nconnector = 'cars'\nmode = 'all'",
        CAR + "[jobs.a]\nconnector = 'cars'\ncron = '0 2 * * *'\nevery = '1d'",
        CAR + "[jobs.'a b']\nconnector = 'cars'",
    ],
)
def test_what_the_schema_refuses_syncd_refuses(text: str) -> None:
    assert refused_by(generate(CONNECTORS), text)
    assert refused(text)


SCALARS = st.sampled_from(
    [
        *(0, 1, 10, -1, 2**70, 1.5, True, "", "x", "cars", "lots", "shop", "full", "30s", "1h1m"),
        *("1MiB", "0 2 * * *", "UTC", "info", "json", "${KEY}", "${TIME}", "${NOPE}", "${"),
    ]
)
KEYS = st.sampled_from(
    [
        *("database", "url", "pool_max", "pool_min", "daemon", "lease", "log", "level", "file"),
        *("connectors", "cars", "shop", "open", "plugin", "accounts", "name", "token", "api_key"),
        *("paging", "size", "body_max", "jobs", "connector", "streams", "mode", "every", "cron"),
    ]
)
TREES = st.dictionaries(
    KEYS,
    st.recursive(
        SCALARS,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
        max_leaves=8,
    ),
    max_size=5,
)
LIKELY = st.fixed_dictionaries(
    {},
    optional={
        "database": st.dictionaries(KEYS, SCALARS, max_size=3),
        "connectors": st.fixed_dictionaries(
            {"cars": st.fixed_dictionaries({"api_key": SCALARS}, optional={"body_max": SCALARS})}
        ),
        "jobs": st.dictionaries(
            st.sampled_from(["a", "b"]),
            st.fixed_dictionaries(
                {"connector": st.just("cars")},
                optional={"every": SCALARS, "cron": SCALARS, "mode": SCALARS, "timezone": SCALARS}
                | {"streams": st.lists(SCALARS, max_size=2), "concurrency": SCALARS},
            ),
        ),
    },
)
VALIDATOR = jsonschema.Draft202012Validator(generate(CONNECTORS))


@settings(max_examples=60)
@given(TREES | LIKELY)
def test_any_file_is_accepted_by_both_or_refused_with_its_problems(tree: dict[str, Any]) -> None:
    raw = RawConfig("f", Path("/nowhere"), tree)

    try:
        structure(raw, CONNECTORS, environment=ENVIRONMENT)
        problems: Sequence[object] = ()
    except InvalidConfig as invalid:
        problems = invalid.problems

    assert problems or not list(VALIDATOR.iter_errors(tree))


def test_descriptions_and_defaults_of_the_schema_are_the_classes() -> None:
    properties = generate(CONNECTORS)["$defs"]["connectors.cars"]["properties"]

    assert properties["api_key"]["description"] == "the key of the account"
    assert properties["timeout"]["default"] == "1m30s"
    assert properties["body_max"]["default"] == "64MiB"
    assert properties["countries"]["default"] == ["kr"]
    assert properties["paging"]["properties"]["size"]["default"] == 100
    assert generate()["properties"]["daemon"]["properties"]["lease"]["default"] == "30s"


def test_no_default_of_a_secret_is_written() -> None:
    assert "canary" not in json.dumps(generate(CONNECTORS)) + reference(CONNECTORS)


def test_the_reference_has_every_key_with_type_default_and_meaning() -> None:
    page = reference(CONNECTORS)

    assert '| `lease` | duration | `"30s"` | how long a partition stays ours' in page
    assert "| `pool_max` | integer | `10` | connections at most;" in page
    assert "| `connector` | text | required | the NAME of a table [connectors.NAME] |" in page
    assert '`[connectors.NAME] plugin = "cars"`: Cars of auctions.' in page
    assert '| `timeout` | duration | `"1m30s"` |  |' in page
    assert "| `verify` | true or false | `true` |  |" in page
    assert '| `sorts[].order` | "id" or "updated" | `"id"` |  |' in page
    assert "| `paging.size` | integer | `100` | records on a page \\| at most |" in page
    assert '`[[connectors.NAME.accounts]] plugin = "shop"`' in page


def test_every_key_of_syncd_has_a_meaning() -> None:
    rows = [line for line in reference().splitlines() if line.startswith("| `")]

    assert len(rows) > 20
    assert not [row for row in rows if row.endswith("|  |")]


def test_the_reference_tells_who_may_deliver_effects() -> None:
    kind = EffectKind("cars.honk", "all")
    delivers = attrs.evolve(CONNECTORS["cars"], effects=(kind,))

    assert (
        '| `"KIND"` | text | who alone delivers it | the NAME of [connectors.NAME]' in reference()
    )
    page = reference({**CONNECTORS, "cars": delivers})
    assert '| `"cars.honk"` | text | who alone delivers it |' in page
    assert 'or "off"; plugins that deliver it: cars |' in page
