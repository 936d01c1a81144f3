"""Who may import whom: import-linter's contracts in pyproject.toml, and that they cover all."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

from sources import ROOT


def test_imports_keep_the_contracts() -> None:
    checked = subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--no-logo", "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert checked.returncode == 0, checked.stdout


def test_every_bundled_plugin_is_under_contract() -> None:
    configuration = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    linted = configuration["tool"]["importlinter"]
    one_door = next(c for c in linted["contracts"] if c["name"] == "a plugin knows one door")
    bundled = {folder.name for folder in (ROOT / "plugins").iterdir() if folder.is_dir()}

    assert bundled
    assert bundled <= set(linted["root_packages"])
    assert bundled <= set(one_door["source_modules"])
