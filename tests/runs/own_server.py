"""A PostgreSQL server of a test's own, to be restarted, crashed, starved and filled.

Its programs are those of this machine (`over_server.programs`). However the tests end, the server
ends: what keeps it reads our end of a pipe.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import attrs
import over_server
import psycopg
import pytest

from syncd.store.hops import Timeouts, connection_options
from syncd.store.migrations import migrate

Mode = Literal["fast", "immediate"]

DEADLINE_SECONDS = 60.0
# SIGTERM for a server that does not catch signals yet: its shell lets it ignore SIGINT until then.
KEEPER = '"$@" & server=$!; read -r line; kill -TERM $server; kill -INT $server; wait $server'
STOPS: Mapping[Mode, signal.Signals] = {"fast": signal.SIGINT, "immediate": signal.SIGQUIT}


@attrs.define
class OwnServer:
    """A cluster in a folder, and the server on it while there is one."""

    bindir: Path
    folder: Path
    data: Path
    settings: Mapping[str, str]
    _keeper: subprocess.Popen[bytes] | None = None

    @property
    def conninfo(self) -> str:
        return f"host={self.folder} port=5432 user=syncd dbname=postgres"

    def initialise(self, *options: str) -> None:
        make: list[str | Path] = [self.bindir / "initdb", "--pgdata", self.data]
        make += ["--username", "syncd", "--auth", "trust", "--encoding", "UTF8", "--locale", "C"]
        user = over_server.unprivileged()
        subprocess.run(
            [*make, "--no-sync", *options], stdout=subprocess.DEVNULL, check=True, **user
        )

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self.launch()
        give_up_at = time.monotonic() + DEADLINE_SECONDS
        while not self.answers():
            assert time.monotonic() < give_up_at, self.said()
            time.sleep(0.02)

    def launch(self) -> None:
        """Start it, whatever becomes of it."""
        self._reap()
        serve: list[str | Path] = [self.bindir / "postgres", "-D", self.data, "-k", self.folder]
        for name, value in ({"listen_addresses": ""} | dict(self.settings)).items():
            serve += ["-c", f"{name}={value}"]
        with (self.folder / "log").open("a") as log:
            self._keeper = subprocess.Popen(
                ["/bin/sh", "-c", KEEPER, "keeper", *serve],
                stdin=subprocess.PIPE,
                stderr=log,
                **over_server.unprivileged(),
            )

    def stop(self, mode: Mode) -> None:
        """Stop it as `pg_ctl stop` does, and see it gone."""
        pid = self._pid
        assert pid is not None, self.said()
        os.kill(pid, STOPS[mode])
        give_up_at = time.monotonic() + DEADLINE_SECONDS
        while alive(pid):
            assert time.monotonic() < give_up_at, self.said()
            time.sleep(0.01)

    def restart(self, mode: Mode) -> None:
        self.stop(mode)
        self.start()

    def close(self) -> None:
        if self.runs:
            self.stop("immediate")
        self._reap()

    def answers(self) -> bool:
        try:
            psycopg.connect(self.conninfo, connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    @property
    def runs(self) -> bool:
        pid = self._pid
        return pid is not None and alive(pid)

    def said(self) -> str:
        log = self.folder / "log"
        return log.read_text(errors="replace") if log.exists() else ""

    @property
    def _pid(self) -> int | None:
        try:
            found = re.match(r"\d+", (self.data / "postmaster.pid").read_text())
        except FileNotFoundError:
            return None
        return int(found[0]) if found else None

    def _reap(self) -> None:
        if self._keeper is not None:
            assert self._keeper.stdin is not None
            self._keeper.stdin.close()
            self._keeper.wait(DEADLINE_SECONDS)
            self._keeper = None

    def database(self) -> str:
        """Make a database with the control tables; its conninfo."""
        name = f"test_{uuid.uuid4().hex[:12]}"
        with psycopg.connect(self.conninfo, autocommit=True) as admin:
            admin.execute(f'CREATE DATABASE "{name}"')
        made = self.conninfo.replace("dbname=postgres", f"dbname={name}")
        with psycopg.connect(made, **connection_options(Timeouts(), "test")) as connection:
            migrate(connection)
        return made


def alive(pid: int) -> bool:
    """Return whether a process is more than a zombie, which its keeper has not waited for yet."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return not stat.rpartition(") ")[2].startswith("Z")


@contextmanager
def own_server(
    settings: Mapping[str, str], *, initdb: Sequence[str] = (), data: Path | None = None
) -> Iterator[OwnServer]:
    """Run a fresh server; its data lie in `data`, where that is given.

    Skips the test where this machine has no server's programs.
    """
    bindir = over_server.programs()
    if bindir is None:
        pytest.skip("a PostgreSQL server's own programs (Debian: postgresql-15)")
    # Below /tmp, not TMPDIR: a socket's path has room for 107 bytes.
    folder = Path(tempfile.mkdtemp(prefix="syncd-own-", dir="/tmp"))
    user = over_server.unprivileged()
    if "user" in user:
        os.chown(folder, user["user"], user["group"])
    server = OwnServer(bindir, folder, data or folder / "data", settings)
    try:
        server.initialise(*initdb)
        server.start()
        yield server
    finally:
        server.close()
        shutil.rmtree(folder, ignore_errors=True)
