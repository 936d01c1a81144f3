"""Run tests through PgBouncer in transaction mode, before a PostgreSQL server of this machine.

    python tests/servers/over_pooler.py -- python -m pytest -m "not direct" tests/store

The command finds the server in `SYNCD_TEST_DSN`, where tests make their databases and look at
backends, and the pooler in `SYNCD_TEST_POOLER`, through which everything else goes. Two connections
serve each database: whatever one transaction leaves behind in its session meets the next one.
Without PgBouncer, FILE gets a line that says so, and nothing fails.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import over_server
import psycopg

POOL_SIZE = 2
START_SECONDS = 30.0

# Any user is let in, as the one that the database names. A test that holds both connections and
# asks for a third one is to fail soon.
CONFIGURATION = """
[databases]
* = {server} user=syncd
[pgbouncer]
listen_addr =
unix_socket_dir = {folder}
listen_port = 6432
auth_type = any
pool_mode = transaction
default_pool_size = {pool_size}
max_client_conn = 500
query_wait_timeout = 25
logfile = {folder}/pooler.log
pidfile = {folder}/pooler.pid
"""


def main() -> int:
    """Run the command; answer with its exit code, 0 where something is missing."""
    parser = argparse.ArgumentParser(description="Run tests through a PgBouncer of this machine.")
    parser.add_argument("--missing", type=Path, help="file that is told what was not there")
    parser.add_argument("command", nargs="+")
    arguments = parser.parse_args()
    found, pooler_program = over_server.programs(), program()
    if found is None or pooler_program is None:
        what = "PgBouncer" if found else f"PostgreSQL {over_server.WANTED} server"
        line = f"{what}: store and run tests did not run through a pooler"
        print(line)
        if arguments.missing:
            arguments.missing.write_text(line + "\n", encoding="utf-8")
        return 0
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, over_server.interrupt)
    with over_server.server(found) as dsn, pooler(pooler_program, dsn) as pooled:
        os.environ["SYNCD_TEST_POOLER"] = pooled
        return over_server.run(arguments.command, dsn)


def program() -> str | None:
    """Find the pooler; Debian puts it where only root looks."""
    return shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")


@contextmanager
def pooler(binary: str, dsn: str) -> Iterator[str]:
    """Run a pooler before a server, in the server's folder; its conninfo."""
    place = dict(word.split("=", 1) for word in dsn.split())
    folder = Path(place["host"])
    file = folder / "pooler.ini"
    server = f"host={folder} port={place['port']}"
    text = CONFIGURATION.format(server=server, folder=folder, pool_size=POOL_SIZE)
    file.write_text(text, encoding="utf-8")
    file.chmod(0o644)
    user = over_server.unprivileged()
    process = subprocess.Popen(
        [binary, "--quiet", file], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **user
    )
    pooled = f"host={folder} port=6432 user=syncd dbname=postgres"
    try:
        print(f"through {_wait(pooled, folder)}", flush=True)
        yield pooled
    finally:
        process.terminate()  # at once: SIGINT would wait for clients
        with suppress(subprocess.TimeoutExpired):
            process.wait(START_SECONDS)
        process.kill()


def _wait(pooled: str, folder: Path) -> str:
    """Wait until the pooler serves; what it calls itself."""
    give_up_at = time.monotonic() + START_SECONDS
    while True:
        try:
            with psycopg.connect(pooled, connect_timeout=5) as connection:
                connection.execute("SELECT 1")
            console = pooled.replace("dbname=postgres", "dbname=pgbouncer user=pgbouncer")
            with psycopg.connect(console, autocommit=True) as asking:
                return str(asking.pgconn.exec_(b"SHOW VERSION").get_value(0, 0) or b"", "ascii")
        except psycopg.OperationalError:
            if time.monotonic() > give_up_at:
                log = folder / "pooler.log"
                print(log.read_text(encoding="utf-8") if log.exists() else "", file=sys.stderr)
                raise
            time.sleep(0.05)


if __name__ == "__main__":
    sys.exit(main())
