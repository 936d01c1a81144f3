"""Run tests over a PostgreSQL server of this machine, which lives as long as they do.

    python tests/servers/over_server.py --missing FILE -- python -m pytest tests/store

The command finds the server in `SYNCD_TEST_DSN`. It is PostgreSQL 15 where that is installed, else
the oldest other that syncd supports; where there is none, FILE gets a line that says so, and
nothing fails. The server listens on a socket in a folder of its own; both go when the command has
ended, and also when this program is killed.
"""

from __future__ import annotations

import argparse
import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import memory
import psycopg

WANTED = 15  # what Debian 12 has; the embedded server is an 18
OLDEST = 14  # the oldest that syncd supports
START_SECONDS = 30.0
STOP_SECONDS = 20.0

# A crash of the machine may cost a test's database; 4 workers have about 20 connections each.
SETTINGS = {
    "listen_addresses": "",
    "fsync": "off",
    "max_connections": "200",
}

# The server's parent: it reads our end of a pipe, so that however we end, the server and its folder
# go. In a session of its own, since a Ctrl-C is for the tests, which still need the server.
KEEPER = """
folder=$1; shift
"$@" & server=$!
read -r line
kill -INT $server
wait $server
cd / && rm -rf "$folder"
"""


def main() -> int:
    """Run the command; answer with its exit code, 0 where there is no server."""
    parser = argparse.ArgumentParser(description="Run tests over a PostgreSQL of this machine.")
    parser.add_argument("--missing", type=Path, help="file that is told what was not there")
    parser.add_argument("command", nargs="+")
    arguments = parser.parse_args()
    found = programs()
    if found is None:
        line = f"PostgreSQL {WANTED} server: store and run tests ran on the embedded server only"
        print(line)
        if arguments.missing:
            arguments.missing.write_text(line + "\n", encoding="utf-8")
        return 0
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)
    with server(found) as dsn:
        return run(arguments.command, dsn)


def programs() -> Path | None:
    """Find the folder of a server's programs: of the wanted version, or of the oldest other."""
    folders = [*Path("/usr/lib/postgresql").glob("*/bin"), *Path("/usr").glob("pgsql-*/bin")]
    if config := shutil.which("pg_config"):
        asked = subprocess.run([config, "--bindir"], capture_output=True, text=True, check=False)
        folders.append(Path(asked.stdout.strip()))
    if initdb := shutil.which("initdb"):
        folders.append(Path(initdb).resolve().parent)
    usable = {folder: version(folder) for folder in folders if (folder / "initdb").exists()}
    candidates = [folder for folder, major in usable.items() if major >= OLDEST]
    return min(candidates, key=lambda each: (usable[each] != WANTED, usable[each]), default=None)


def version(folder: Path) -> int:
    """Ask a server's program for its major version; 0 where it does not say."""
    try:
        asked = subprocess.run(
            [folder / "postgres", "--version"], capture_output=True, text=True, check=False
        )
    except OSError:
        return 0
    said = re.search(r"\(PostgreSQL\) (\d+)", asked.stdout)
    return int(said[1]) if said else 0


@contextmanager
def server(bindir: Path) -> Iterator[str]:
    """Run a fresh server; its conninfo."""
    user = unprivileged()
    # Not below TMPDIR: a socket's path has room for 107 bytes.
    with tempfile.TemporaryDirectory(
        prefix="syncd-over-", dir=memory.place() or "/tmp", ignore_cleanup_errors=True
    ) as folder:
        if "user" in user:
            os.chown(folder, user["user"], user["group"])
        data = f"{folder}/data"
        make: list[str | Path] = [bindir / "initdb", "--pgdata", data, "--username", "syncd"]
        make += ["--auth", "trust", "--encoding", "UTF8", "--locale", "C", "--no-sync"]
        subprocess.run(make, stdout=subprocess.DEVNULL, check=True, **user)
        serve: list[str | Path] = [bindir / "postgres", "-D", data, "-k", folder, "-p", "5432"]
        for name, value in SETTINGS.items():
            serve += ["-c", f"{name}={value}"]
        with _kept(folder, serve, user):
            dsn = f"host={folder} port=5432 user=syncd dbname=postgres"
            try:
                print(f"over PostgreSQL {_wait(dsn)} of {bindir}", flush=True)
            except psycopg.OperationalError:
                print(Path(folder, "log").read_text(encoding="utf-8"), file=sys.stderr)
                raise
            yield dsn


def unprivileged() -> dict[str, Any]:
    """Say how to start a program as the server's user: it refuses to run as root."""
    options: dict[str, Any] = {"cwd": "/", "start_new_session": True}
    if os.geteuid() == 0:
        names = {entry.pw_name: entry for entry in pwd.getpwall()}
        entry = names.get("postgres") or names["nobody"]
        options |= {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": ()}
    return options


@contextmanager
def _kept(folder: str, serve: Sequence[str | Path], user: dict[str, Any]) -> Iterator[None]:
    with Path(folder, "log").open("w") as log:
        keeper: subprocess.Popen[bytes] = subprocess.Popen(
            ["/bin/sh", "-c", KEEPER, "keeper", folder, *serve],
            stdin=subprocess.PIPE,
            stderr=log,
            **user,
        )
    try:
        yield
    finally:
        assert keeper.stdin is not None
        keeper.stdin.close()
        keeper.wait(STOP_SECONDS)


def _wait(dsn: str) -> str:
    """Wait until the server answers; its version."""
    give_up_at = time.monotonic() + START_SECONDS
    while True:
        try:
            with psycopg.connect(dsn, connect_timeout=5) as connection:
                return str(connection.execute("SHOW server_version").fetchall()[0][0])
        except psycopg.OperationalError:
            if time.monotonic() > give_up_at:
                raise
            time.sleep(0.05)


def run(command: Sequence[str], dsn: str) -> int:
    """Run the command to its end; an interrupted one gets the time to clean up."""
    process = subprocess.Popen(command, env=os.environ | {"SYNCD_TEST_DSN": dsn})
    try:
        return process.wait()
    except KeyboardInterrupt:
        process.send_signal(signal.SIGINT)  # a terminal has sent it already, `kill` has not
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)
        return 130
    finally:
        process.kill()


def interrupt(*_: object) -> None:
    """End as a Ctrl-C does, and clean up."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
