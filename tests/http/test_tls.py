"""Nobody is spoken to whose certificate does not prove who it is (P60).

The certificates are made on the spot, by the system's `openssl`.
"""

from __future__ import annotations

import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from shutil import which
from typing import TYPE_CHECKING

import attrs
import pytest
import trio

from syncd.errors import Unavailable
from syncd.http import connection

if TYPE_CHECKING:
    from tests.http.conftest import Bench

pytestmark = pytest.mark.skipif(which("openssl") is None, reason="openssl makes the certificates")


@attrs.define
class Secured:
    """A server that speaks TLS on loopback, and what it heard."""

    url: str = ""
    heard: bytes = b""
    context: ssl.SSLContext = attrs.field(factory=lambda: ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))

    async def serve(self, stream: trio.SocketStream) -> None:
        secure = trio.SSLStream(stream, self.context, server_side=True, https_compatible=True)
        try:
            self.heard += await secure.receive_some(65_536)
            body = b'{"data": []}'
            head = (
                f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
            )
            await secure.send_all(f"{head}\r\n\r\n".encode() + body)
        except trio.BrokenResourceError:
            await trio.aclose_forcefully(stream)  # it was not trusted


def certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """Make a certificate for a name, signed by itself; answer with it and its key."""
    made, key = folder / f"{name}.pem", folder / f"{name}.key"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    command += ["-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}"]
    subprocess.run([*command, "-keyout", key, "-out", made], check=True, capture_output=True)
    return made, key


@asynccontextmanager
async def serving(server: Secured, made: Path, key: Path) -> AsyncIterator[Secured]:
    server.context.load_cert_chain(made, key)
    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        await nursery.start(trio.serve_listeners, server.serve, [listener])
        server.url = f"https://localhost:{listener.socket.getsockname()[1]}"
        yield server
        nursery.cancel_scope.cancel()


@pytest.fixture
def trusting(monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """The client's own context, which a test may teach to trust another root."""
    context = connection._trust.__wrapped__()
    monkeypatch.setattr(connection, "_trust", lambda: context)
    assert isinstance(context, ssl.SSLContext)
    return context


async def asked(bench: Bench, url: str) -> bytes:
    response = await (await bench.client(url)).for_fetch().get("cars")
    return response.content


async def test_a_certificate_of_a_trusted_root_for_its_own_name_is_accepted(
    bench: Bench, tmp_path: Path, trusting: ssl.SSLContext
) -> None:
    made, key = certificate(tmp_path, "localhost")
    trusting.load_verify_locations(made)
    async with serving(Secured(), made, key) as server:
        assert await asked(bench, server.url) == b'{"data": []}'


async def test_a_certificate_that_vouches_for_itself_is_refused(
    bench: Bench, tmp_path: Path
) -> None:
    async with serving(Secured(), *certificate(tmp_path, "localhost")) as server:
        with pytest.raises(Unavailable):
            await asked(bench, server.url)

    assert server.heard == b"", "not a byte of the request left"


async def test_a_certificate_for_another_name_is_refused(
    bench: Bench, tmp_path: Path, trusting: ssl.SSLContext
) -> None:
    made, key = certificate(tmp_path, "elsewhere.example")
    trusting.load_verify_locations(made)
    async with serving(Secured(), made, key) as server:
        with pytest.raises(Unavailable):
            await asked(bench, server.url)

    assert server.heard == b""


async def test_nothing_older_than_tls_1_2_is_spoken(
    bench: Bench, tmp_path: Path, trusting: ssl.SSLContext
) -> None:
    made, key = certificate(tmp_path, "localhost")
    trusting.load_verify_locations(made)
    old = Secured()
    old.context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLS"):
        old.context.minimum_version = ssl.TLSVersion.TLSv1
    with pytest.warns(DeprecationWarning, match="TLS"):
        old.context.maximum_version = ssl.TLSVersion.TLSv1_1
    async with serving(old, made, key) as server:
        with pytest.raises(Unavailable):
            await asked(bench, server.url)

    assert old.heard == b""
    assert trusting.minimum_version >= ssl.TLSVersion.TLSv1_2
