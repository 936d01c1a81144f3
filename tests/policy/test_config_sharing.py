"""``[quota] shared``: a word or an address, whose password is nobody's to see."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from syncd.cli import findings
from syncd.cli.loading import secrets_of
from syncd.config import Config, parse, read, reference, structure
from syncd.config.schema import generate
from syncd.errors import InvalidConfig
from syncd.model import Secret
from syncd.store.registry import Life

ADDRESS = "redis://syncd:s3cret@cache:6379/0"


def config(text: str, environment: dict[str, str] | None = None) -> Config:
    raw = parse(text, file="syncd.toml", folder=Path())
    return structure(raw, {}, environment=environment or {})


@pytest.mark.parametrize(
    ("text", "ledger"),
    [
        ("", "off"),
        ("shared = 'off'", "off"),
        ("shared = 'postgres'", "postgres"),
        (f"shared = '{ADDRESS}'", "redis"),
        ("shared = 'rediss://cache'", "redis"),
        ("shared = 'unix:///run/redis.sock'", "redis"),
        ("shared = '${CACHE}'", "redis"),
    ],
)
def test_what_is_shared_through_what(text: str, ledger: str) -> None:
    assert config(f"[quota]\n{text}", {"CACHE": ADDRESS}).quota.ledger == ledger


def test_anything_else_is_refused_with_what_is_wanted_and_not_repeated() -> None:
    with pytest.raises(InvalidConfig) as caught:
        config("[quota]\nshared = 'memcached://s3cret@cache'")

    (problem,) = caught.value.problems
    assert problem.key == "quota.shared"
    assert 'wanted "off", "postgres", or redis://' in problem.what
    assert "s3cret" not in problem.what


def test_the_password_is_a_secret_and_a_word_is_none() -> None:
    there = config(f"[quota]\nshared = '{ADDRESS}'")

    assert "s3cret" not in f"{there!r} {there.quota!r}"
    assert Secret("s3cret") in set(secrets_of(there))
    assert list(secrets_of(config("[quota]\nshared = 'postgres'"))) == []


def test_a_word_in_a_file_that_everyone_may_read_is_nothing_to_warn_of(tmp_path: Path) -> None:
    path = tmp_path / "syncd.toml"
    for value, warned in (("postgres", False), (ADDRESS, True)):
        path.write_text(f"[quota]\nshared = '{value}'\n")
        path.chmod(0o644)
        assert bool(structure(read(path), {}, environment={}).warnings) == warned


def test_the_manual_and_the_schema_tell_the_default() -> None:
    assert '| `shared` | secret | `"off"` | off: each process' in reference()
    assert (
        json.loads(json.dumps(generate()))["properties"]["quota"]["properties"]["shared"]["default"]
        == "off"
    )


@pytest.mark.parametrize(
    ("shared", "daemons", "said"),
    [
        ("off", 1, "kept by each process by itself"),
        ("off", 3, "kept by each process by itself, and 2 more may use as much; with"),
        ("postgres", 3, "kept by all processes together, through postgres"),
        (ADDRESS, 1, "kept by all processes together, through redis"),
    ],
)
def test_check_tells_who_keeps_to_the_quotas(shared: str, daemons: int, said: str) -> None:
    life = Life(daemons, 100, datetime(2026, 11, 1, tzinfo=UTC))

    found = findings.sharing(config(f"[quota]\nshared = '{shared}'"), life)

    assert found.what == "quotas"
    assert found.said.startswith(said)
    assert found.ok
