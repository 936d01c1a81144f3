"""Let worlds live, drawn from seeds: python tests/simulation/simulate.py 0-999 (`make simulate`).

`--world chain`: from Front's mail by way of a model to Ship24's trackers and webhooks.

A seed reproduces a run: `--trace` prints all that the daemons of each world told, and when.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from multiprocessing.util import Finalize

import psycopg
from inline import close_idle
from plan import DRAWN, Family
from psycopg.conninfo import make_conninfo
from seeds import Lived, live, summary
from world import equip

from syncd.embedded import throwaway
from syncd.events import Event
from syncd.store.hops import Timeouts, connection_options
from syncd.store.migrations import migrate

_held = ExitStack()
_dsn: list[str] = []


@contextmanager
def prepared() -> Iterator[str]:
    """Start a server, and make a database that is equipped for simulations."""
    with throwaway() as server:
        with psycopg.connect(server.conninfo, autocommit=True) as admin:
            admin.execute("CREATE DATABASE worlds")
        dsn = make_conninfo(server.conninfo, dbname="worlds")
        with psycopg.connect(dsn, **connection_options(Timeouts(), "simulate")) as connection:
            migrate(connection)
        equip(dsn)
        yield dsn
        close_idle(dsn)


def wanted(text: str) -> list[int]:
    """Read which seeds are wanted: ``17``, ``0-999``, ``3,5,8-10``."""
    seeds: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        seeds += range(int(first), int(last or first) + 1)
    return seeds


def begin() -> None:
    """Prepare a database for this process, until it ends."""
    _dsn.append(_held.enter_context(prepared()))
    Finalize(_held, _held.close, exitpriority=10)


def database() -> str:
    """Return the conninfo of this process's database."""
    return _dsn[0]


def _live(family: Family, seed: int) -> Lived:
    return live(seed, database(), family=family)


def _shown(each: Lived) -> str:
    met = ", ".join(f"{kind} {times}" for kind, times in each.met.items() if times)
    return (
        f"seed {each.seed}: {each.pages} pages, {each.transactions} transactions, "
        f"{each.seconds:.0f} s of virtual time, trace {each.digest[:12]}; met {met or 'nothing'}"
    )


def _trace(family: Family, seeds: list[int]) -> list[Lived]:
    def hear(at: float, number: int, event: Event) -> None:
        print(f"{at:12.6f}  daemon {number}  {event!r}")

    with prepared() as dsn:
        lives = []
        for seed in seeds:
            print(DRAWN[family](seed))
            lives.append(live(seed, dsn, family=family, hear=hear))
        return lives


def main() -> int:
    """Say what became of each world that broke a law, and what all of them met."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("seeds", type=wanted, help="17, 0-999, or 3,5,8-10")
    parser.add_argument(
        "--world", choices=[*DRAWN], default="any", help="chain: from mail to trackers"
    )
    parser.add_argument("--trace", action="store_true", help="print what is told")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    given = parser.parse_args()
    began = time.monotonic()
    if given.trace:
        lives = _trace(given.world, given.seeds)
    else:
        jobs = min(given.jobs, len(given.seeds))
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(jobs, mp_context=context, initializer=begin) as pool:
            lives = []
            for each in pool.map(partial(_live, given.world), given.seeds):
                lives.append(each)
                if each.broken or len(given.seeds) <= 20:
                    print(_shown(each), *each.broken, sep="\n    ", flush=True)
    _, said = summary(lives)
    seconds = time.monotonic() - began
    broken = [each.seed for each in lives if each.broken]
    print(f"{said}\n{seconds:.0f} s, {60 * len(lives) / seconds:.0f} seeds a minute")
    print(f"broken laws: seeds {broken}" if broken else "no law was broken")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
