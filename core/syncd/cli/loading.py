"""From the configuration file to what every command works with."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from urllib.parse import unquote, urlsplit

import attrs

from syncd.cli.invocation import Invocation
from syncd.config import Config, RawConfig, read, structure
from syncd.config.accounts import secrets_in
from syncd.model import Secret
from syncd.observe import SecretMask
from syncd.plugins import Plugins, found


@attrs.frozen
class Loaded:
    """A configuration without problems, with the plugins that it enables."""

    config: Config
    plugins: Plugins
    secrets: tuple[Secret, ...]


def load(invocation: Invocation) -> Loaded:
    """Read the configuration and import its plugins; from here on its secrets are redacted.

    Raises: `InvalidConfig` with all problems, `HookError`.
    """
    return take(invocation, read(invocation.file))


def take(invocation: Invocation, raw: RawConfig) -> Loaded:
    """Import the plugins of a parsed configuration, and structure it."""
    plugins = Plugins.load(raw.plugins)
    config = structure(
        raw,
        plugins.connectors,
        environment=os.environ,
        installed=[each.name for each in found()],
    )
    secrets = tuple(secrets_of(config))
    invocation.redact = SecretMask(secrets).text
    return Loaded(config, plugins, secrets)


def secrets_of(config: Config) -> Iterator[Secret]:
    """Yield every secret of a configuration, and the password inside the database's url."""
    if config.database.url is not None:
        yield config.database.url
        yield from _passwords(config.database.url.reveal())
    if config.quota.ledger == "redis":
        yield config.quota.shared
        yield from _passwords(config.quota.shared.reveal())
    if config.admin.token is not None:
        yield config.admin.token
    for instance in config.instances.values():
        yield from secrets_in(instance.settings)
        for account in instance.accounts:
            yield from secrets_in(account.settings)


def _passwords(url: str) -> Iterator[Secret]:
    """Yield the password of a connection string, as it is written and as it is meant."""
    if "://" in url:
        try:
            written = urlsplit(url).password
        except ValueError:  # libpq reads addresses that are none to Python (several hosts)
            written = None
    else:
        match = re.search(r"password\s*=\s*('(?:[^'\\]|\\.)*'|\S+)", url)
        written = match[1].strip("'") if match else None
    if written:
        yield Secret(written)
        yield Secret(unquote(written))
