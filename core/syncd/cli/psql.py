"""`syncd psql`: a look into the embedded database, whether its server runs or not."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import attrs

from syncd import embedded
from syncd.errors import ConfigError


@attrs.frozen
class Program:
    """A program to start: its words, and what it needs in its environment."""

    words: tuple[str, ...]
    environment: Mapping[str, str]


def program(command: str, arguments: Sequence[str]) -> Program:
    """Take a shell's command line ``NAME=value program words...`` apart, and add arguments."""
    words = shlex.split(command)
    variables = {}
    while words and "=" in words[0] and not words[0].startswith(("-", "/")):
        name, _, value = words.pop(0).partition("=")
        variables[name] = value
    return Program((*words, *arguments), variables)


def psql(data_dir: Path, arguments: Sequence[str]) -> int:
    """Start or join the embedded server, run psql, and give the server back; psql's exit code.

    Raises: `ConfigError` where there is no embedded database yet, and what `embedded.start` raises.
    """
    if not (data_dir / "postgresql").is_dir():
        raise ConfigError(
            "syncd psql",
            f"there is no embedded database in {data_dir}",
            "name its directory with --data-dir, or make one with `syncd run` or `syncd demo`",
        )
    with embedded.start(data_dir) as server:
        shown = program(server.psql_command, arguments)
        # Ctrl-C is for psql, which ends a query by it; a handler, since "ignore" is inherited.
        before = signal.signal(signal.SIGINT, lambda *_: None)
        try:
            return subprocess.run(  # noqa: S603  # the embedded server's own client
                shown.words, env={**os.environ, **shown.environment}, check=False
            ).returncode
        finally:
            signal.signal(signal.SIGINT, before)
