"""The bench programs that stand alone, in short: they run, and what they check holds."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import effect_costs
import pytest
import store_catalog
import store_claims
import store_frontier

SHORT: list[tuple[Callable[[list[str]], int], list[str], dict[str, object]]] = [
    (store_frontier.main, ["--cursors", "2000"], {"walked": 2001, "left open": 0}),
    (
        store_claims.main,
        ["--partitions", "200", "--processes", "2"],
        {"claimed": 200, "not claimed exactly once": 0},
    ),
    (store_catalog.main, ["--commits", "20", "--copies", "2"], {"grown by bytes": 0}),
    (
        effect_costs.main,
        ["--records", "1000", "--repeats", "0"],
        {"each: statements more": 1, "each in order: statements more": 2},
    ),
]


@pytest.mark.parametrize(("main", "arguments", "expected"), SHORT)
def test_what_a_bench_program_checks_holds(
    main: Callable[[list[str]], int],
    arguments: list[str],
    expected: dict[str, object],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main([*arguments, "--json", "--data", str(tmp_path)]) == 0

    figures = json.loads(capsys.readouterr().out)
    assert expected.items() <= figures.items()
