"""The benchmark of syncd, beside what a competent user would write by hand.

Everything runs on this machine, on two of its cores: pages from nginx (or a server of ours), the
embedded PostgreSQL with its default settings, and the program. What a table holds after each load
is compared with what was served; a difference is an error.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import signal
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import databases
import page_server
import report
from loads import GENERATIONS, PROGRAMS, Finished, Plan, in_order
from measure import Overdue
from programs import Bench, Failed
from runner import ROOT, Results, Runner, code_version, progress
from totals import Wrong

CORES = 2
RECORDS = 190_000
_PAIR = ("syncd", "yardstick")

SETS = {
    "bench": (Plan("plain", RECORDS, 1000, ("first", "1%", "100%"), _PAIR, 5),),
    "all": (
        Plan("plain", RECORDS, 1000, ("first", "1%", "0%", "50%", "100%"), _PAIR, 3),
        Plan("plain", RECORDS, 50, ("first", "1%", "0%", "50%", "100%"), _PAIR, 3),
        Plan("viewed", RECORDS, 1000, ("first", "1%"), _PAIR, 3),
        Plan("cars", RECORDS, 1000, ("first", "1%", "0%"), _PAIR, 3),
        Plan("plain", 1_000_000, 1000, ("first",), ("syncd",), 3),
    ),
    "peers": (
        Plan("plain", RECORDS, 1000, ("first", "1%"), ("syncd", "dlt"), 3),
        Plan("plain", RECORDS, 50, ("first", "1%"), ("syncd", "dlt"), 3),
    ),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is asked for, print the table."""
    options = _options().parse_args(arguments)
    signal.signal(signal.SIGTERM, _end)
    # On two cores, as the figures that the bars were set by; what we start inherits it.
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    folder = options.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    results = Results(folder / "results.jsonl")
    if options.report:
        code = code_version()
        finished = [each for each in results.finished if each.code == code]
    else:
        finished = _run(options, folder, results)
    table = report.table_of(finished)
    if options.json:
        print(json.dumps(report.as_json(table), indent=2))
    else:
        print(report.as_text(table))
    return 0


def _run(options: argparse.Namespace, folder: Path, results: Results) -> list[Finished]:
    say = progress(time.monotonic())
    with (
        _alone(folder),
        databases.serving(folder / "postgresql") as database,
        page_server.serving(
            folder / "pages", folder / "nginx", nginx=not options.no_nginx
        ) as pages,
    ):
        say(f"{database.version}, pages from {pages.kind}")
        if not options.resume:
            for name in database.names():
                database.drop(name)
        bench = Bench(folder, database, pages)
        runner = Runner(bench, results, say, resume=options.resume, profile=options.py_spy)
        return runner.run(_plans(options))


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep a second benchmark out of a folder, and the databases of the first one safe."""
    with (folder / "lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sys.exit(f"another benchmark runs in {folder}; wait for it, or name another --folder")
        yield


def _end(_: int, __: FrameType | None) -> None:
    sys.exit(128 + signal.SIGTERM)


def _plans(options: argparse.Namespace) -> tuple[Plan, ...]:
    if options.set:
        return SETS[options.set]
    return tuple(
        Plan(shape, options.records, per_page, options.phases, options.programs, options.repeats)
        for shape in options.shape
        for per_page in options.per_page
    )


def _phases(text: str) -> tuple[str, ...]:
    try:
        return in_order(text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _programs(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    if unknown := set(names) - set(PROGRAMS):
        raise argparse.ArgumentTypeError(f"no program is named {', '.join(sorted(unknown))}")
    return names


def _shapes(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    if unknown := set(names) - {"plain", "viewed", "cars"}:
        raise argparse.ArgumentTypeError(f"no shape is named {', '.join(sorted(unknown))}")
    return names


def _sizes(text: str) -> tuple[int, ...]:
    return tuple(int(size) for size in text.split(","))


def _escaped(phases: Iterable[str]) -> str:
    return ",".join(phases).replace("%", "%%")  # argparse formats what it prints


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tests/bench/run.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="Finished loads are appended to FOLDER/results.jsonl, one JSON line each.",
    )
    add = parser.add_argument
    add("--set", choices=sorted(SETS), help="a whole set, as `make bench` and `make bench-all` run")
    add(
        "--shape",
        type=_shapes,
        default=("plain",),
        help="plain: 29 flat columns; viewed: the same with a field that always differs; cars: "
        "the cars API's, two tables (comma list; default: plain)",
    )
    add("--records", type=int, default=RECORDS, help=f"how many (default: {RECORDS})")
    add(
        "--per-page",
        type=_sizes,
        default=(1000,),
        metavar="N",
        help="records a page (comma list; default: 1000)",
    )
    add(
        "--phases",
        type=_phases,
        default=("first", "1%"),
        help=f"of {_escaped(GENERATIONS)}: how much has changed since the phase before "
        "(default: first,1%%)",
    )
    add(
        "--programs",
        type=_programs,
        default=_PAIR,
        help=f"of {','.join(PROGRAMS)} (default: {','.join(_PAIR)})",
    )
    add("--repeats", type=int, default=1, help="how often each is run, in turns (default: 1)")
    add("--resume", action="store_true", help="do not run again what this code has finished")
    add("--report", action="store_true", help="run nothing: print what this code has finished")
    add("--no-nginx", action="store_true", help="serve pages by our own server")
    add("--json", action="store_true", help="print the table as JSON")
    add("--py-spy", type=Path, metavar="FILE", help="record syncd's stacks, collapsed, to FILE")
    add(
        "--folder",
        type=Path,
        default=ROOT / "build" / "bench",
        help="where pages, the cluster and results are kept (default: build/bench)",
    )
    return parser


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
    except (Failed, Overdue, Wrong) as failed:
        sys.exit(str(failed))
