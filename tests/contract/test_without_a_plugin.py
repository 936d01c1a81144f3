"""A plugin is deleted with its folder and its entry points: everything else works as before."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from sources import ROOT

BUNDLED = sorted(each.parent.name for each in ROOT.glob("plugins/*/__init__.py"))

# What is installed for development is not there: neither the deleted plugin nor its entry points.
AWAY = f"""
import sys
sys.path[:] = [each for each in sys.path if not each.startswith(({str(ROOT)!r} + "/core",
               {str(ROOT)!r} + "/plugins", {str(ROOT)!r} + "/schemas"))]
"""


def deleted(package: str, copy: Path) -> dict[str, str]:
    """Copy the sources without a plugin; answer with the environment that runs them."""
    for name in ("core", "plugins", "schemas"):
        # With what is compiled already: a copy keeps the times of its sources.
        skipped = shutil.ignore_patterns(package, "*.pyc.*")  # the latter are being written
        shutil.copytree(ROOT / name, copy / name, ignore=skipped)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    lines = []
    for group, points in project["entry-points"].items():
        kept = {n: at for n, at in points.items() if at.partition(".")[0] != package}
        lines += [f"[{group}]", *(f"{name} = {at}" for name, at in kept.items())]
    info = copy / f"syncd-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Name: syncd\nVersion: {project['version']}\n")
    (info / "entry_points.txt").write_text("\n".join(lines))
    (copy / "sitecustomize.py").write_text(AWAY)
    found = [copy, *(copy / name for name in ("core", "plugins", "schemas"))]
    return {"PATH": os.defpath, "PYTHONPATH": os.pathsep.join(map(str, found))}


def ran(environment: dict[str, str], *words: str | Path) -> str:
    done = subprocess.run(
        [sys.executable, *map(str, words)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("package", BUNDLED)
def test_without_one_plugin_the_others_are_found_and_load(package: str, tmp_path: Path) -> None:
    environment = deleted(package, tmp_path)

    names = {
        each["name"] for each in json.loads(ran(environment, "-m", "syncd", "plugins", "--json"))
    }
    rest = [f"{each}.plugin" for each in BUNDLED if each != package]
    program = f"import {', '.join(rest)}, importlib.util as u; print(u.find_spec({package!r}))"

    assert names == {each.removeprefix("syncd_") for each in BUNDLED if each != package}
    assert ran(environment, "-c", program) == "None\n"


def test_without_the_cars_the_demo_plays_with_others(tmp_path: Path) -> None:
    environment = deleted("syncd_cars", tmp_path)
    others = ["--only", "nppes", "--only", "ship24"]

    told = json.loads(
        ran(environment, "-m", "syncd", "demo", *others, "--json", "--data-dir", tmp_path / "demo")
    )

    jobs = {job: each["status"] for act in told["passes"] for job, each in act["jobs"].items()}
    assert {"nppes", "ship24"} <= jobs.keys()
    assert set(jobs.values()) == {"complete"}
