"""The embedded server as its users see it: started or joined, shared, stopped by the last of them.

A user is a process that holds a share of the `users` lock, so a dead one never counts. Who starts
or leaves does so under `lock`; who then can have `users` alone is the last, and stops the server.
The server holds the lock `server` through all its processes: it needs no pid to be known alive.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Final, Self

from syncd.embedded import binaries as programs
from syncd.embedded import cluster, locks, unprivileged
from syncd.embedded.binaries import Binaries
from syncd.embedded.place import Place, make_home, settle
from syncd.errors import ConfigError, StoreUnavailable

NO_SETTINGS: Final[Mapping[str, str]] = MappingProxyType({})

# Nothing of a throwaway server must survive a loss of power (PostgreSQL manual, 14.5). Its password
# is drawn and lives as long as it does: hashing it once is enough (19.3.1), and saves 5 ms of each
# connection.
THROWAWAY: Final[Mapping[str, str]] = MappingProxyType(
    {
        "fsync": "off",
        "synchronous_commit": "off",
        "full_page_writes": "off",
        "scram_iterations": "1",
    }
)


class EmbeddedServer:
    """A share in a running server; `close` gives it back, and the last one stops the server.

    Its `conninfo` names the password's file and not the password, so that no output can hold it.
    """

    def __init__(
        self, place: Place, binaries: Binaries, users: int, socket_dir: Path, *, started: bool
    ) -> None:
        self.data_dir = place.home.parent
        self.started = started  # by this call; false where it was running
        self.version = place.version.read_text().strip()  # the running server's, e.g. "18.6"
        self.socket_dir = socket_dir
        self.password_file = place.password
        self.log_file = place.log
        self._place = place
        self._psql = binaries.program("psql")
        self._users: int | None = users

    @property
    def conninfo(self) -> str:
        """What libpq and psycopg connect with."""
        words = {
            "host": str(self.socket_dir),
            "port": str(cluster.PORT),
            "dbname": cluster.NAME,
            "user": cluster.NAME,
            "passfile": str(self.password_file),
        }
        return " ".join(f"{word}={_quoted(value)}" for word, value in words.items())

    @property
    def psql_command(self) -> str:
        """A command line that shows the tables to whom may read the password's file.

        The wheel's own psql: the system's may be older than the server and misread its catalog.
        """
        where = ["-h", str(self.socket_dir), "-p", str(cluster.PORT)]
        command = shlex.join([str(self._psql), *where, "-U", cluster.NAME, "-d", cluster.NAME])
        return f"PGPASSFILE={shlex.quote(str(self.password_file))} {command}"

    def close(self, *, timeout_seconds: float = 30) -> None:
        """Give the share back, and stop the server where it was the last one; again is nothing.

        Raises: `StoreUnavailable` where the server has not ended by then; the share is given back.
        """
        if self._users is None:
            return
        users, self._users = self._users, None
        give_up_at = time.monotonic() + timeout_seconds
        try:
            with (
                _translated(self._place.home),
                locks.one_at_a_time(self._place.lock, give_up_at=give_up_at),
            ):
                if locks.try_exclusive(users):
                    cluster.stop(self._place, give_up_at=give_up_at)
        finally:
            locks.release(users)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"EmbeddedServer({str(self.data_dir)!r}, started={self.started})"


def start(
    data_dir: Path,
    *,
    settings: Mapping[str, str] = NO_SETTINGS,
    timeout_seconds: float = 60,
) -> EmbeddedServer:
    """Start the server of a data directory, or join the one that runs.

    Blocking: call it in a thread. `settings` are PostgreSQL's and hold until the server stops, so
    they have no effect where it is joined. The first start makes the cluster (about 2 seconds).

    Raises: `ConfigError` where the operator must change something (other major version, wrong
    user, unusable directory), `StoreUnavailable` where it does not come up in time.
    """
    give_up_at = time.monotonic() + timeout_seconds
    with _translated(data_dir), ExitStack() as undo:
        home = make_home(data_dir)
        undo.enter_context(locks.one_at_a_time(home / "lock", give_up_at=give_up_at))
        place = settle(home, give_up_at=give_up_at)
        unprivileged.give(place.lock, place.user)
        binaries = programs.find(place, give_up_at=give_up_at)
        cluster.refuse_settings(place, settings)
        cluster.refuse_unusable(place, binaries)
        with ExitStack() as on_failure:
            users = locks.open_lock(place.users, place.user)
            on_failure.callback(locks.release, users)
            alone = locks.try_exclusive(users)
            socket_dir = _join(place, alone=alone, give_up_at=give_up_at)
            started = socket_dir is None
            if socket_dir is None:
                socket_dir = _bring_up(place, binaries, settings, give_up_at=give_up_at)
            locks.share(users)
            server = EmbeddedServer(place, binaries, users, socket_dir, started=started)
            on_failure.pop_all()
        return server


def _join(place: Place, *, alone: bool, give_up_at: float) -> Path | None:
    """Find the socket's directory of the server that runs; `None` where none is left running."""
    if not cluster.is_alive(place) or not _is_up(place, give_up_at=give_up_at):
        return None
    if socket_dir := cluster.reach(place):
        return socket_dir
    if not alone and cluster.has_postmaster(place):
        raise StoreUnavailable(
            place.where,
            "it runs, but its socket is gone",
            "stop the other syncd on this data directory and start again",
        )
    cluster.stop(place, give_up_at=give_up_at)
    return None


def _bring_up(
    place: Place, binaries: Binaries, settings: Mapping[str, str], *, give_up_at: float
) -> Path:
    """Launch a server, on a cluster that is made where there is none; its socket's directory."""
    usable = programs.for_server(binaries, place, give_up_at=give_up_at)
    cluster.initialise(place, usable, settings, give_up_at=give_up_at)
    log_bytes = cluster.log_bytes(place)
    cluster.launch(place, usable, settings)
    socket_dir = cluster.reach(place) if _is_up(place, give_up_at=give_up_at) else None
    if socket_dir is None:
        reason = cluster.why_it_ended(place, since_bytes=log_bytes)
        raise StoreUnavailable(place.where, f"the server ended: {reason}", f"see {place.log}")
    return socket_dir


def _is_up(place: Place, *, give_up_at: float) -> bool:
    """Wait until a live server is ready; false where it ended instead."""

    def decided() -> bool:
        return cluster.is_ready(place) or not cluster.is_alive(place)

    if not locks.wait_for(decided, give_up_at=give_up_at):
        raise StoreUnavailable(
            place.where,
            "it is still starting or stopping",
            f"start again, it goes on meanwhile; see {place.log}",
        )
    return cluster.is_alive(place)


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    """Turn what the system refuses into our errors."""
    try:
        yield
    except PermissionError as exc:
        raise ConfigError(
            f"embedded postgresql in {path}",
            f"{exc.filename or 'a file'}: {exc.strerror}",
            "run syncd as the owner of the data directory, or name another one",
        ) from exc
    except OSError as exc:
        raise StoreUnavailable(
            f"embedded postgresql in {path}", str(exc), "see that the disk has room and is writable"
        ) from exc


def _quoted(value: str) -> str:
    if re.fullmatch(r"[\w./-]+", value):
        return value
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


@contextmanager
def throwaway(
    *, settings: Mapping[str, str] = THROWAWAY, within: Path | None = None
) -> Iterator[EmbeddedServer]:
    """Run a server for a test session, in a temporary directory; nothing of it is left.

    `within`: where that directory is made; by default where temporary files are.
    """
    data_dir = Path(tempfile.mkdtemp(prefix="syncd-", dir=within))
    root = data_dir
    try:
        if os.geteuid() == 0:  # let it run here rather than below `place.ELSEWHERE`
            unprivileged.give(data_dir, unprivileged.choose(data_dir))
        with start(data_dir, settings=settings) as server:
            root = server.password_file.parent
            yield server
    finally:
        shutil.rmtree(root, ignore_errors=True)
        shutil.rmtree(data_dir, ignore_errors=True)
