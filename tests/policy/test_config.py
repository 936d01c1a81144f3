"""A good file becomes frozen values: what stands in it, what the environment says, defaults."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import attrs
import pytest

from syncd.config import Config, Duration, Size, parse, read, structure
from syncd.errors import HookError, InvalidConfig
from syncd.model import Account, Connector, Feed, Secret, Stream, Upstream

EXAMPLE = """
[database]
url = "postgresql://sync:${DB_PASSWORD}@db/sync"
pool_max = 20
statement_timeout = "90s"

[daemon]
data_dir = "state"

[log]
destination = "stdout"
format = "json"

[connectors.cars]
base_url = "https://auctions.test/api"
api_key = "${CARS_KEY}"

[connectors.cars-kr]
plugin = "cars"
api_key = { file = "kr.key" }
timeout = "1m30s"
body_max = "64MiB"
countries = ["kr", "${COUNTRY}"]
paging = { size = 1000 }
ratio = 1
depth = 2
word = "b"

[[connectors.shop.accounts]]
name = "store-1"
token = "t1"

[[connectors.shop.accounts]]
name = "store-2"
token = "t2"
weight = 2.5

[jobs.cars]
connector = "cars"
streams = ["cars", "lots"]
every = "6h"

[jobs.cars-nightly]
connector = "cars"
streams = ["lots", "cars"]
mode = "full"
cron = "0 2 * * *"
timezone = "Asia/Ho_Chi_Minh"
concurrency = 2

[jobs.shop]
connector = "shop"
mode = "full"
partitions_per_account = 3
"""


def upper(word: str) -> str:
    return word.upper()


@attrs.frozen
class Paging:
    size: int = 100
    order: Literal["id", "updated"] = "id"


@attrs.frozen
class CarsSettings:
    api_key: Secret
    base_url: str = "https://cars.test"
    timeout_seconds: Duration = 30.0
    body_max_bytes: Size | None = None
    countries: tuple[str, ...] = ()
    paging: Paging = Paging()
    word: str = attrs.field(
        default="A", converter=upper, validator=attrs.validators.in_(["A", "B"])
    )
    ratio: float = 0.5
    depth: Annotated[int, "levels"] = 1
    verify: bool = True


@attrs.frozen
class ShopSettings:
    region: str | None = None


@attrs.frozen
class ShopAccount:
    token: Secret


@attrs.frozen
class Item:
    id: int


def upstream(_settings: Any, _account: Any) -> Upstream:
    return Upstream("https://upstream.test", ())


def stream(name: str) -> Stream:
    return Stream(name, Item, ("id",))


CARS = Connector(
    "cars",
    "1",
    CarsSettings,
    (
        Feed("cars", (stream("cars"), stream("lots")), "key", incremental=True),
        Feed("brands", (stream("brands"),), "key"),
    ),
    upstream,
    concurrency_variable="CARS_CONCURRENCY",
)
SHOP = Connector(
    "shop", "1", ShopSettings, (Feed("orders", (stream("orders"),), "app"),), upstream, ShopAccount
)
CONNECTORS = {"cars": CARS, "shop": SHOP}
ENVIRONMENT = {"DB_PASSWORD": "pw", "CARS_KEY": "k", "COUNTRY": "jp"}
CAR = '[connectors.cars]\napi_key = "k"\n'


def configured(text: str, environment: Mapping[str, str] | None = None) -> Config:
    raw = parse(text, file="syncd.toml", folder=Path("/etc/syncd"))
    return structure(raw, CONNECTORS, environment=environment or {})


@pytest.fixture
def example(tmp_path: Path) -> Config:
    (tmp_path / "kr.key").write_text("kr-key\n")
    (tmp_path / "kr.key").chmod(0o600)
    (tmp_path / "syncd.toml").write_text(EXAMPLE)
    (tmp_path / "syncd.toml").chmod(0o600)
    raw = read(tmp_path / "syncd.toml")
    assert raw.plugins == ("cars", "shop")
    return structure(raw, CONNECTORS, environment=ENVIRONMENT)


def test_every_value_of_the_file_arrives_with_its_type(example: Config, tmp_path: Path) -> None:
    url = example.database.url
    cars, kr, shop = example.instances.values()

    assert url is not None
    assert url.reveal() == "postgresql://sync:pw@db/sync"
    assert example.database.pool_max == 20
    assert example.database.statement_timeout_seconds == 90.0
    assert example.daemon.data_dir == tmp_path / "state"
    assert (example.log.destination, example.log.format) == ("stdout", "json")
    assert cars.settings == CarsSettings(Secret("k"), "https://auctions.test/api")
    assert (kr.name, kr.connector) == ("cars-kr", CARS)
    assert kr.settings == CarsSettings(
        api_key=Secret("kr-key"),
        timeout_seconds=90.0,
        body_max_bytes=64 * 2**20,
        countries=("kr", "jp"),
        paging=Paging(1000),
        ratio=1.0,
        depth=2,
        word="B",
    )
    assert cars.accounts == (Account("default", None),)
    assert shop.accounts == (
        Account("store-1", ShopAccount(Secret("t1"))),
        Account("store-2", ShopAccount(Secret("t2")), 2.5),
    )
    assert example.warnings == ()


def test_jobs_say_what_when_and_how_much_at_once(example: Config) -> None:
    cars, nightly, shop = example.jobs.values()

    assert (cars.name, cars.connector, cars.streams) == ("cars", "cars", ("cars", "lots"))
    assert (cars.mode, cars.every_seconds, cars.cron) == ("incremental", 21_600.0, None)
    assert (cars.concurrency, cars.partitions_per_account) == (4, 1)
    assert (nightly.mode, nightly.cron) == ("full", "0 2 * * *")
    assert (nightly.timezone, nightly.concurrency) == ("Asia/Ho_Chi_Minh", 2)
    assert (shop.streams, shop.partitions_per_account) == (("orders",), 3)


def test_an_empty_file_means_the_defaults() -> None:
    config = configured("")

    assert config.database.url is None
    assert (config.database.pool_max, config.database.pool_min) == (10, 1)
    assert config.database.statement_timeout_seconds == 60.0
    assert config.database.connect_timeout_seconds == 10.0
    assert config.database.lock_timeout_seconds == 5.0
    assert config.daemon.data_dir == Path("/etc/syncd/syncd-data")
    assert (config.daemon.lease_seconds, config.daemon.drain_timeout_seconds) == (30.0, 25.0)
    assert (config.log.destination, config.log.level) == ("stderr", "info")
    assert config.log.format == "auto"
    assert (dict(config.instances), dict(config.jobs)) == ({}, {})
    assert config.file == "syncd.toml"


def test_a_configuration_cannot_be_changed(example: Config) -> None:
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        example.database.pool_max = 3  # type: ignore[misc]
    with pytest.raises(TypeError):
        example.jobs["x"] = example.jobs["cars"]  # type: ignore[index]


def test_the_same_file_gives_an_equal_configuration() -> None:
    text = CAR + '[jobs.a]\nconnector = "cars"\nmode = "full"\n'

    assert configured(text) == configured(text)


def test_by_default_a_job_takes_all_streams_of_its_connector() -> None:
    config = configured(CAR + '[jobs.a]\nconnector = "cars"\nmode = "full"\n')

    assert config.jobs["a"].streams == ("cars", "lots", "brands")


def test_a_connector_without_job_is_fine() -> None:
    assert list(configured(CAR).instances) == ["cars"]


def test_jobs_of_other_feeds_or_instances_do_not_meet() -> None:
    text = CAR + '[connectors.other]\nplugin = "cars"\napi_key = "k"\n'
    text += '[jobs.a]\nconnector = "cars"\nstreams = ["cars"]\n'
    text += '[jobs.b]\nconnector = "cars"\nstreams = ["brands"]\nmode = "full"\n'
    text += '[jobs.c]\nconnector = "other"\nstreams = ["cars", "lots"]\n'

    assert list(configured(text).jobs) == ["a", "b", "c"]


def test_the_environment_overrides_the_pool() -> None:
    environment = {"DB_POOL_SIZE": "500", "DB_POOL_MIN": " 5 "}

    database = configured("[database]\npool_max = 2\n", environment).database

    assert (database.pool_max, database.pool_min) == (500, 5)


def test_an_empty_variable_overrides_nothing() -> None:
    environment = {"DB_POOL_SIZE": "", "DB_POOL_MIN": "", "SYNC_CONCURRENCY": ""}

    assert configured("", environment).database.pool_max == 10


@pytest.mark.parametrize(
    ("environment", "cars", "shop"),
    [
        ({}, 3, 4),
        ({"SYNC_CONCURRENCY": "9"}, 3, 9),
        ({"CARS_CONCURRENCY": "7"}, 7, 4),
        ({"CARS_CONCURRENCY": "7", "SYNC_CONCURRENCY": "9"}, 7, 9),
    ],
)
def test_a_connectors_own_variable_stands_in_place_of_everyones(
    environment: dict[str, str], cars: int, shop: int
) -> None:
    text = CAR + '[[connectors.shop.accounts]]\nname = "s"\ntoken = "t"\n'
    text += '[jobs.a]\nconnector = "cars"\nmode = "full"\nconcurrency = 3\n'
    text += '[jobs.b]\nconnector = "shop"\nmode = "full"\n'

    jobs = configured(text, environment).jobs

    assert (jobs["a"].concurrency, jobs["b"].concurrency) == (cars, shop)


FEEDS = attrs.evolve(
    CARS,
    concurrency_variable=None,
    feeds=(
        Feed("cars", (stream("cars"),), "key", concurrency=30),
        Feed("lots", (stream("lots"),), "key", concurrency=20, concurrency_variable="LOTS_AT_ONCE"),
        Feed("brands", (stream("brands"),), "key"),
    ),
)


@pytest.mark.parametrize(
    ("streams", "environment", "concurrency"),
    [
        (["cars"], {}, 30),
        (["lots"], {}, 20),
        (["cars", "lots"], {}, 20),
        (["brands"], {}, 4),
        (["cars"], {"SYNC_CONCURRENCY": "50", "LOTS_AT_ONCE": "7"}, 50),
        (["lots"], {"SYNC_CONCURRENCY": "50", "LOTS_AT_ONCE": "7"}, 7),
        (["cars", "lots"], {"SYNC_CONCURRENCY": "50", "LOTS_AT_ONCE": "7"}, 7),
        (["cars", "lots"], {"SYNC_CONCURRENCY": "5", "LOTS_AT_ONCE": "7"}, 5),
        (["lots"], {"SYNC_CONCURRENCY": "50"}, 20),
    ],
)
def test_a_feed_says_how_many_at_once_and_by_which_variable(
    streams: list[str], environment: dict[str, str], concurrency: int
) -> None:
    text = f'{CAR}[jobs.a]\nconnector = "cars"\nmode = "full"\nstreams = {streams}\n'
    raw = parse(text, file="syncd.toml", folder=Path("/etc/syncd"))
    said = parse(f"{text}concurrency = 3\n", file="syncd.toml", folder=Path("/etc/syncd"))

    job = structure(raw, {"cars": FEEDS}, environment=environment).jobs["a"]
    own = structure(said, {"cars": FEEDS}, environment={}).jobs["a"]

    assert (job.concurrency, own.concurrency) == (concurrency, 3)


def test_an_escaped_reference_stands_for_itself() -> None:
    config = configured(CAR + 'base_url = "$${X}/${Y}"\n', {"Y": "y"})

    assert config.instances["cars"].settings.base_url == "${X}/y"


def test_an_upstream_with_optional_account_settings_has_one_account_named_default() -> None:
    connector = attrs.evolve(SHOP, account_settings=ShopSettings)
    raw = parse("[connectors.shop]", file="f", folder=Path("/"))

    config = structure(raw, {"shop": connector}, environment={})

    assert config.instances["shop"].accounts == (Account("default", ShopSettings()),)


def test_a_byte_order_mark_is_no_part_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "syncd.toml"
    path.write_bytes(b"\xef\xbb\xbf" + b"[log]\nlevel = 'debug'\n")

    assert structure(read(path), {}, environment={}).log.level == "debug"


def test_paths_are_relative_to_the_files_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "syncd.toml").write_text("")
    monkeypatch.chdir(tmp_path.parent)

    raw = read(os.path.join(tmp_path.name, "syncd.toml"))  # noqa: PTH118 - as on a command line

    assert raw.file == f"{tmp_path.name}/syncd.toml"
    assert structure(raw, {}, environment={}).daemon.data_dir == tmp_path / "syncd-data"


@attrs.frozen
class Unfit:
    data: dict[str, Any]


@attrs.frozen
class Deep:
    inner: Unfit | None = None


@attrs.frozen
class Unknown:
    thing: "Nowhere"  # type: ignore[name-defined]  # noqa: F821, UP037


@attrs.frozen
class Taken:
    plugin: str = ""


@attrs.frozen
class Twins:
    wait: float = 1.0
    wait_seconds: Duration = 1.0


@pytest.mark.parametrize(
    ("cls", "what"),
    [
        (Unfit, "'data' is a dict"),
        (Deep, "Unfit: field 'data' is a dict"),
        (Unknown, "annotation that cannot be resolved: name 'Nowhere'"),
        (Taken, "'plugin' is read by syncd"),
        (Twins, "two fields for one key: wait, wait"),
        (object, "is no attrs class"),
    ],
)
def test_a_settings_class_that_cannot_be_configured_is_its_authors_fault(
    cls: type[Any], what: str
) -> None:
    connector = attrs.evolve(CARS, settings=cls)
    raw = parse("", file="f", folder=Path("/"))

    with pytest.raises(HookError, match=what):
        structure(raw, {"cars": connector}, environment={})


def test_an_invalid_file_is_a_configuration_error() -> None:
    with pytest.raises(InvalidConfig):
        configured("jobs = 1")


def test_a_connector_reaches_its_own_network_only_by_the_operators_leave() -> None:
    config = configured(CAR + "private_network = true\n", {})

    assert config.instances["cars"].private_network
    assert not configured(CAR, {}).instances["cars"].private_network


def test_a_stream_says_otherwise_than_its_connector_what_becomes_of_absent_rows() -> None:
    config = configured(CAR + '[connectors.cars.streams.cars]\non_absent = "mark"\n', {})

    assert config.instances["cars"].on_absent == {"cars": "mark"}
    assert configured(CAR, {}).instances["cars"].on_absent == {}


@pytest.mark.parametrize(
    ("streams", "said"),
    [
        ('streams.carz.on_absent = "mark"', "connectors.cars.streams.carz: no such stream"),
        ('streams.cars.on_absent = "drop"', "connectors.cars.streams.cars.on_absent: found 'drop'"),
        ("streams.cars.on_gone = 1", "connectors.cars.streams.cars.on_gone: unknown key"),
        ("streams = 7", "connectors.cars.streams: found the number 7, wanted tables"),
        ("streams.cars = 7", "connectors.cars.streams.cars: found the number 7, wanted a table"),
    ],
)
def test_what_is_wrong_with_a_streams_table_is_said(streams: str, said: str) -> None:
    with pytest.raises(InvalidConfig) as caught:
        configured(f"{CAR}{streams}\n", {})

    assert said in str(caught.value)
