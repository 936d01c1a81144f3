"""No secret, and nothing that came out of a variable, is in anything that can be printed."""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import pytest

from syncd.config import Config, Unwanted, parse, read, structure
from syncd.errors import InvalidConfig
from syncd.model import Connector, Secret, Upstream

CANARY = "c4n'ary\\s3cret"  # quote and backslash: its repr differs from itself


def talkative(_instance: object, _attribute: object, value: Any) -> None:
    text = value.reveal() if isinstance(value, Secret) else value
    raise ValueError(f"{text!r} is not to my liking")


def talkative_error(_instance: object, attribute: Any, value: Any) -> None:
    text = value.reveal() if isinstance(value, Secret) else value
    raise LookupError(text, attribute)


def terse(_instance: object, _attribute: object, _value: object) -> None:
    raise Unwanted("wanted a key that begins with sk-")


@attrs.frozen
class Settings:
    key: Secret
    text: str = ""
    number: int = 1
    keys: tuple[Secret, ...] = ()


@attrs.frozen
class Talkative:
    key: Secret = attrs.field(default=Secret("x"), validator=talkative)
    text: str = attrs.field(default="", validator=talkative_error)


@attrs.frozen
class Terse:
    key: Secret = attrs.field(default=Secret("x"), validator=terse)


@attrs.frozen
class LateTalker:
    key: Secret

    def __attrs_post_init__(self) -> None:
        raise ValueError(self.key.reveal())


@attrs.frozen
class AccountSettings:
    token: Secret


def upstream(_settings: Any, _account: Any) -> Upstream:
    return Upstream("https://upstream.test", ())


CONNECTORS = {
    "cars": Connector("cars", "1", Settings, (), upstream),
    "shop": Connector("shop", "1", Settings, (), upstream, AccountSettings),
    "talkative": Connector("talkative", "1", Talkative, (), upstream),
    "terse": Connector("terse", "1", Terse, (), upstream),
    "late": Connector("late", "1", LateTalker, (), upstream),
}
CAR = '[connectors.cars]\nkey = "k"\n'
QUOTED = f'"""{CANARY}"""'.replace("\\", "\\\\")


def configured(
    text: str, environment: Mapping[str, str] | None = None, folder: Path = Path("/nowhere")
) -> Config:
    raw = parse(text, file="syncd.toml", folder=folder)
    assert "s3cret" not in repr(raw)
    return structure(raw, CONNECTORS, environment=environment or {})


def everything_said(error: BaseException | None) -> Iterator[str]:
    while error is not None:
        yield from (str(error), repr(error), repr(error.args), repr(vars(error)))
        yield "".join(traceback.format_exception(error))
        error = error.__cause__ or error.__context__


@pytest.mark.parametrize(
    "text",
    [
        f"[database]\nurl = {QUOTED}",
        f"[database]\nurl = [{QUOTED}]",
        f"[database]\nurl = {{ fil = {QUOTED} }}",
        f"[database]\nurl = {{ file = '/nowhere', x = {QUOTED} }}",
        "[database]\nurl = '${KEY}'",
        f"[database]\nulr = {QUOTED}",
        f"password = {QUOTED}",
        f"[connectors.cars]\nkey = {{ {CANARY[:3]} = {QUOTED} }}",
        f"[connectors.cars]\napi_key = {QUOTED}",
        f"[connectors.cars]\nkeys = ['a', [{QUOTED}]]",
        f"[connectors]\ncars = [{QUOTED}]",
        f"[connectors.nobody]\nkey = {QUOTED}",
        CAR + "text = ['${KEY}']",
        CAR + "number = '${KEY}'",
        CAR + "number = 'https://user:s3cret@host/'",
        CAR + "number = 'https://host/?key=s3cret'",
        "[log]\nlevel = '${KEY}'",
        "[daemon]\nlease = '${KEY}'",
        "[daemon]\ndata_dir = '${KEY}\\u0000'",
        f"[connectors.shop]\nkey = {QUOTED}\n[[connectors.shop.accounts]]\ntoken = {QUOTED}",
        "[connectors.shop]\nkey = 'k'\n[[connectors.shop.accounts]]\nname = '${KEY}'\ntoken = 't'",
        "[jobs.a]\nconnector = '${KEY}'",
        CAR + "[jobs.a]\nconnector = 'cars'\nstreams = ['${KEY}']",
        "[jobs.a]\nconnector = 'x'\ncron = '${KEY}'",
        "[jobs.a]\nconnector = 'x'\ntimezone = '${KEY}'",
        f"[connectors.talkative]\nkey = {QUOTED}",
        "[connectors.talkative]\nkey = '${KEY}'",
        "[connectors.talkative]\ntext = '${KEY}'",
        f"[connectors.terse]\nkey = {QUOTED}",
        f"[connectors.late]\nkey = {QUOTED}",
        f"[connectors.late]\nkey = {QUOTED}\nx y",
        f"key = {QUOTED}\nkey = {QUOTED}",
        f"key = {QUOTED} {QUOTED}",
    ],
)
def test_no_problem_repeats_a_secret(text: str) -> None:
    text = text.replace("'${KEY}\\u0000'", '"${KEY}\\u0000"')

    with pytest.raises(InvalidConfig) as caught:
        configured(text, {"KEY": CANARY})

    assert caught.value.problems
    for said in everything_said(caught.value):
        assert "s3cret" not in said


def test_a_validator_of_a_secret_says_what_it_wants() -> None:
    with pytest.raises(InvalidConfig) as caught:
        configured(f"[connectors.terse]\nkey = {QUOTED}")

    (problem,) = caught.value.problems
    assert (problem.key, problem.what) == (
        "connectors.terse.key",
        "wanted a key that begins with sk-",
    )


def test_a_message_that_repeats_a_secret_is_withheld() -> None:
    with pytest.raises(InvalidConfig) as caught:
        configured(f"[connectors.talkative]\nkey = {QUOTED}")

    assert [p.what.partition(" (")[0] for p in caught.value.problems] == ["refused"]


def test_the_repr_of_a_configuration_shows_no_value_of_a_plugin(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(CANARY)
    text = f"[database]\nurl = 'postgresql://a:${{KEY}}@b/c'\n[connectors.cars]\nkey = {QUOTED}\n"
    text += "text = '${KEY}'\nkeys = ['${KEY}', { file = 'key' }]\n"
    text += "[[connectors.shop.accounts]]\nname = 'a'\ntoken = '${KEY}'\n"
    text += "[connectors.shop]\nkey = '${KEY}'\n"

    config = configured(text, {"KEY": CANARY}, tmp_path)

    assert "s3cret" not in f"{config!r} {config} {config.instances['shop']!r} {config.database!r}"
    assert "instances=<cars, shop>" in repr(config)
    assert config.instances["cars"].settings.keys == (Secret(CANARY), Secret(CANARY))


@pytest.mark.parametrize(
    ("held", "value"),
    [(b"k", "k"), (b"k\n", "k"), (b"k\r\n", "k"), (b"k\n\n", "k\n"), (b" k ", " k ")],
)
def test_a_secrets_file_gives_all_but_its_last_line_end(
    tmp_path: Path, held: bytes, value: str
) -> None:
    (tmp_path / "key").write_bytes(held)

    config = configured("[connectors.cars]\nkey = { file = '${NAME}' }", {"NAME": "key"}, tmp_path)

    assert config.instances["cars"].settings.key == Secret(value)


@pytest.mark.parametrize(
    ("held", "what"),
    [
        (None, "cannot be read: no such file or directory"),
        (b"", "the secret is empty"),
        (b" \n", "the secret is empty"),
        (b"s3cret \xff", "cannot be read: not UTF-8 text"),
        (b"s3cret" * 20_000, "cannot be read: file too large"),
    ],
)
def test_a_secrets_file_that_holds_none_is_a_problem(
    tmp_path: Path, held: bytes | None, what: str
) -> None:
    if held is not None:
        (tmp_path / "key").write_bytes(held)

    with pytest.raises(InvalidConfig) as caught:
        configured("[connectors.cars]\nkey = { file = 'key' }", folder=tmp_path)

    (problem,) = caught.value.problems
    assert problem.key.removesuffix(".file") == "connectors.cars.key"
    assert what in problem.what
    assert not any("s3cret" in said for said in everything_said(caught.value))


@pytest.mark.parametrize("key", ["''", "'${EMPTY}'"])
def test_an_empty_secret_is_a_problem(key: str) -> None:
    with pytest.raises(InvalidConfig, match="the secret is empty"):
        configured(f"[connectors.cars]\nkey = {key}", {"EMPTY": ""})


def test_a_variable_of_broken_bytes_is_a_problem() -> None:
    with pytest.raises(InvalidConfig, match="is not UTF-8"):
        configured("[connectors.cars]\nkey = '${RAW}'", {"RAW": "s3cret\udcff"})


@pytest.mark.parametrize(
    ("value", "key"),
    [
        ("'${CARS_KEY}'", "connectors.cars.key"),
        ("{ file = '${CARS_KEY}' }", "connectors.cars.key.file"),
    ],
)
def test_a_missing_variable_is_named_with_its_key(value: str, key: str) -> None:
    with pytest.raises(InvalidConfig) as caught:
        configured(f"[connectors.cars]\nkey = {value}")

    (problem,) = caught.value.problems
    assert problem.key == key
    assert problem.what == "the environment variable CARS_KEY is not set"


def test_a_secrets_file_that_everyone_may_read_is_warned_of(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("k")
    (tmp_path / "key").chmod(0o644)

    config = configured("[connectors.cars]\nkey = { file = 'key' }", folder=tmp_path)

    assert config.warnings == (
        "connectors.cars.key.file: every user may read the secret's file 'key'; chmod 600 it",
    )


@pytest.mark.parametrize(
    ("mode", "key", "warned"),
    [(0o644, "'k'", True), (0o640, "'k'", False), (0o644, "'${KEY}'", False)],
)
def test_a_secret_in_a_file_that_everyone_may_read_is_warned_of(
    tmp_path: Path, mode: int, key: str, *, warned: bool
) -> None:
    path = tmp_path / "syncd.toml"
    path.write_text(f"[connectors.cars]\nkey = {key}\n")
    path.chmod(mode)

    config = structure(read(path), CONNECTORS, environment={"KEY": "k"})

    assert bool(config.warnings) == warned
    assert all("connectors.cars.key" in warning for warning in config.warnings)
