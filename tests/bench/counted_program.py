"""The same process as `syncd_program`, which counts the statements of each transaction meanwhile.

python counted_program.py CONFIG TOLD

Counting costs: what such a process takes is no figure.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import psycopg
import syncd_program

from syncd import faults


@attrs.define
class Counting:
    """Counts what is executed in a transaction that commits pages, and in nothing else."""

    commits: list[int] = attrs.field(factory=list)
    _here: threading.local = attrs.field(factory=threading.local)

    def execute(self, executed: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **kwargs: Any) -> Any:
            self._here.statements = getattr(self._here, "statements", 0) + 1
            return executed(*args, **kwargs)

        return counted

    def reached(self, point: str) -> None:
        if point == "frontier_written":
            self._here.writes = True
        elif point == "after_commit":
            if getattr(self._here, "writes", False):
                self.commits.append(self._here.statements)
            self._here.statements, self._here.writes = 0, False


def main(file: Path, told: Path) -> int:
    counting = Counting()
    cursor: Any = psycopg.Cursor
    cursor.execute, cursor.copy = counting.execute(cursor.execute), counting.execute(cursor.copy)
    faults.arm(counting.reached)
    code = syncd_program.main(file, told)
    told.write_text(json.dumps(json.loads(told.read_text()) | {"commits": counting.commits}))
    return code


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
