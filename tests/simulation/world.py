"""A world of one seed: daemons on virtual time, one real database, upstreams behind networks."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any, Protocol, TypeVar

import attrs
import psycopg
import trio
import trio.testing
from daemons import Daemon, Means
from inline import VIRTUAL, Outcome, borrowed, now
from judge import Judge
from psycopg.rows import tuple_row
from transport import Answer, Asked, MemoryWire, Network

from syncd.config import Config, parse, structure
from syncd.errors import SyncdError
from syncd.events import Event, RoundFinished, RoundStarted, TableChanged
from syncd.plugins import Plugins
from syncd.store import rounds
from syncd.store.hops import Connection

T = TypeVar("T")
E = TypeVar("E", bound=Event)

# Each closing of a cursor leaves a row, and so does each effect, with the transaction it was in; so
# does each end of an effect. A cursor whose item was named in a newer state meanwhile is left open
# by the commit of its page: that is a closing, too. Of the chain from mail to trackers each row is
# noted as it is written, what is set aside, each webhook that is heard, and when an account is
# parked and resumed.
NOTED = """
    CREATE SCHEMA simulated;
    CREATE TABLE simulated.closed (
        pass bigint, cursor_key bytea, cursor_version bigint,
        transaction xid8 DEFAULT pg_current_xact_id()
    );
    CREATE FUNCTION simulated.note() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO simulated.closed VALUES (NEW.pass_id, NEW.cursor_key, NEW.version);
        RETURN NULL;
    END $$;
    CREATE TRIGGER noted AFTER UPDATE ON syncd.frontier FOR EACH ROW
        WHEN (NEW.state = 'closed') EXECUTE FUNCTION simulated.note();
    CREATE TABLE simulated.left_open (transaction xid8 DEFAULT pg_current_xact_id());
    CREATE FUNCTION simulated.note_left_open() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO simulated.left_open DEFAULT VALUES;
        RETURN NULL;
    END $$;
    CREATE TRIGGER left_open AFTER UPDATE ON syncd.frontier FOR EACH ROW
        WHEN (OLD.state = 'open' AND NEW.state = 'open' AND NEW.last_error IS NULL
              AND OLD.version IS NOT DISTINCT FROM NEW.version)
        EXECUTE FUNCTION simulated.note_left_open();
    CREATE VIEW simulated.committed AS
        SELECT transaction FROM simulated.closed
        UNION ALL SELECT transaction FROM simulated.left_open;
    CREATE TABLE simulated.enqueued (
        kind text, key text, transaction xid8 DEFAULT pg_current_xact_id()
    );
    CREATE FUNCTION simulated.note_effect() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO simulated.enqueued VALUES (NEW.kind, NEW.key);
        RETURN NULL;
    END $$;
    CREATE TRIGGER noted AFTER INSERT ON syncd.effect FOR EACH ROW
        EXECUTE FUNCTION simulated.note_effect();
    CREATE TABLE simulated.settled (kind text, key text, at timestamptz);
    CREATE FUNCTION simulated.note_end() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO simulated.settled VALUES (NEW.kind, NEW.key, NEW.ended_at);
        RETURN NULL;
    END $$;
    CREATE TRIGGER ended AFTER UPDATE ON syncd.effect FOR EACH ROW
        WHEN (OLD.ended_at IS NULL AND NEW.ended_at IS NOT NULL)
        EXECUTE FUNCTION simulated.note_end();
    CREATE TABLE simulated.heard (
        event_id text, at timestamptz, transaction xid8 DEFAULT pg_current_xact_id()
    );
    CREATE FUNCTION simulated.note_event() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO simulated.heard VALUES (NEW.event_id, syncd.clock());
        RETURN NULL;
    END $$;
    CREATE TRIGGER noted AFTER INSERT ON syncd.event FOR EACH ROW
        EXECUTE FUNCTION simulated.note_event();
    CREATE TABLE simulated.written (
        id bigint GENERATED ALWAYS AS IDENTITY, name text, content jsonb, at timestamptz,
        transaction xid8 DEFAULT pg_current_xact_id()
    );
    CREATE FUNCTION simulated.note_row() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO simulated.written (name, content, at)
            VALUES (TG_TABLE_SCHEMA || '.' || TG_TABLE_NAME, to_jsonb(NEW), syncd.clock());
        RETURN NULL;
    END $$;
    CREATE TABLE simulated.aside (account text, raw bytea, at timestamptz);
    CREATE FUNCTION simulated.note_aside() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO simulated.aside VALUES (NEW.account, NEW.raw, syncd.clock());
        RETURN NULL;
    END $$;
    CREATE TRIGGER noted AFTER INSERT OR UPDATE ON syncd.quarantine FOR EACH ROW
        WHEN (NEW.stream = 'scanned_conversations') EXECUTE FUNCTION simulated.note_aside();
    CREATE TABLE simulated.parked (account text, state text, at timestamptz);
    CREATE FUNCTION simulated.note_parked() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO simulated.parked VALUES (NEW.name, NEW.state, syncd.clock());
        RETURN NULL;
    END $$;
    CREATE TRIGGER noted AFTER UPDATE ON syncd.account FOR EACH ROW
        WHEN (OLD.state IS DISTINCT FROM NEW.state) EXECUTE FUNCTION simulated.note_parked();
    CREATE FUNCTION simulated.watch() RETURNS event_trigger LANGUAGE plpgsql AS $$
    DECLARE made record;
    BEGIN
        FOR made IN SELECT * FROM pg_event_trigger_ddl_commands()
            WHERE command_tag = 'CREATE TABLE' AND schema_name IN ('front', 'ship24')
        LOOP
            EXECUTE format(
                'CREATE TRIGGER written AFTER INSERT OR UPDATE ON %s'
                ' FOR EACH ROW EXECUTE FUNCTION simulated.note_row()', made.object_identity);
        END LOOP;
    END $$;
    CREATE EVENT TRIGGER watched ON ddl_command_end WHEN TAG IN ('CREATE TABLE')
        EXECUTE FUNCTION simulated.watch();
"""

KEPT = {("syncd", "migration")}


class Upstream(Protocol):
    """What a world asks of the upstream's stand-in."""

    judges: Mapping[str, Judge]

    def answer(self, asked: Asked) -> Answer: ...

    def change(self, random: Random) -> None:
        """Let records change, and one more appear."""
        ...

    def truth(self) -> set[tuple[Any, ...]]:
        """Return the rows that its records stand for."""
        ...


def equip(dsn: str) -> None:
    """Make a database with the control tables one for simulations."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(VIRTUAL)
        connection.execute(NOTED)


def reset(dsn: str) -> None:
    """Empty what is not empty: cheaper than another clone of the template."""
    with borrowed(dsn) as lent:
        connection = lent.cursor(row_factory=tuple_row)
        found = connection.execute(
            "SELECT schemaname, tablename FROM pg_tables"
            " WHERE schemaname NOT IN ('pg_catalog', 'information_schema') ORDER BY 1, 2"
        ).fetchall()
        names = [f'"{schema}"."{table}"' for schema, table in found if (schema, table) not in KEPT]
        exist = ", ".join(f"EXISTS (SELECT FROM {name})" for name in names)
        filled = connection.execute(f"SELECT {exist}".encode()).fetchone()
        assert filled is not None
        full = ", ".join(name for name, is_filled in zip(names, filled, strict=True) if is_filled)
        if full:
            connection.execute(f"TRUNCATE {full} RESTART IDENTITY CASCADE".encode())


@attrs.define
class World:
    """Daemons, what they tell, and the hand that moves them."""

    dsn: str
    seed: object
    plugins: Mapping[str, object]
    networks: Mapping[str, Network]  # by host
    configure: Callable[[], str]  # the configuration, as it is to be from now on
    means: Callable[[World, Plugins], Means]
    restart_seconds: float = 5.0
    remembers: bool = True  # every event; else only what is said of rounds
    events: list[tuple[float, int, Event]] = attrs.field(factory=list)
    daemons: dict[int, Daemon] = attrs.field(factory=dict)  # by slot
    met: Counter[str] = attrs.field(factory=Counter)
    transactions: int = 0
    over: bool = False
    listeners: list[Callable[[float, int, Event], None]] = attrs.field(factory=list)
    _number: int = 0
    _told: trio.Event = attrs.field(factory=trio.Event)
    _plugins: Plugins = attrs.field(init=False)
    _trace: Any = attrs.field(factory=hashlib.sha256)

    def __attrs_post_init__(self) -> None:
        self._plugins = Plugins(self.plugins)

    def config(self) -> Config:
        raw = parse(self.configure(), file="world.toml", folder=Path())
        return structure(raw, self._plugins.connectors, environment={})

    def wire(self, sender: int) -> MemoryWire:
        return MemoryWire(self.networks, sender)

    @property
    def digest(self) -> str:
        """Name all that was told, and when: equal for equal runs."""
        return str(self._trace.hexdigest())

    def tell(self, number: int, event: Event) -> None:
        """Take note of what a daemon told."""
        at = trio.current_time()
        if not isinstance(event, TableChanged):  # a database that was used before has its tables
            self._trace.update(f"{at:.6f} {number} {event!r}\n".encode())
        if self.remembers or isinstance(event, RoundStarted | RoundFinished):
            self.events.append((at, number, event))
        for listen in self.listeners:
            listen(at, number, event)
        if isinstance(event, RoundFinished):
            self._told.set()
            self._told = trio.Event()

    def told(self, kind: type[E]) -> list[tuple[float, int, E]]:
        return [(at, n, event) for at, n, event in self.events if isinstance(event, kind)]

    # --- Daemons ----------------------------------------------------------------------------------

    async def keep(
        self,
        slot: int,
        *,
        dies_at: int | None = None,
        after_seconds: float = 0.0,
    ) -> None:
        """Keep a daemon in a slot: when it ends, another one is started after a while."""
        await trio.sleep(after_seconds)
        while not self.over:
            self._number += 1
            means = self.means(self, self._plugins)
            daemon = Daemon(self._number, means, self.config(), seed=self.seed, dies_at=dies_at)
            dies_at = None
            self.daemons[slot] = daemon
            await daemon.run()
            self._count(daemon)
            if not self.over:
                await trio.sleep(self.restart_seconds)

    def _count(self, daemon: Daemon) -> None:
        for hops in (daemon.hops, daemon.reserved):
            self.transactions += hops.fortune.count
            for outcome, times in hops.met.items():
                self.met[outcome] += times

    @property
    def ready(self) -> list[Daemon]:
        return [daemon for daemon in self.daemons.values() if daemon.is_ready]

    async def until_ready(self, count: int) -> None:
        """Wait for so many daemons to be at work."""
        while len(self.ready) < count:  # noqa: ASYNC110 - virtual time
            await trio.sleep(0.5)

    async def reconfigure(self) -> int:
        """Let every daemon take the configuration over as it now is; say how many did."""
        count = 0
        for daemon in self.ready:
            if not daemon.is_ready:
                continue  # it has ended while another one took it over
            try:
                await daemon.configure(self.config())
            except SyncdError:
                continue  # refused for want of the database; it stays with the one it has
            count += 1
        return count

    def clear(self) -> None:
        """Let nothing more befall anybody."""
        for network in self.networks.values():
            network.clear()
        for daemon in self.daemons.values():
            daemon.clear()

    def end(self) -> None:
        """Drain whoever is there, and start nobody any more."""
        self.over = True
        for daemon in self.daemons.values():
            if daemon.alive:
                daemon.drain("the end")

    # --- The database -----------------------------------------------------------------------------

    @contextmanager
    def connected(self) -> Iterator[Connection]:
        """Connect as an operator does, at the virtual time."""
        with borrowed(self.dsn) as connection:
            connection.execute("SELECT set_config('simulated.now', %s, true)", (now().isoformat(),))
            yield connection

    def ask(self, job: str) -> None:
        """Ask for a round."""
        with self.connected() as connection:
            rounds.ask(connection, job)

    async def rest(self) -> None:
        """Let no round begin any more, and wait for those that run."""
        with self.connected() as connection:
            for job in self.config().jobs:
                rounds.pause(connection, job)
        query = "SELECT FROM syncd.round WHERE status = 'running'"
        while self.rows(query):  # noqa: ASYNC110 - virtual time
            await trio.sleep(1.0)

    def wake(self, job: str) -> None:
        """Let rounds of a job begin again."""
        with self.connected() as connection:
            rounds.unpause(connection, job)

    async def all_delivered(self) -> None:
        """Wait until no effect is open."""
        while self.rows("SELECT FROM syncd.effect WHERE due_at IS NOT NULL LIMIT 1"):  # noqa: ASYNC110 - virtual time
            await trio.sleep(2.0)

    def rows(self, query: str, parameters: Sequence[Any] = ()) -> list[dict[str, Any]]:
        with borrowed(self.dsn) as connection:
            return connection.execute(query.encode(), parameters).fetchall()

    def tuples(self, query: str) -> set[tuple[Any, ...]]:
        return {tuple(row.values()) for row in self.rows(query)}

    async def round_after(self, job: str, *, within_seconds: float) -> RoundFinished | None:
        """Wait for the next round of a job to end."""
        known = len(self.told(RoundFinished))
        with trio.move_on_after(within_seconds):
            while True:
                for _, __, event in self.told(RoundFinished)[known:]:
                    if event.job == job:
                        return event
                await self._told.wait()
        return None


def simulated(main: Callable[..., Any], *args: Any, seed: int) -> Any:
    """Run an async function in virtual time, with Trio's own chance seeded."""
    running: Any = trio._core._run  # there is no public way
    running._ALLOW_DETERMINISTIC_SCHEDULING = True
    running._r.seed(seed)
    return trio.run(main, *args, clock=trio.testing.MockClock(autojump_threshold=0))


__all__ = ["Outcome", "Upstream", "World", "equip", "reset", "simulated"]
