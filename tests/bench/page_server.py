"""Serve rendered pages over HTTP/1.1 on the loopback interface, as a process.

nginx where it is installed; else this module itself, which holds one set of pages in memory:
python page_server.py FOLDER PORT
"""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import attrs

UP_SECONDS = 10.0
END_SECONDS = 5.0

# One worker, no log, whole files by sendfile; connections are kept as long as clients want them.
_NGINX = """
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
{user}
events {{ worker_connections 256; }}
http {{
    access_log off;
    sendfile on;
    tcp_nopush on;
    keepalive_requests 1000000;
    open_file_cache max=10000 inactive=600s;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port};
        root "{pages}";
        location ~ ^/(?<set>[\\w.-]+)/\\w+$ {{
            default_type application/json;
            try_files /$set/$arg_page.json /$set/past.json =404;
        }}
    }}
}}
"""


@attrs.frozen
class PageServer:
    """A server of pages that runs."""

    kind: str
    pid: int
    url: str


@contextmanager
def serving(pages: Path, folder: Path, *, nginx: bool = True) -> Iterator[PageServer]:
    """Serve the sets of pages in a folder for as long as the block lasts."""
    pages.mkdir(parents=True, exist_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    program = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    port = _free_port()
    if program is not None and nginx:
        # As root, its worker would become a user that may not reach the pages.
        user = "user root;" if os.geteuid() == 0 else ""
        (folder / "nginx.conf").write_text(
            _NGINX.format(folder=folder, pages=pages, port=port, user=user)
        )
        command = [program, "-p", str(folder), "-c", str(folder / "nginx.conf")]
        command += ["-e", str(folder / "error.log")]
    else:
        program = None
        command = [sys.executable, __file__, str(pages), str(port)]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        _wait_until_up(process, port)
        kind = "a server of our own" if program is None else "nginx"
        yield PageServer(kind, process.pid, f"http://127.0.0.1:{port}")
    finally:
        process.terminate()
        try:
            process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_until_up(process: subprocess.Popen[bytes], port: int) -> None:
    give_up_at = time.monotonic() + UP_SECONDS
    while time.monotonic() < give_up_at and process.poll() is None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.02)
    raise RuntimeError(f"the page server does not listen (exit code {process.returncode})")


# --- Where there is no nginx ----------------------------------------------------------------------


class Held:
    """The pages of one set, in memory."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._name = ""
        self._pages: dict[str, bytes] = {}

    def answer(self, target: str) -> bytes:
        """Return the whole answer to a request."""
        parts = urlsplit(target)
        name = parts.path.split("/")[1]
        if name != self._name:
            self._pages = {f.stem: f.read_bytes() for f in (self._root / name).glob("*.json")}
            self._name = name
        number = parse_qs(parts.query).get("page", ["1"])[0]
        body = self._pages.get(number) or self._pages.get("past")
        status = "200 OK" if body is not None else "404 Not Found"
        head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: "
        return f"{head}{len(body or b'')}\r\n\r\n".encode() + (body or b"")


async def _serve(root: Path, port: int) -> None:
    held = Held(root)

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(held.answer(head.split(b" ", 2)[1].decode()))
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(converse, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        asyncio.run(_serve(Path(sys.argv[1]), int(sys.argv[2])))
