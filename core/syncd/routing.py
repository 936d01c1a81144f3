"""To whom effects go: the only instance that delivers a kind, unless configured. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from syncd.effects import Address, Routes, account_of
from syncd.errors import ConfigError
from syncd.model import EffectKind, Instance

OFF = "off"


def kind_of(instance: Instance[Any], name: str) -> EffectKind | None:
    """Return a kind as the connector of an instance declares it."""
    return next((kind for kind in instance.connector.effects if kind.name == name), None)


def routes_of(
    kinds: Iterable[str],
    instances: Mapping[str, Instance[Any]],
    configured: Mapping[str, str],
    *,
    whose: str,
) -> Routes:
    """Return the addressees of the kinds that `whose` transforms produce.

    Raises: `ConfigError` for a kind that nobody delivers, or more than one, and nobody said which.
    """
    return {kind: _address(kind, instances, configured, whose) for kind in sorted(set(kinds))}


def _address(
    kind: str, instances: Mapping[str, Instance[Any]], configured: Mapping[str, str], whose: str
) -> Address | None:
    able = sorted(name for name, each in instances.items() if kind_of(each, kind))
    wanted = configured.get(kind)
    if wanted == OFF:
        return None
    if wanted is None:
        if len(able) != 1:
            raise _unaddressed(kind, able, whose)
        wanted = able[0]
    if wanted not in able:
        raise ConfigError(
            f'effects."{kind}"',
            f"{wanted!r} delivers no effects of this kind; able: {', '.join(able) or 'none'}",
            f'name one of those, or "{OFF}"',
        )
    instance = instances[wanted]
    declared = kind_of(instance, kind)
    assert declared is not None, "it is among the able ones"
    return Address(wanted, tuple(a.name for a in instance.accounts), declared.ordered)


def refuse_strangers(
    routes: Routes, accounts: Iterable[str], *, whose: str, settled: Collection[str]
) -> None:
    """Refuse effects of rows of these accounts that go to one which their addressee does not have.

    `settled`: instances whose accounts all stand in the configuration. What the table of accounts
    says may change any time, and what waits for an account of it is told of while it waits.

    Raises: `ConfigError`.
    """
    names = list(accounts)
    for kind, address in routes.items():
        if address is not None and address.instance in settled:
            for name, meant in strangers(address, names, whose=whose).items():
                raise _no_such_account(kind, address, f"{whose}.{name}", meant)


def strangers(address: Address, accounts: Iterable[str], *, whose: str) -> dict[str, str]:
    """Return those of these accounts whose effects go to one that is not there: to which."""
    meant = {n: account_of(address, instance=whose, account=n) for n in sorted(accounts)}
    return {name: each for name, each in meant.items() if each not in address.accounts}


def _no_such_account(kind: str, address: Address, whose: str, account: str) -> ConfigError:
    there = ", ".join(sorted(address.accounts))
    return ConfigError(
        f'effects."{kind}"',
        f"what follows from rows of {whose} is for the account {account!r} of "
        f"{address.instance}, which has {there}",
        f"give it one of that name ([[connectors.{address.instance}.accounts]], or `syncd accounts "
        f"add {address.instance} {account} ...`), name another connector under [effects], or "
        f'switch it off: `"{kind}" = "{OFF}"`',
    )


def _unaddressed(kind: str, able: list[str], whose: str) -> ConfigError:
    if able:
        what = f"several deliver it: {', '.join(able)}"
        one = f'say which, `"{kind}" = "{able[0]}"`'
    else:
        what = "no configured connector delivers it"
        one = "configure one that does ([connectors.NAME])"
    return ConfigError(
        f'effects."{kind}"',
        f"{whose} produces effects of this kind, and {what}",
        f'{one}, or switch it off under [effects]: `"{kind}" = "{OFF}"`',
    )
