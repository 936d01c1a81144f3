"""With which account an effect is delivered: one that is there, as the tables say it just now."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import attrs
import database_facts as facts
import post_office
import pytest
import trio
from post_office import LETTER, PARCEL, SPOILT, Office, Settings, configuration, open_office
from processes import seen

from syncd import Connector, Quota, Upstream, background, config, deliverers, hookimpl
from syncd.accounts import Books, Effective, take
from syncd.cli import accounts as accounts_of
from syncd.cli import effects as drawn
from syncd.cli import ending, status
from syncd.cli.addressing import look_at_effects
from syncd.cli.findings import Finding
from syncd.cli.loading import Loaded
from syncd.daemon import Process, Root
from syncd.errors import ConfigError
from syncd.events import EffectAccounts, EffectLaneDamped, EffectStranded, Event
from syncd.jobs import run_job
from syncd.model import Account
from syncd.observe import Observer
from syncd.plugins import Plugins
from syncd.store import accounts as stored
from syncd.store import effects as store
from syncd.store import overview
from syncd.store.accounts import Sealed
from syncd.store.effects import Posting
from syncd.store.selection import Outgoing

E = TypeVar("E", bound=Event)
ROUTES = (
    f'[effects]\n"{PARCEL.name}" = "branch"\n"{LETTER.name}" = "off"\n"{SPOILT.name}" = "off"\n'
)


@attrs.frozen
class Clerk:
    """Settings of an account: what the upstream knows it by."""

    badge: str = "none"


class Branches:
    """A connector that delivers as the office does, with accounts."""

    @hookimpl
    def connectors(self) -> Sequence[Connector]:
        def upstream(settings: Settings, clerk: Clerk) -> Upstream:
            quotas = (Quota("all"), Quota("parcels", concurrency=8, per="account"))
            return Upstream(settings.base_url, quotas=quotas, headers={"x-clerk": clerk.badge})

        own: Any = {"name": "branch", "account_settings": Clerk, "upstream": upstream}
        return [attrs.evolve(post_office.CONNECTOR, **own)]


@attrs.frozen
class World:
    """A process that delivers, and what is done to its accounts meanwhile."""

    process: Process
    dsn: str
    events: list[Event]

    @property
    def books(self) -> Books:
        config = self.process.config
        return Books.of(config, config.instances["branch"], self.process.vault)

    async def take(self, **badges: str) -> None:
        rows = [self.books.sealed(name, {"badge": badge}) for name, badge in badges.items()]
        fine = [row for row in rows if isinstance(row, Sealed)]
        await self.process.hops.run(take, self.books, fine)

    async def post(self, account: str, *keys: str) -> None:
        parcel = partial(Posting, "branch", account, PARCEL.name)
        posted = [parcel(key, "{}", None, 0.0, "office.things", None) for key in keys]
        await self.process.hops.run(store.enqueue, posted, ordered=False)
        self.process.bells.ring([PARCEL.name])

    async def sync(self) -> None:
        job = self.process.config.jobs["office"]
        results = await run_job(self.process, job, mode="full", wait_seconds=0.0)
        assert [result.verdict for result in results] == ["complete"], results

    async def told(self, kind: type[E], times: int = 1) -> list[E]:
        def look() -> list[E] | None:
            found = [event for event in self.events if isinstance(event, kind)]
            return found if len(found) >= times else None

        return await seen(kind.name, look, told=lambda: repr(self.events[-20:]))

    async def is_delivered(self, key: str) -> None:
        def look() -> bool:
            return any(r["key"] == key and r["state"] == "delivered" for r in self.rows())

        await seen(f"{key} delivered", look, told=lambda: str(self.rows()))

    async def listed(self, *states: str) -> list[dict[str, Any]]:
        known = self.process.config.instances.values()
        which = Outgoing(states=states)
        return await self.process.hops.run(store.listed, which, configured=known, most=9)

    async def tasks(self) -> list[status.Task]:
        """Return what `syncd status` asks an operator to do about effects."""
        known = self.process.config.instances.values()
        look = partial(overview.overview, most=9, configured=known)
        found = status.tasks(await self.process.hops.run(look))
        return [each for each in found if "effect" in each.what]

    def rows(self) -> list[dict[str, Any]]:
        return facts.rows(self.dsn, "SELECT * FROM syncd.effect ORDER BY id")


def file_of(folder: Path, dsn: str, office: Office, *accounts: str) -> Path:
    """Write a configuration in which the branch delivers what follows from the office's rows."""
    file = configuration(folder, dsn, office)
    branch = f'[connectors.branch]\nbase_url = "{office.public_url}"\n'
    tables = (f'[[connectors.branch.accounts]]\nname = "{name}"\n' for name in accounts)
    file.write_text("".join([file.read_text(), branch, *tables, ROUTES]))
    return file


async def living(file: Path, dsn: str, main: Callable[[World], Awaitable[None]]) -> None:
    """Do something in a process that delivers meanwhile."""
    plugins = Plugins({"office": post_office, "branch": Branches()})
    settings = config.structure(config.read(file), plugins.connectors, environment={})
    observer = Observer()
    events: list[Event] = []
    observer.listen(events.append)

    async def inside(process: Process) -> None:
        async with background.opened(process) as delivering, trio.open_nursery() as nursery:
            nursery.start_soon(delivering.run)
            await main(World(process, dsn, events))
            delivering.retire()

    await Root(settings, plugins, observer).run(inside)


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(deliverers, "STRANDED_SECONDS", 0.1)


async def test_a_job_whose_effects_are_for_an_account_that_nobody_has_is_refused(
    dsn: str, tmp_path: Path
) -> None:
    async with open_office({"id": 1}) as office:

        async def main(world: World) -> None:
            with pytest.raises(ConfigError) as error:
                await world.sync()
            said = str(error.value)
            assert said.startswith('effects."office.parcel"'), said
            assert "of office.default is for the account 'default' of branch" in said
            assert "which has north, south" in said
            assert "syncd accounts add branch default" in said
            assert '"office.parcel" = "off"' in said
            assert facts.rows(dsn, "SELECT FROM syncd.effect") == []

            await world.take(default="d")  # from now on the table says them, too
            await world.told(EffectAccounts)
            await world.sync()
            await world.is_delivered("parcel-1")

        await living(file_of(tmp_path, dsn, office, "north", "south"), dsn, main)
    assert office.clerks == ["d"]


async def test_effects_for_an_account_that_nobody_has_wait_are_told_of_and_go_on(
    dsn: str, tmp_path: Path
) -> None:
    async with open_office({"id": 1}, {"id": 2}) as office:

        async def main(world: World) -> None:
            await world.take(north="n", south="s")
            await world.told(EffectAccounts)
            await world.sync()
            (stranded,) = await world.told(EffectStranded)
            assert attrs.asdict(stranded) == {
                "kind": PARCEL.name,
                "instance": "branch",
                "account": "default",
                "effects": 2,
            }
            listed = await world.listed()
            assert {row["account_is"] for row in listed} == {"unknown"}
            assert "account unknown" in drawn.as_table(listed)
            (task,) = await world.tasks()
            assert task == status.Task(
                "branch.default: 2 effects of kind office.parcel stranded (there is no such "
                "account)",
                "add it to the configuration or with `syncd accounts add branch default`, or run "
                "`syncd effects discard --instance branch --account default --kind office.parcel`",
                grave=True,
            )

            await world.take(default="d")
            await world.is_delivered("parcel-1")
            await world.is_delivered("parcel-2")
            assert await world.tasks() == []
            await world.post("nobody", "other")
            *_, again = await world.told(EffectStranded, 2)
            assert (again.account, again.effects) == ("nobody", 1), "each is told of once"

        await living(file_of(tmp_path, dsn, office), dsn, main)
    assert set(office.clerks) == {"d"}


async def test_lanes_follow_the_accounts_of_the_table(dsn: str, tmp_path: Path) -> None:
    async with open_office() as office:

        async def main(world: World) -> None:
            run = world.process.hops.run
            await world.take(north="n")
            await world.told(EffectAccounts)
            await world.post("north", "one")
            await world.is_delivered("one")

            await world.take(north="m")
            *_, changed = await world.told(EffectAccounts, 2)
            assert (changed.added, changed.removed, changed.changed) == (0, 0, 1)
            await world.post("north", "two")
            await world.is_delivered("two")

            await run(stored.disable, "branch", ["north"])
            *_, left = await world.told(EffectAccounts, 3)
            assert (left.added, left.removed, left.changed) == (0, 1, 0)
            await world.post("north", "three")
            await world.told(EffectStranded)
            (row,) = await world.listed("pending")
            assert (row["key"], row["account_is"]) == ("three", "disabled")
            (task,) = await world.tasks()
            assert task.what.endswith("stranded (the account is disabled)")
            assert task.do.startswith("run `syncd accounts enable branch north`, or ")
            assert task.grave

            await run(stored.enable, "branch", ["north"])
            await world.is_delivered("three")

            await run(stored.remove, "branch", ["north"])
            await world.told(EffectAccounts, 5)
            await world.post("north", "four")
            await world.told(EffectStranded, 2)
            (row,) = await world.listed("pending")
            assert (row["key"], row["account_is"]) == ("four", "unknown")

        await living(file_of(tmp_path, dsn, office), dsn, main)
    assert office.clerks == ["n", "m", "m"]


async def test_what_is_under_way_for_an_account_that_leaves_is_recorded(
    dsn: str, tmp_path: Path
) -> None:
    async with open_office() as office:
        gate = trio.Event()
        office.gate = gate

        async def main(world: World) -> None:
            await world.take(north="n", south="s")
            await world.told(EffectAccounts)
            await world.post("north", "one")
            await seen("the call", lambda: office.clerks == ["n"])
            await world.process.hops.run(stored.disable, "branch", ["north"])
            await world.told(EffectAccounts, 2)
            gate.set()
            await world.is_delivered("one")
            await world.post("south", "two")
            await world.is_delivered("two")

        await living(file_of(tmp_path, dsn, office), dsn, main)
    assert office.clerks == ["n", "s"]


# --- What is told of before anything runs ---------------------------------------------------------


def checked(file: Path, **found: Effective) -> list[Finding]:
    """Look as `syncd check` does, once it has read the accounts of the table."""
    plugins = Plugins({"office": post_office, "branch": Branches()})
    settings = config.structure(config.read(file), plugins.connectors, environment={})
    loaded = Loaded(settings, plugins, ())
    known = accounts_of.of_the_file(loaded) | found
    return look_at_effects(accounts_of.joined(loaded, known), known)


def test_check_says_who_delivers_what_and_what_is_wrong_with_it(tmp_path: Path) -> None:
    office = Office("http://127.0.0.1:9")
    file = file_of(tmp_path, "postgresql://nowhere/", office, "default")
    assert [(each.what, each.said, each.ok) for each in checked(file)] == [
        ("effects office.letter", "switched off under [effects]", True),
        ("effects office.parcel", "delivered by branch", True),
        ("effects office.spoilt", "switched off under [effects]", True),
    ]

    text = file.read_text()
    file.write_text(text.replace('"office.letter" = "off"\n', '"office.leter" = "off"\n'))
    letter, parcel, _, warning = checked(file)
    assert "several deliver it: branch, office" in letter.said
    assert (letter.code, parcel.ok) == (ending.CONFIGURATION, True)
    assert (warning.what, warning.ok) == ("warning", True)
    assert warning.said.startswith('effects."office.leter": rows of no configured connector have')
    assert "did you mean 'office.letter'" in warning.said

    file.write_text(text.replace('"office.parcel" = "branch"', '"office.parcel" = "bureau"'))
    (_, parcel, _) = checked(file)
    assert "'bureau' delivers no effects of this kind; able: branch, office" in parcel.said
    assert parcel.code == ending.CONFIGURATION


def test_check_says_which_effects_are_for_an_account_that_nobody_has(tmp_path: Path) -> None:
    office = Office("http://127.0.0.1:9")
    _, parcel, _ = checked(file_of(tmp_path, "postgresql://nowhere/", office, "north", "south"))
    assert "for the account 'default' of branch, which has north, south" in parcel.said
    assert parcel.code == ending.CONFIGURATION

    file = file_of(tmp_path, "postgresql://nowhere/", office, "north")
    plugins = Plugins({"office": post_office, "branch": Branches()})
    settings = config.structure(config.read(file), plugins.connectors, environment={})
    south = Account("south", Clerk())
    branch = settings.instances["branch"]
    more = attrs.evolve(branch, accounts=(*branch.accounts, south))
    found = Effective(more, known={"south": (Sealed("south", {}, None), south)})
    _, parcel, _ = checked(file, branch=found)
    assert parcel.said == (
        "delivered by branch, but those for its account default wait until there is one of that "
        "name"
    )
    assert parcel.ok


async def test_an_account_that_is_told_to_wait_keeps_no_other_one_waiting(
    dsn: str, tmp_path: Path
) -> None:
    async with open_office() as office:
        office.waits = {"slow-badge": "600"}

        async def main(world: World) -> None:
            await world.take(slow="slow-badge", fast="fast-badge")
            await world.told(EffectAccounts)
            await world.post("slow", "first")
            (damped, *_) = await world.told(EffectLaneDamped)
            assert damped.seconds >= 599.0
            for number in range(3):
                await world.post("fast", f"parcel-{number}")
                await world.is_delivered(f"parcel-{number}")

        await living(file_of(tmp_path, dsn, office), dsn, main)

    assert len(office.bulks) == 4, "and it is not asked again"


async def test_however_much_an_account_has_others_do_not_wait_for_it(
    dsn: str, tmp_path: Path
) -> None:
    async with open_office() as office:
        office.gate = gate = trio.Event()

        async def main(world: World) -> None:
            await world.take(busy="busy-badge", other="other-badge")
            await world.told(EffectAccounts)
            await world.post("busy", *(f"heap-{number}" for number in range(100)))
            await seen("all slots taken", lambda: len(office.clerks) == PARCEL.concurrency)
            await world.post("other", "single")
            gate.set()
            await seen("all of it", lambda: len(office.order) == 101)

        await living(file_of(tmp_path, dsn, office), dsn, main)

    under_way = PARCEL.concurrency * PARCEL.bulk_max
    assert office.order.index("single") <= under_way + PARCEL.bulk_max
