"""What is sealed opens for its owner, by any key that is configured, and for nobody else."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from syncd import vault
from syncd.config import Config, parse, structure
from syncd.errors import ConfigError, InvalidConfig
from syncd.model import Secret
from syncd.vault import Vault, new_key

OWNER = "tiktok, account shop-1"


def config(text: str, folder: Path) -> Config:
    return structure(parse(text, file="syncd.toml", folder=folder), {}, environment={})


def test_what_is_sealed_opens_for_its_owner_and_does_not_show() -> None:
    kept = Vault([new_key()])

    sealed = kept.seal("act.é\0", owner=OWNER)

    assert kept.reveal(sealed, owner=OWNER).reveal() == "act.é\0"
    assert b"act" not in sealed
    assert kept.seal("act.é\0", owner=OWNER) != sealed


def test_a_seal_opens_for_no_other_row() -> None:
    kept = Vault([new_key()])

    with pytest.raises(ConfigError, match="no key opens the secret of shop-2"):
        kept.reveal(kept.seal("act", owner=OWNER), owner="shop-2")


def test_keys_change_without_a_moment_in_which_something_cannot_be_read() -> None:
    old, new = new_key(), new_key()
    sealed = Vault([old]).seal("act", owner=OWNER)
    both = Vault([new, old])

    anew = both.seal_anew(sealed, owner=OWNER)

    assert both.reveal(sealed, owner=OWNER).reveal() == "act"
    assert Vault([new]).reveal(anew, owner=OWNER).reveal() == "act"
    with pytest.raises(ConfigError, match="no key opens"):
        Vault([new]).reveal(sealed, owner=OWNER)
    with pytest.raises(ConfigError, match="no key opens"):
        Vault([old]).reveal(anew, owner=OWNER)


def test_a_damaged_seal_is_an_error_with_a_remedy() -> None:
    kept = Vault([new_key()])
    sealed = bytearray(kept.seal("act", owner=OWNER))
    sealed[20] ^= 1

    with pytest.raises(ConfigError, match="give back the key"):
        kept.reveal(bytes(sealed), owner=OWNER)


def test_without_a_key_nothing_is_kept_and_the_error_says_how_to_get_one() -> None:
    assert not Vault().usable
    with pytest.raises(ConfigError, match="syncd credentials new-key"):
        Vault().seal("act", owner=OWNER)


def test_a_key_that_is_none_is_named_by_its_place_and_not_shown() -> None:
    with pytest.raises(ConfigError, match=r"\[vault\] keys\[1\]: no key") as caught:
        Vault([new_key(), Secret("hunter2")])

    assert "hunter2" not in str(caught.value)


def test_keys_come_from_the_configuration(tmp_path: Path) -> None:
    key = new_key()
    (tmp_path / "key").write_text(key.reveal() + "\n")
    (tmp_path / "key").chmod(0o600)
    database = "[database]\nurl = 'postgresql://db/x'\n"

    kept = vault.opened(config(f"{database}[vault]\nkeys = [{{ file = 'key' }}]", tmp_path))

    assert kept.reveal(Vault([key]).seal("act", owner=OWNER), owner=OWNER).reveal() == "act"
    assert not vault.opened(config(database, tmp_path)).usable
    with pytest.raises(InvalidConfig):
        config("[vault]\nkeys = 'one'", tmp_path)


def test_an_embedded_database_has_a_key_beside_it_that_stays(tmp_path: Path) -> None:
    configured = config("[daemon]\ndata_dir = 'data'", tmp_path)
    with ThreadPoolExecutor(4) as makers:  # as `run` beside `serve`
        first, *others = makers.map(lambda _: vault.opened(configured), range(4))

    sealed = first.seal("act", owner=OWNER)

    assert {each.reveal(sealed, owner=OWNER).reveal() for each in others} == {"act"}
    (kept,) = (tmp_path / "data").iterdir()
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
