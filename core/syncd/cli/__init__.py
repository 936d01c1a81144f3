"""Words typed by an operator: the console program `syncd`.

`commands` lists them. What is shown is decided by pure functions (`wording`, `board`, `drawing`,
`columns`, `summary`, `findings`); `screen` alone writes while something runs, with `terminal` where
there is one. How an error ends the program stands in `ending`.
"""

from __future__ import annotations

import sys
from typing import NoReturn


def main() -> NoReturn:
    """Run the console program and exit with its code."""
    try:
        # Here, since importing takes a tenth of a second in which Ctrl-C is as likely as later.
        from syncd.cli.commands import invoke  # noqa: PLC0415

        code = invoke(sys.argv[1:])
    except KeyboardInterrupt:
        print("syncd: interrupted", file=sys.stderr)  # noqa: T201
        code = 130
    sys.exit(code)
