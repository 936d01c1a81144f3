"""Where the cluster of a data directory lies, and as whom its server runs.

In the data directory, as ourselves. As root it runs as another user, and that user must be able to
reach it: where a parent directory shuts it out, the cluster lies below `ELSEWHERE`, and the data
directory and the place name each other. No parent is ever opened.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import attrs

from syncd.embedded import unprivileged
from syncd.embedded.unprivileged import OsUser, give
from syncd.errors import ConfigError

# Not `/var/lib/syncd`: an operator's data directory itself, and it may be closed on purpose.
ELSEWHERE = Path("/var/lib/syncd-embedded")


@attrs.frozen
class Place:
    """The directories and files of one embedded server."""

    home: Path  # in the data directory: the locks, and `location` where the cluster is elsewhere
    root: Path  # where the cluster and all the rest lie: `home`, or below `ELSEWHERE`
    user: OsUser | None  # as whom the server runs; `None` is ourselves

    @property
    def where(self) -> str:
        return f"embedded postgresql in {self.home}"

    @property
    def lock(self) -> Path:
        return self.home / "lock"

    @property
    def users(self) -> Path:
        return self.home / "users"

    @property
    def server(self) -> Path:
        return self.home / "server"

    @property
    def cluster(self) -> Path:
        return self.root / "cluster"

    @property
    def password(self) -> Path:
        return self.root / "password"

    @property
    def log(self) -> Path:
        return self.root / "server.log"

    @property
    def version(self) -> Path:
        return self.root / "version"


def make_home(data_dir: Path) -> Path:
    """Make the data directory and syncd's part of it; what exists keeps its mode."""
    # Root lets the server's user through the directory it makes, and lets it see nothing else.
    data_dir.mkdir(mode=0o711 if os.geteuid() == 0 else 0o700, parents=True, exist_ok=True)
    home = data_dir.resolve() / "postgresql"
    home.mkdir(mode=0o700, exist_ok=True)
    return home


def settle(home: Path, *, give_up_at: float) -> Place:
    """Find the place of a cluster, or settle on one; called under the lock.

    Raises: `ConfigError` where no server of ours can run there.
    """
    if os.geteuid() != 0:
        return _as_ourselves(home)
    location = home / "location"
    if location.exists():
        return _named(home, Path(location.read_text().rstrip("\n")), give_up_at=give_up_at)
    if (home / "cluster").exists():
        return _as_its_owner(home, home, give_up_at=give_up_at)
    return _anew(home, give_up_at=give_up_at)


def _as_ourselves(home: Path) -> Place:
    if (home / "location").exists() or home.stat().st_uid != os.geteuid():
        raise ConfigError(
            f"embedded postgresql in {home}",
            f"it was made by another user (uid {home.stat().st_uid}), and we are {os.geteuid()}",
            "run syncd as that user or as root, or name another data directory",
        )
    return Place(home, home, None)


def _as_its_owner(home: Path, root: Path, *, give_up_at: float) -> Place:
    uid = (root / "cluster" if root == home else root).stat().st_uid
    user = unprivileged.by_uid(uid)
    if user is None:
        raise ConfigError(
            f"embedded postgresql in {home}",
            f"{root} belongs to uid {uid}, and postgresql needs a named user that is not root",
            f"give {root} and all below it to the user that it ran as (chown -R)",
        )
    if not _reaches(user, root, give_up_at=give_up_at):
        raise _unreachable(home, root, user)
    return Place(home, root, user)


def _named(home: Path, root: Path, *, give_up_at: float) -> Place:
    back = root / "data_directory"
    named = back.read_text().rstrip("\n") if back.exists() else None
    if named != str(home.parent):
        raise ConfigError(
            f"embedded postgresql in {home}",
            f"its cluster lies in {root}, which belongs to {named!r}",
            f"if this data directory was moved, write its path into {back}; if it is a copy, "
            f"remove {home}",
        )
    return _as_its_owner(home, root, give_up_at=give_up_at)


def _anew(home: Path, *, give_up_at: float) -> Place:
    user = unprivileged.choose(home.parent)
    if not _reaches(user, home.parent, give_up_at=give_up_at):
        return _elsewhere(home, user, give_up_at=give_up_at)
    give(home, user)
    return Place(home, home, user)


def _elsewhere(home: Path, user: OsUser, *, give_up_at: float) -> Place:
    key = hashlib.sha256(os.fsencode(home.parent)).hexdigest()[:16]
    root = ELSEWHERE / key
    if (root / "cluster").exists():
        raise ConfigError(
            f"embedded postgresql in {home}",
            f"{root} holds a cluster of this data directory, which no longer names it",
            f"remove {root} to begin anew, or write that path into {home / 'location'} to keep it",
        )
    ELSEWHERE.mkdir(mode=0o711, exist_ok=True)
    root.mkdir(mode=0o700, exist_ok=True)
    give(root, user)
    if not _reaches(user, root, give_up_at=give_up_at):
        raise _unreachable(home, root, user)
    write_private(root / "data_directory", f"{home.parent}\n", user)
    write_private(home / "location", f"{root}\n", None)
    return Place(home, root, user)


def _reaches(user: OsUser, path: Path, *, give_up_at: float) -> bool:
    return unprivileged.can(user, ["-x"], [path], give_up_at=give_up_at)


def _unreachable(home: Path, root: Path, user: OsUser) -> ConfigError:
    return ConfigError(
        f"embedded postgresql in {home}",
        f"postgresql does not run as root, and user {user.name!r} cannot reach {root}",
        "name a data directory that it can reach, run syncd as another user than root, or "
        "configure a database",
    )


def write_private(path: Path, text: str, user: OsUser | None) -> None:
    """Write a file of mode 0600 whole or not at all, and keep it through a loss of power."""
    fresh = path.with_name(f"{path.name}.new")
    fresh.unlink(missing_ok=True)
    file = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(file, "w") as writer:
        give(file, user)
        writer.write(text)
        writer.flush()
        os.fsync(file)
    fresh.rename(path)
    sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Make a rename in `directory` last through a loss of power."""
    opened = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
