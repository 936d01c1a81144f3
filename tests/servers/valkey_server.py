"""A Redis server of this machine, for as long as a test wants it: on a socket, nothing kept."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import attrs

START_SECONDS = 30.0
MISSING = "no redis-server (nor redis-check-rdb): the ledger in Redis"


def program() -> tuple[str, str] | None:
    """Find the server: what to run, and under which name.

    Debian's redis-tools holds the server's program as redis-check-rdb, which goes by its name; so
    that package is enough, and starts no server by itself.
    """
    for name in ("valkey-server", "redis-server", "redis-check-rdb"):
        if found := shutil.which(name):
            return found, "redis-server" if name == "redis-check-rdb" else name
    return None


@attrs.define
class Valkey:
    """A server, and what a test does to it."""

    socket: Path
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    def forget(self) -> None:
        """Let it lose all that it holds."""
        with socket.socket(socket.AF_UNIX) as line:
            line.connect(str(self.socket))
            line.sendall(b"FLUSHALL\r\n")
            assert line.recv(16) == b"+OK\r\n"

    def stop(self) -> None:
        """Let it answer nobody."""
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self.process.send_signal(signal.SIGCONT)


@contextmanager
def serving() -> Iterator[Valkey]:
    """Run a server in a folder of its own."""
    found = program()
    assert found is not None  # whoever asks has looked
    with tempfile.TemporaryDirectory(prefix="syncd-redis-", dir="/tmp") as folder:
        place = Path(folder, "socket")
        words = ["--port", "0", "--unixsocket", str(place), "--save", "", "--appendonly", "no"]
        with Path(folder, "log").open("wb") as log:
            process = subprocess.Popen(
                [found[1], *words], executable=found[0], cwd=folder, stdout=log, stderr=log
            )
        try:
            _wait(place, process)
            yield Valkey(place, process)
        finally:
            process.kill()
            process.wait(START_SECONDS)


def _wait(place: Path, process: subprocess.Popen[bytes]) -> None:
    """Wait until it takes a connection: its socket is in the folder a moment earlier."""
    give_up_at = time.monotonic() + START_SECONDS
    while True:
        early = suppress(FileNotFoundError, ConnectionRefusedError, PermissionError)
        with socket.socket(socket.AF_UNIX) as line, early:
            line.connect(str(place))
            return
        assert process.poll() is None, (place.parent / "log").read_text(encoding="utf-8")
        assert time.monotonic() < give_up_at, "redis-server does not start"
        time.sleep(0.02)
