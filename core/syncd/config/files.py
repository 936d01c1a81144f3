"""The file: its bytes, its TOML, and what can be told of it before any plugin is imported."""

from __future__ import annotations

import errno
import os
import stat
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import attrs

from syncd.errors import InvalidConfig, Problem

FILE_MAX_BYTES: Final = 8 * 2**20  # 300 accounts are 60 kB; above this it is some other file
SECRET_MAX_BYTES: Final = 64 * 2**10  # a private key is 4 kB


@attrs.frozen
class Content:
    """What a file holds, and whether everyone on this machine may read it."""

    data: bytes = attrs.field(repr=False)
    world_readable: bool


@attrs.frozen
class RawConfig:
    """A parsed file that no plugin has been asked about yet."""

    file: str  # as the operator named it
    folder: Path  # what paths in the file are relative to
    values: Mapping[str, Any] = attrs.field(repr=False)  # may hold secrets
    world_readable: bool = False

    @property
    def plugins(self) -> tuple[str, ...]:
        """The plugins that the file enables, in its order; only these may be imported."""
        tables = self.values.get("connectors")
        named = (
            table.get("plugin", name)
            for name, table in (tables.items() if isinstance(tables, Mapping) else ())
            if isinstance(table, Mapping)
        )
        return tuple(dict.fromkeys(plugin for plugin in named if isinstance(plugin, str)))


def content(path: Path, *, most_bytes: int) -> Content:
    """Read a small file; every byte that configuration reads from a disk passes here.

    Raises: `OSError`, also (EFBIG) where the file is larger than `most_bytes`.
    """
    with path.open("rb") as file:
        mode = os.fstat(file.fileno()).st_mode
        data = file.read(most_bytes + 1)
    if len(data) > most_bytes:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
    return Content(data, world_readable=bool(mode & stat.S_IROTH))


def read(path: str | Path) -> RawConfig:
    """Read and parse a configuration file.

    Raises: `InvalidConfig` where it cannot be read or is no TOML, with line and column.
    """
    try:
        found = content(Path(path), most_bytes=FILE_MAX_BYTES)
        text = found.data.decode("utf-8-sig")  # some editors begin a file with a byte order mark
        what = None
    except OSError as exc:
        what = f"cannot be read: {(exc.strerror or str(exc)).lower()}"
    except UnicodeDecodeError as exc:
        line = found.data.count(b"\n", 0, exc.start) + 1
        what = f"line {line}: the byte 0x{found.data[exc.start]:02x} is not UTF-8"
    if what is not None:  # raised here, since the decoder's error would carry the whole file
        raise InvalidConfig(str(path), [Problem("", what)])
    folder = Path(path).absolute().parent
    return parse(text, file=str(path), folder=folder, world_readable=found.world_readable)


def parse(text: str, *, file: str, folder: Path, world_readable: bool = False) -> RawConfig:
    """Parse the text of a configuration file.

    Raises: `InvalidConfig` where it is no TOML, with line and column.
    """
    try:
        return RawConfig(file, folder, tomllib.loads(text), world_readable)
    except tomllib.TOMLDecodeError as exc:
        what = _syntax_problem(str(exc), text)
    except RecursionError:
        what = "nested too deeply"
    except ValueError:  # Python reads no integer of more than 4300 digits
        what = "holds a number of thousands of digits"
    # Raised here, since newer decoders' errors carry the whole text, secrets and all.
    raise InvalidConfig(file, [Problem("", what)])


def _syntax_problem(message: str, text: str) -> str:
    """Move the position to the front: ``line 3, column 7: invalid value``."""
    said, _, place = message.removesuffix(")").rpartition(" (at ")
    if place == "end of document":
        last = text.rpartition("\n")[2]
        place = f"line {text.count(chr(10)) + 1}, column {len(last) + 1} (the end)"
    return f"{place}: {said[:1].lower()}{said[1:]}"
