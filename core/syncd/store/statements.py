"""SQL as files: each statement stands in `schemas/syncd_schemas/queries/` under its name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib import resources
from typing import LiteralString, cast

_HEADER = re.compile(r"^-- name: (\w+)\n((?:--.*\n)*)", re.MULTILINE)


def load(file: str) -> Mapping[str, LiteralString]:
    """Return the statements of ``queries/<file>.sql`` by name.

    The cast is sound: the text ships with the package, no part of it comes from outside.
    """
    return statements(
        resources.files("syncd_schemas").joinpath("queries", f"{file}.sql").read_text("utf-8")
    )


def statements(text: str) -> Mapping[str, LiteralString]:
    """Return the statements of a file's text by name."""
    parts = _HEADER.split(text)
    return {
        name: cast("LiteralString", body.strip().rstrip(";"))
        for name, body in zip(parts[1::3], parts[3::3], strict=True)
    }
