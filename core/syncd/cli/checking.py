"""`syncd check`: asks everything that can be asked without writing."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from datetime import UTC, datetime
from random import Random
from typing import Any

import attrs
import trio

from syncd import bulk, sealing, valkey, vault
from syncd.accounts import Effective
from syncd.asking import checked
from syncd.bulk.derived import check as check_derived
from syncd.cli import accounts, addressing, findings, questions
from syncd.cli.database import with_database
from syncd.cli.findings import Finding
from syncd.cli.invocation import Invocation
from syncd.cli.loading import Loaded, load
from syncd.cli.upstreams import reached
from syncd.commit import Target
from syncd.config import Job
from syncd.errors import StoreError, SyncdError, Unavailable
from syncd.events import Event
from syncd.expiring import expiry_of
from syncd.feeding import derived_of, sources_of, walked_by
from syncd.http import Limiters
from syncd.model import Account, Check, Feed, Instance, Partition, Request, Slice
from syncd.plugins import Pipeline, found
from syncd.run import wanted_of
from syncd.sealing import Kept
from syncd.store import credentials, migrations
from syncd.store.credentials import Owner, Row
from syncd.store.hops import Hops
from syncd.work import Order

ACCOUNT_SECONDS = 30.0  # for one account's answer, with every wait for its upstream's limit
ACCOUNTS_AT_ONCE = 8  # upstreams that share a quota are asked one by one anyway


def check(invocation: Invocation) -> list[Finding]:
    """Look at everything; what cannot be looked at is a finding, too."""
    try:
        loaded = load(invocation)
    except SyncdError as error:
        return findings.problems(error)
    return [
        *findings.configuration(loaded.config),
        *findings.plugins(found(), [i.connector.name for i in loaded.config.instances.values()]),
        *_look_at_routes(loaded),
        *trio.run(_ask_all, invocation, loaded),
    ]


def _look_at_routes(loaded: Loaded) -> list[Finding]:
    """Ask the plugins what they serve."""
    try:
        served = {n: loaded.plugins.routes(i) for n, i in loaded.config.instances.items()}
    except SyncdError as error:
        return [findings.failed("routes", error)]
    return findings.routes(loaded.config, served)


async def _ask_all(invocation: Invocation, loaded: Loaded) -> list[Finding]:
    known: dict[str, Effective] = {}  # where the control tables could be read
    database = await _ask_database(loaded, known)
    loaded = accounts.hidden(invocation, accounts.joined(loaded, known))
    return [
        *findings.quotas(loaded.config),
        *database,
        *await _or_failed("redis", _ask_redis(loaded)),
        *findings.accounts(known),
        *addressing.look_at_effects(loaded, known),
        *await _ask_accounts(loaded),
    ]


async def _ask_redis(loaded: Loaded) -> list[Finding]:
    if loaded.config.quota.ledger != "redis":
        return []
    await valkey.ping(loaded.config.quota.shared)
    return [Finding("redis", "answers")]


def _nobody_listens(_: Event) -> None:
    """Take an event that no check has a use for."""


# --- The database ---------------------------------------------------------------------------------


async def _ask_database(loaded: Loaded, known: dict[str, Effective]) -> list[Finding]:
    """Ask the database; `known` is filled with the accounts that it says, too."""
    config = loaded.config
    home = config.daemon.data_dir / "postgresql"
    if config.database.url is None and not home.exists():
        known.update(accounts.of_the_file(loaded))
        said = f"embedded, made by the first run in {config.daemon.data_dir}"
        return [Finding("database", said)]

    async def look(hops: Hops) -> list[Finding]:
        return await _look_around(loaded, hops, known)

    return await _or_failed("database", with_database(config, look, emit=_nobody_listens))


async def _or_failed(what: str, asked: Awaitable[list[Finding]]) -> list[Finding]:
    try:
        return await asked
    except SyncdError as error:
        return [findings.failed(what, error)]


async def _look_around(loaded: Loaded, hops: Hops, known: dict[str, Effective]) -> list[Finding]:
    server = await hops.run(questions.server)
    result = [findings.database(server)]
    missing = await _or_failed("control tables", _look_at_control_tables(loaded, hops))
    result += missing
    newest = await hops.run(migrations.applied)
    tables_stand = newest > 0
    from_tables = newest >= accounts.MIGRATION
    every = await accounts.effective(loaded, hops) if from_tables else accounts.of_the_file(loaded)
    known.update(every)
    loaded = accounts.joined(loaded, known)
    config = loaded.config
    if tables_stand:
        life = await hops.run(questions.life)
        result += [findings.connections(config, life), findings.sharing(config, life)]
    for job in config.jobs.values():
        result += await _or_failed(
            f"job {job.name}",
            _look_at_job(loaded, hops, job, server=server, has_history=tables_stand),
        )
    return list(dict.fromkeys(result))  # two jobs may name the same tables


async def _look_at_control_tables(loaded: Loaded, hops: Hops) -> list[Finding]:
    missing = await hops.run(migrations.missing)
    names = [f"{each.number:04} {each.name}" for each in missing]
    return [findings.control_tables(names, own=loaded.config.database.url is None)]


async def _look_at_job(
    loaded: Loaded, hops: Hops, job: Job, *, server: questions.Server, has_history: bool
) -> list[Finding]:
    instance = loaded.config.instances[job.connector]
    result = []
    for feed, streams in walked_by(loaded.plugins, instance, job, loaded.config.jobs.values()):
        pipeline = loaded.plugins.pipeline(instance, feed)
        target = Target.of(instance, pipeline, streams)
        for table in target.tables.values():
            statements = [each.as_string() for each in await hops.run(bulk.plan, table)]
            result.append(findings.data_table(str(table), statements, may_create=server.may_create))
        what = f"select of {instance.name}.{feed.streams[0].name}"
        result += await _or_failed(what, _look_at_select(loaded, hops, pipeline, target, what))
        result += await _foresee(loaded, hops, job, feed, target, has_history=has_history)
    return result


async def _look_at_select(
    loaded: Loaded, hops: Hops, pipeline: Pipeline, target: Target, what: str
) -> list[Finding]:
    """Have PostgreSQL look at what a derived stream is made with; it is not run."""
    derived = derived_of(pipeline, target)
    if derived is None or pipeline.derivation is None:
        return []
    for table in sources_of(loaded.plugins, pipeline):
        if await hops.run(bulk.plan, table):
            said = f"is looked at by the next run, which makes {table} fit first"
            return [Finding(what, said)]
    await hops.run(check_derived, derived)
    return [Finding(what, f"fits; it reads {', '.join(pipeline.derivation.reads)}")]


async def _foresee(
    loaded: Loaded, hops: Hops, job: Job, feed: Feed, target: Target, *, has_history: bool
) -> list[Finding]:
    """Say which passes the job will walk next."""
    instance = loaded.config.instances[job.connector]
    pipeline = loaded.plugins.pipeline(instance, feed)
    order = Order(job.name, job.mode if feed.incremental else "full", target)
    known = await hops.run(questions.standings, instance.name, feed.name) if has_history else []
    result = []
    for account in instance.accounts_of(feed):
        theirs: list[questions.Standing | None] = [s for s in known if s.account == account.name]
        for standing in theirs or [None]:  # none: it never ran
            part = Slice(standing.slice, standing.slice_settings) if standing else Slice()
            partition = Partition(instance.name, account.name, feed.name, part)
            wanted = wanted_of(pipeline, order, part)
            what = f"job {job.name}: {partition}"
            result.append(findings.next_pass(what, standing, wanted, now=datetime.now(UTC)))
    return result


# --- The upstreams --------------------------------------------------------------------------------


async def _stored(loaded: Loaded) -> Mapping[Owner, Row]:
    """Return the credentials of the vault, where accounts have some and the database says them."""
    config = loaded.config
    home = config.daemon.data_dir / "postgresql"
    wanted = any(
        instance.upstream(account).authorize is not None
        for instance in config.instances.values()
        for account in instance.accounts
    )
    if not wanted or (config.database.url is None and not home.exists()):
        return {}

    async def look(hops: Hops) -> Mapping[Owner, Row]:
        return await hops.run(credentials.every)

    try:
        return await with_database(config, look, emit=_nobody_listens)
    except StoreError:
        return {}  # the database's own finding says why


async def _ask_accounts(loaded: Loaded) -> list[Finding]:
    limiters = Limiters(random=Random())  # noqa: S311  # jitter, no secrets
    stored = await _stored(loaded)
    interviews = [
        _Interview(loaded, instance, account, limiters, stored)
        for instance in loaded.config.instances.values()
        for account in instance.accounts
    ]
    at_once = trio.CapacityLimiter(ACCOUNTS_AT_ONCE)
    answers: dict[int, list[Finding]] = {}

    async def ask(number: int) -> None:
        async with at_once:
            answers[number] = await interviews[number].findings()

    async with trio.open_nursery() as nursery:
        for number, _ in enumerate(interviews):
            nursery.start_soon(ask, number)
    return [each for number in sorted(answers) for each in answers[number]]


@attrs.frozen
class _Interview:
    """Puts the plugin's question to one account of an upstream."""

    loaded: Loaded
    instance: Instance[Any]
    account: Account[Any]
    limiters: Limiters
    stored: Mapping[Owner, Row]

    async def findings(self) -> list[Finding]:
        """Say until when the account's credential is good, and what its upstream answers."""
        instance, account, now = self.instance, self.account, datetime.now(UTC)
        what, kept = f"credential {instance.name}.{account.name}", None
        found = []
        try:
            ends_at = expiry_of(instance, account)
            if ends_at is not None:
                found.append(findings.expiry(what, ends_at, now=now))
            if instance.upstream(account).authorize is not None:
                owner = Owner(instance.name, account.name)
                keys = vault.opened(self.loaded.config)
                kept = sealing.opened(keys, owner, self.stored.get(owner))
                found.append(findings.credential(what, kept.credential, now=now))
        except SyncdError as error:
            return [*found, findings.failed(what, error)]
        return [*found, await self._finding(kept)]

    async def _finding(self, kept: Kept | None) -> Finding:
        what = f"account {self.instance.name}.{self.account.name}"
        if kept is not None and not kept.is_valid(datetime.now(UTC)):
            return Finding(what, "not asked: its access token has expired; the next run renews it")
        question = self.loaded.plugins.check(self.instance)
        if question is None:
            return Finding(what, "its plugin has no check")
        try:
            with trio.fail_after(ACCOUNT_SECONDS):
                return Finding(what, await self._answer(question, kept))
        except trio.TooSlowError:
            said = f"no answer within {ACCOUNT_SECONDS:.0f} s"
            return findings.failed(what, Unavailable(self.instance.name, said, "is it reachable?"))
        except SyncdError as error:
            return findings.failed(what, error)

    async def _answer(self, question: Check, kept: Kept | None) -> str:
        instance, account = self.instance, self.account
        async with reached(
            self.loaded, instance, account, limiters=self.limiters, emit=_nobody_listens, kept=kept
        ) as reach:
            whole = Partition(instance.name, account.name, instance.connector.feeds[0].name)
            request = Request("full", None, reach.clock.now())
            return await checked(question, reach.context(whole, request))
