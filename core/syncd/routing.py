"""To whom effects go: the only instance that delivers a kind, unless configured. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from syncd.effects import Address, Routes
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
