"""What a command imports: not more than it uses, for an import is what starting it costs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

# Of 10 ms and more each. pluggy and trio stand for the plugins and the engine.
HEAVY = {
    "httpcore",
    "httpx",
    "hypercorn",
    "msgspec",
    "pluggy",
    "psycopg",
    "psycopg_pool",
    "pygments",
    "rich",
    "starlette",
    "structlog",
    "syncd.config",
    "syncd.events",
    "syncd.model",
    "trio",
}
SIMULATOR = {"hypercorn", "starlette", "syncd.demo", "syncd.testing", "syncd_cars.simulator"}
SHOWN = {"pygments", "rich", "structlog"}  # what draws a table, and what writes a log
HTTP = {"httpcore", "httpx", "syncd.http"}

CONFIGURATION = """\
[database]
url = "postgresql://nobody@127.0.0.1:1/nowhere"
connect_timeout = "1s"
[connectors.cars]
api_key = "k"
[jobs.cars]
connector = "cars"
streams = ["cars"]
every = "1h"
"""


# Its last line is what was imported, by whatever means (`-X importtime` misses some).
PROGRAM = """
import sys
from syncd.cli import main
try:
    main()
finally:
    print(*sys.modules, file=sys.stderr)
"""


def started(*words: str | Path) -> tuple[int, set[str]]:
    """Run the console program; its exit code, and which modules it imported."""
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM, *map(str, words)],
        capture_output=True,
        text=True,
        env={name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ},
        timeout=60,
        check=False,
    )
    return ran.returncode, set(ran.stderr.splitlines()[-1].split())


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A configuration whose database nobody serves."""
    written = tmp_path / "syncd.toml"
    written.write_text(CONFIGURATION)
    return written


@pytest.mark.parametrize(
    "words", ["--version", "--help", "run --help", "demo --help", "nope", "runs --limit 0"]
)
def test_what_needs_no_engine_is_told_without_it(words: str) -> None:
    code, modules = started(*words.split())

    assert code == (64 if words in {"nope", "runs --limit 0"} else 0)
    assert "syncd.cli.commands" in modules
    assert modules & (HEAVY | SIMULATOR) == set()


@pytest.mark.parametrize("command", ["runs", "migrate", "resume cars"])
def test_who_only_asks_the_database_starts_no_http_client_and_no_screen(
    command: str, file: Path
) -> None:
    code, modules = started("-c", file, *command.split())

    assert code == 69  # as far as the database
    assert {"psycopg", "syncd_cars.plugin"} <= modules
    assert modules & (HTTP | SHOWN | SIMULATOR) == set()


@pytest.mark.parametrize("command", ["run cars", "check"])
def test_who_walks_and_who_checks_start_no_simulator(command: str, file: Path) -> None:
    code, modules = started("-c", file, *command.split())

    assert code == 69
    assert {"psycopg", "syncd.http"} <= modules
    assert modules & SIMULATOR == set()
    assert "syncd.cli.terminal" not in modules  # nobody sits at one
