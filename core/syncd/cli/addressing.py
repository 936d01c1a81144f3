"""What `syncd check` says of effects: who delivers what follows from rows, or why nobody does."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from syncd.accounts import Effective
from syncd.cli import findings, wording
from syncd.cli.findings import Finding
from syncd.cli.loading import Loaded
from syncd.config.values import did_you_mean
from syncd.errors import ConfigError, SyncdError
from syncd.feeding import walked_by
from syncd.routing import OFF, refuse_strangers, routes_of, strangers

NAMED_MAX = 3  # accounts that are told by name


def look_at_effects(loaded: Loaded, known: Mapping[str, Effective]) -> list[Finding]:
    """Look at all kinds of effects that jobs may produce, and at what [effects] says.

    `loaded` has the accounts of the table, too; `known` are those of instances that may have some
    there, as far as these could be read.
    """
    try:
        walked = _walked(loaded)
        produced = _produced(loaded)
    except SyncdError as error:
        return [findings.failed("effects", error)]
    settled = [name for name in loaded.config.instances if _is_settled(loaded, known, name)]
    found = [
        _who_delivers(loaded, known, kind, whose, settled)
        for whose, kinds in walked.items()
        for kind in sorted(kinds)
    ]
    found += _look_at_names(loaded, produced)
    return list(dict.fromkeys(found))


def _walked(loaded: Loaded) -> dict[str, set[str]]:
    """Return the kinds that jobs may produce, by the instance whose rows have them.

    Raises: `HookError`.
    """
    config, found = loaded.config, dict[str, set[str]]()
    for job in config.jobs.values():
        instance = config.instances[job.connector]
        for feed, streams in walked_by(loaded.plugins, instance, job, config.jobs.values()):
            pipeline = loaded.plugins.pipeline(instance, feed)
            found.setdefault(instance.name, set()).update(pipeline.kinds(streams))
    return found


def _produced(loaded: Loaded) -> set[str]:
    """Return the kinds that rows of any stream may have: routes bring some that no job walks.

    Raises: `HookError`.
    """
    return {
        kind
        for instance in loaded.config.instances.values()
        for feed in instance.connector.feeds
        for kind in loaded.plugins.pipeline(instance, feed).kinds()
    }


def _is_settled(loaded: Loaded, known: Mapping[str, Effective], name: str) -> bool:
    if name in known:
        return known[name].settled
    return loaded.config.instances[name].connector.account_settings is None


def _who_delivers(
    loaded: Loaded, known: Mapping[str, Effective], kind: str, whose: str, settled: Collection[str]
) -> Finding:
    what, config = f"effects {kind}", loaded.config
    accounts = [each.name for each in config.instances[whose].accounts]
    of_the_table = known[whose].known if whose in known else {}
    try:
        routes = routes_of([kind], config.instances, config.effects, whose=whose)
        standing = set(accounts) - of_the_table.keys()
        refuse_strangers(routes, standing, whose=whose, settled=settled)
    except ConfigError as error:
        return findings.failed(what, error)
    address = routes[kind]
    if address is None:
        return Finding(what, "switched off under [effects]")
    said = f"delivered by {address.instance}"
    if missing := sorted(set(strangers(address, accounts, whose=whose).values())):
        names = wording.listed(missing, most=NAMED_MAX)
        said += f", but those for its account {names} wait until there is one of that name"
    return Finding(what, said)


def _look_at_names(loaded: Loaded, produced: Collection[str]) -> list[Finding]:
    """Say which entries of [effects] concern nothing, and which name nobody who is able."""
    config, found = loaded.config, []
    for kind, wanted in config.effects.items():
        if kind not in produced:
            said = f'effects."{kind}": rows of no configured connector have effects of this kind'
            found.append(Finding("warning", said + did_you_mean(kind, produced)))
        elif wanted != OFF:
            try:
                routes_of([kind], config.instances, config.effects, whose="nobody")
            except ConfigError as error:
                found.append(findings.failed(f"effects {kind}", error))
    return found
