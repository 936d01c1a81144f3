"""What is wrong in a file is told by key, with what was found and wanted, and all at once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import pytest

from syncd.config import Duration, Unwanted, between, lasting, parse, read, structure
from syncd.config.structuring import SECTIONS
from syncd.errors import InvalidConfig, Problem
from syncd.model import Connector, Feed, Secret, Stream, Upstream


def even(_instance: object, _attribute: object, value: int) -> None:
    if value % 2:
        raise Unwanted("wanted an even number")


def no_more_than_low(instance: Any, _attribute: object, value: int) -> None:
    if value < instance.low:
        raise ValueError(f"{value} is below low")


def broken(_instance: object, _attribute: object, _value: int) -> None:
    raise ZeroDivisionError("oh")


@attrs.frozen
class Nested:
    size: int


@attrs.frozen
class Settings:
    key: Secret
    timeout_seconds: Duration = attrs.field(default=1.0, validator=lasting("1s", "1m"))
    tags: tuple[str, ...] = ()
    nested: Nested = Nested(1)
    low: int = attrs.field(default=0, validator=attrs.validators.ge(0))
    high: int = attrs.field(default=10, validator=no_more_than_low)
    pairs: int = attrs.field(default=2, validator=even)
    ratio: float = 0.5
    bug: int = attrs.field(default=0)
    flag: bool = False

    def __attrs_post_init__(self) -> None:
        if self.bug:
            raise ZeroDivisionError("oh")


@attrs.frozen
class AccountSettings:
    token: Secret


@attrs.frozen
class Item:
    id: int


def upstream(_settings: Any, _account: Any) -> Upstream:
    return Upstream("https://upstream.test", ())


def feed(name: str, *streams: str, incremental: bool) -> Feed:
    return Feed(
        name, tuple(Stream(s, Item, ("id",)) for s in streams), "q", incremental=incremental
    )


FEEDS = (
    feed("cars", "cars", "lots", incremental=True),
    feed("brands", "brands", incremental=False),
)
CONNECTORS = {
    "cars": Connector("cars", "1", Settings, FEEDS, upstream, concurrency_variable="CARS_AT_ONCE"),
    "shop": Connector("shop", "1", Nested, FEEDS, upstream, AccountSettings),
}
CAR = '[connectors.cars]\nkey = "k"\n'
JOB = CAR + '[jobs.a]\nconnector = "cars"\n'
FULL = JOB + 'mode = "full"\n'
SHOP = "[connectors.shop]\nsize = 1\n"
STORE = "[[connectors.shop.accounts]]\n"


def problems(text: str, environment: Mapping[str, str] | None = None) -> tuple[Problem, ...]:
    with pytest.raises(InvalidConfig) as caught:
        structure(
            parse(text, file="syncd.toml", folder=Path("/nowhere")),
            CONNECTORS,
            environment=environment or {},
            installed=("cars", "front", "shop"),
        )
    assert caught.value.file == "syncd.toml"
    assert caught.value.__cause__ is caught.value.__context__ is None
    return caught.value.problems


@pytest.mark.parametrize(
    ("text", "key", "what"),
    [
        # keys that nobody reads
        ("databse = 1", "databse", "unknown key (did you mean 'database'?)"),
        (
            "zzz = 1",
            "zzz",
            f"unknown key (known: {', '.join(SECTIONS)})",
        ),
        ("[log]\nlvl = 1", "log.lvl", "unknown key (did you mean 'level'?)"),
        ('"\\u001b[2Jx" = 1', '"\\u001b[2Jx"', "unknown key"),
        ("[daemon]\nlease_seconds = 1", "daemon.lease_seconds", "did you mean 'lease'?"),
        ('[log]\n"a b" = 1', 'log."a b"', "unknown key (known: destination, level, format)"),
        (CAR + "nested = { sise = 1, size = 1 }", "connectors.cars.nested.sise", "mean 'size'?"),
        (CAR + "account = 1", "connectors.cars.account", "did you mean 'accounts'?"),
        # wrong types
        ("database = 1", "database", "found the number 1, wanted a table"),
        ("[[log]]", "log", "found an array, wanted a table"),
        ("jobs = []", "jobs", "found an array, wanted tables [jobs.NAME]"),
        ("[jobs]\na = 1", "jobs.a", "found the number 1, wanted a table"),
        ("[connectors]\ncars = 'k'", "connectors.cars", "found 'k', wanted a table"),
        ("[database]\npool_max = '10'", "database.pool_max", "found '10', wanted an integer"),
        ("[database]\npool_max = 1.0", "database.pool_max", "number 1.0, wanted an integer"),
        ("[database]\npool_max = true", "database.pool_max", "found true, wanted an integer"),
        (f"[database]\npool_max = {2**64}", "database.pool_max", "a huge number, wanted an int"),
        ("[daemon]\ndata_dir = 2026-01-01", "daemon.data_dir", "found a date or time, wanted a"),
        ("[log]\nlevel = { a = 1 }", "log.level", "found a table, wanted"),
        (CAR + "flag = 'yes'", "connectors.cars.flag", "found 'yes', wanted true or false"),
        (CAR + "ratio = nan", "connectors.cars.ratio", "found the number nan, wanted a number"),
        (CAR + "tags = 'a'", "connectors.cars.tags", "found 'a', wanted an array of text"),
        (CAR + "tags = ['a', 1]", "connectors.cars.tags[1]", "found the number 1, wanted text"),
        # impossible values
        ("[database]\npool_max = 0", "database.pool_max", "found the number 0, wanted 1 to 1000"),
        ("[database]\npool_min = 11", "database.pool_min", "11, wanted at most pool_max, which"),
        (
            "[database]\nlock_timeout = 5",
            "database.lock_timeout",
            'wanted a duration such as "30s"',
        ),
        ("[daemon]\nlease = '10ms'", "daemon.lease", "found '10ms', wanted 1s to 1h"),
        ("[daemon]\ndata_dir = '~/x'", "daemon.data_dir", "'~' is not expanded; write ${HOME}"),
        ("[daemon]\ndata_dir = ''", "daemon.data_dir", "found '', wanted a path"),
        ("[log]\nlevel = 'warn'", "log.level", "(did you mean 'warning'?)"),
        (CAR + "timeout = '1h'", "connectors.cars.timeout", "found '1h', wanted 1s to 1m"),
        (CAR + "low = -1", "connectors.cars.low", "refused: 'low' must be >= 0: -1"),
        (CAR + "pairs = 3", "connectors.cars.pairs", "found the number 3, wanted an even number"),
        (CAR + "low = 5\nhigh = 4", "connectors.cars.high", "refused: 4 is below low"),
        (CAR + "low = 'x'\nhigh = -1", "connectors.cars.low", "found 'x', wanted an integer"),
        (CAR + "low = 11", "connectors.cars", "refused: 10 is below low"),
        (CAR + "bug = 1", "connectors.cars", "refused: ZeroDivisionError: oh"),
        # what is missing
        ("[connectors.cars]\nkey = true", "connectors.cars.key", "found a boolean, wanted text or"),
        ("[connectors.cars]", "connectors.cars.key", "missing, of type secret"),
        ("[jobs.a]", "jobs.a.connector", "missing, of type text: the NAME of a table"),
        (CAR + "nested = {}", "connectors.cars.nested.size", "missing, of type integer"),
        # connectors and accounts
        ("[connectors.carz]", "connectors.carz", "no plugin named 'carz' is installed; found: "),
        ("[connectors.carz]", "connectors.carz", "cars, front, shop (did you mean 'cars'?)"),
        ("[connectors.x]\nplugin = 'y'", "connectors.x.plugin", "no plugin named 'y' is installed"),
        ("[connectors.x]\nplugin = 1", "connectors.x.plugin", "the number 1, wanted the name of a"),
        ("[connectors.front]", "connectors.front", "'front' announces no connector of this name"),
        ("[connectors.pg_x]\nplugin = 'shop'", "connectors.pg_x", "the name 'pg_x' is reserved"),
        ("[connectors.syncd]\nplugin = 'shop'", "connectors.syncd", "reserved"),
        ("[connectors.public]\nplugin = 'shop'", "connectors.public", "reserved"),
        ("[connectors.Cars]\nplugin = 'shop'", "connectors.Cars", "wanted a lower-case letter"),
        (f"[connectors.{'c' * 42}]\nplugin = 'shop'", f"connectors.{'c' * 42}", "at most 40"),
        ('[connectors."a.b"]\nplugin = "shop"', 'connectors."a.b"', "wanted a lower-case letter"),
        (CAR + "accounts = []", "connectors.cars.accounts", "'cars' has no accounts"),
        (SHOP + "accounts = []", "connectors.shop.accounts", "empty; wanted tables"),
        (SHOP + "accounts = 'x'", "connectors.shop.accounts", "found 'x', wanted tables"),
        (SHOP + "accounts = [1]", "connectors.shop.accounts", "found an array, wanted tables"),
        (SHOP + STORE + "token = 't'", "connectors.shop.accounts[0].name", "missing, of type text"),
        (
            SHOP + STORE + "name = 'a'",
            "connectors.shop.accounts[0].token",
            "missing, of type secret",
        ),
        (
            SHOP + STORE + "name = '-'",
            "connectors.shop.accounts[0].name",
            "found '-', wanted a lett",
        ),
        (
            SHOP + STORE + "name = 'a'\ntoken = 't'\n" + STORE + "name = 'A'\ntoken = 't'\n",
            "connectors.shop.accounts[1].name",
            "connectors.shop.accounts[0] has this name",
        ),
        # jobs
        (JOB, "jobs.a.mode", "the feed 'brands' of 'cars' can only be walked in full; write mode"),
        (JOB + "mode = 'incremental'", "jobs.a.mode", 'found "incremental", but the feed'),
        (JOB + "mode = 'backfill'", "jobs.a.mode", "found 'backfill', wanted \"full\" or"),
        (FULL + "streams = 'cars'", "jobs.a.streams", "found 'cars', wanted an array of text"),
        (FULL + "streams = []", "jobs.a.streams", "names no stream; leave the key out"),
        (
            FULL + "streams = ['carz']",
            "jobs.a.streams[0]",
            "found 'carz', wanted a stream of 'cars'",
        ),
        (FULL + "streams = ['lots', 'lots']", "jobs.a.streams[1]", "which is jobs.a.streams[0]"),
        (FULL + "cron = '61 * * * *'", "jobs.a.cron", "as in crontab(5): bad minute"),
        (FULL + "cron = '@daily'", "jobs.a.cron", "wrong number of fields"),
        (FULL + "cron = '0 0 30 2 *'", "jobs.a.cron", "bad day-of-month"),
        (FULL + "cron = '0 0 * * *'\nevery = '1d'", "jobs.a.cron", "every is given, too; keep one"),
        (FULL + "timezone = 'Asia/Hanoi2'\ncron = '0 0 * * *'", "jobs.a.timezone", "a time zone"),
        (FULL + "timezone = 'Asia'\ncron = '0 0 * * *'", "jobs.a.timezone", "wanted a time zone"),
        (FULL + "timezone = '../x'\ncron = '0 0 * * *'", "jobs.a.timezone", "wanted a time zone"),
        (FULL + "every = '0s'", "jobs.a.every", "found '0s', wanted 1s to 366d"),
        (FULL + "concurrency = 0", "jobs.a.concurrency", "wanted 1 to 1000"),
        ("[jobs.a]\nconnector = 'cars'", "jobs.a.connector", "found 'cars', wanted the NAME of a"),
        (CAR + "[jobs.a]\nconnector = 'car'", "jobs.a.connector", "(did you mean 'cars'?)"),
        ('[jobs."a b"]', 'jobs."a b"', "as a job's name, wanted a letter or digit"),
        (
            FULL + "streams = ['cars']\n[jobs.b]\nconnector = 'cars'\nstreams = ['lots', 'cars']",
            "jobs.b.streams",
            "of the feed 'cars' of 'cars': cars, lots, but the job 'a' names cars; wanted the same",
        ),
        (
            FULL + "streams = ['cars', 'lots']\n[jobs.b]\nconnector = 'cars'\nstreams = ['lots']",
            "jobs.b.streams",
            "of the feed 'cars' of 'cars': lots, but the job 'a' names cars, lots; wanted the same",
        ),
        # variables
        (CAR + "tags = ['${NOPE}']", "connectors.cars.tags[0]", "variable NOPE is not set"),
        ("[log]\nlevel = '${A}${B}'", "log.level", "the environment variable B is not set"),
        ("[log]\nlevel = '${'", "log.level", "'${' begins no variable; write ${NAME}"),
    ],
)
def test_a_problem_names_its_key_what_was_found_and_what_was_wanted(
    text: str, key: str, what: str
) -> None:
    found = problems(text)

    assert [p.key for p in found if what in p.what] == [key], found


@pytest.mark.parametrize(
    ("name", "value", "what"),
    [
        ("DB_POOL_SIZE", "ten", "found 'ten', wanted an integer from 1 to 1000"),
        ("DB_POOL_SIZE", "0", "found '0', wanted an integer from 1 to 1000"),
        ("DB_POOL_SIZE", "1_0", "found '1_0', wanted"),
        ("DB_POOL_SIZE", "9" * 5000, "wanted an integer from 1 to 1000"),
        ("DB_POOL_MIN", "-1", "found '-1', wanted an integer from 0 to 1000"),
        ("DB_POOL_MIN", "11", "pool_min is 11, wanted at most pool_max, which is 10"),
        ("SYNC_CONCURRENCY", "4.5", "found '4.5', wanted an integer from 1 to 1000"),
        ("CARS_AT_ONCE", "\u0663", "wanted an integer from 1 to 1000"),
    ],
)
def test_a_malformed_variable_is_a_problem_too(name: str, value: str, what: str) -> None:
    (problem,) = problems("", {name: value})

    assert problem.key == f"{name} (environment)"
    assert what in problem.what


def test_a_pool_that_the_environment_makes_too_small_is_told_as_its() -> None:
    (problem,) = problems("[database]\npool_min = 3\n", {"DB_POOL_SIZE": "2"})

    assert problem.key == "DB_POOL_SIZE (environment)"


def test_all_problems_are_reported_at_once() -> None:
    text = """
        colour = 1
        [database]
        pool_max = "x"
        pool_min = -1
        [daemon]
        lease = 3
        [log]
        level = "loud"
        format = "${NOPE}"
        [connectors.carz]
        [connectors.cars]
        timeout = "1h"
        low = -1
        pairs = 1
        tags = [1, 2]
        [connectors.shop]
        size = "1"
        [[connectors.shop.accounts]]
        [[connectors.shop.accounts]]
        name = "b"
        [jobs.a]
        connector = "shop"
        streams = ["x", "brands"]
        cron = "x"
        every = "y"
        [jobs.b]
        conector = "cars"
    """

    found = problems(text, {"DB_POOL_SIZE": "x", "SYNC_CONCURRENCY": "y"})

    assert [p.key for p in found] == [
        *("colour", "database.pool_max", "database.pool_min", "DB_POOL_SIZE (environment)"),
        *("daemon.lease", "log.level", "log.format", "connectors.carz", "connectors.cars.key"),
        *("connectors.cars.tags[0]", "connectors.cars.tags[1]", "connectors.cars.timeout"),
        *("connectors.cars.low", "connectors.cars.pairs", "connectors.shop.size"),
        *("connectors.shop.accounts[0].token", "connectors.shop.accounts[0].name"),
        *("connectors.shop.accounts[1].token", "SYNC_CONCURRENCY (environment)"),
        *("jobs.a.every", "jobs.a.cron", "jobs.a.streams[0]", "jobs.a.mode"),
        *("jobs.b.conector", "jobs.b.connector"),
    ]


def test_one_mistake_is_one_problem() -> None:
    """A connector that is not right is not reported again by what refers to it."""
    text = '[connectors.cars]\n[jobs.a]\nconnector = "cars"\nmode = "full"\n'
    carz = '[connectors.carz]\n[jobs.a]\nconnector = "carz"\nstreams = ["x"]\n'
    wrong = FULL + 'streams = ["car", "lots"]\n[jobs.b]\nconnector = "cars"\nmode = "full"\n'

    assert [p.key for p in problems(text)] == ["connectors.cars.key"]
    assert [p.key for p in problems(carz)] == ["connectors.carz"]
    assert [p.key for p in problems(wrong)] == ["jobs.a.streams[0]"]


def test_what_cannot_matter_is_a_warning() -> None:
    raw = parse(FULL + "timezone = 'UTC'", file="f", folder=Path("/"))

    config = structure(raw, CONNECTORS, environment={})

    assert config.warnings == ("jobs.a.timezone: means nothing without cron",)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (b"[log]\nlevel = \n", "line 2, column 9: invalid value"),
        (b"[log]\nlevel = 'info", "line 2, column 14 (the end): expected"),
        (b"a = 1\na = 2\n", "line 2, column 6: cannot overwrite a value"),
        (b"[a]\n[a]\n", "line 2, column 3: cannot declare"),
        (b"[log]\nx = '\xff'\n", "line 2: the byte 0xff is not UTF-8"),
        (b"x = " + b"[" * 5000, "nested too deeply"),
        (b"x = " + b"9" * 5000, "holds a number of thousands of digits"),
        (b"#" * (8 * 2**20 + 1), "cannot be read: file too large"),
    ],
    ids=range(8),
)
def test_a_file_that_is_no_toml_names_line_and_column(
    tmp_path: Path, text: bytes, what: str
) -> None:
    path = tmp_path / "syncd.toml"
    path.write_bytes(text)

    with pytest.raises(InvalidConfig) as caught:
        read(path)

    (problem,) = caught.value.problems
    assert problem.key == ""
    assert problem.what.startswith(what)
    assert caught.value.file == str(path)
    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    ("name", "what"), [("none.toml", "no such file or directory"), (".", "is a directory")]
)
def test_a_file_that_cannot_be_read_says_why(tmp_path: Path, name: str, what: str) -> None:
    with pytest.raises(InvalidConfig, match=f"cannot be read: {what}"):
        read(tmp_path / name)


def test_only_enabled_plugins_are_named_and_each_once() -> None:
    text = "[connectors]\nx = 1\n[connectors.a]\n[connectors.b]\nplugin = 'a'\n"
    text += "[connectors.c]\nplugin = 1\n[connectors.d]\nplugin = 'e'\n"

    assert parse(text, file="f", folder=Path("/")).plugins == ("a", "e")
    assert parse("connectors = 1", file="f", folder=Path("/")).plugins == ()


def test_a_bound_lets_both_ends_pass() -> None:
    bound = between(1, 3)

    for value in (None, 1, 3):
        bound(None, None, value)
    for value in (0, 4):
        with pytest.raises(Unwanted, match="wanted 1 to 3"):
            bound(None, None, value)
