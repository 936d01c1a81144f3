"""The wheel: built from a copy of the sources, it holds all that runs and nothing else."""

from __future__ import annotations

import configparser
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from sources import ROOT

BUNDLED = sorted(each.parent.name for each in ROOT.glob("plugins/*/__init__.py"))
PACKAGES = ("syncd", "syncd_schemas", *BUNDLED)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    copy = tmp_path_factory.mktemp("sources")
    skipped = shutil.ignore_patterns("__pycache__")
    for name in ("core", "plugins", "schemas", "tests", "contrib"):
        shutil.copytree(ROOT / name, copy / name, ignore=skipped)
    for name in ("pyproject.toml", "README.md", "LICENSE", ".gitignore"):
        shutil.copy(ROOT / name, copy / name)
    built = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", "dist"],
        cwd=copy,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    (file,) = (copy / "dist").glob("*.whl")
    return zipfile.ZipFile(file)


@pytest.fixture(scope="module")
def names(wheel: zipfile.ZipFile) -> set[str]:
    return set(wheel.namelist())


def test_every_module_and_file_of_the_packages_is_in_the_wheel(names: set[str]) -> None:
    sources = {
        str(file.relative_to(ROOT / folder))
        for folder in ("core", "plugins", "schemas")
        for file in (ROOT / folder).rglob("*")
        if file.is_file() and "__pycache__" not in file.parts and file.suffix not in {".md", ".svg"}
    }

    assert {"syncd/py.typed", "syncd_schemas/events.schema.json"} <= sources
    assert any(name.endswith(".sql") for name in sources)
    assert sources - names == set()


def test_nothing_else_is_in_the_wheel(names: set[str]) -> None:
    tops = {name.partition("/")[0] for name in names}

    assert {top for top in tops if not top.endswith(".dist-info")} == set(PACKAGES)
    assert [name for name in names if "tests" in Path(name).parts or "/test_" in name] == []


def test_the_wheel_registers_its_program_and_its_plugins(wheel: zipfile.ZipFile) -> None:
    (file,) = (name for name in wheel.namelist() if name.endswith("/entry_points.txt"))
    points = configparser.ConfigParser()
    points.read_string(wheel.read(file).decode())

    assert dict(points["console_scripts"]) == {"syncd": "syncd.cli:main"}
    assert set(dict(points["syncd.plugins"]).values()) == {f"{name}.plugin" for name in BUNDLED}


def test_the_wheel_runs_without_the_sources(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    """Unpacked elsewhere, the program starts and finds its SQL and its schemas."""
    wheel.extractall(tmp_path)
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import syncd, syncd.cli.commands, syncd_cars.plugin, syncd_cars.simulator\n"
        "from importlib.resources import files\n"
        "from syncd.store.migrations import shipped\n"
        "assert syncd.__file__.startswith(sys.argv[1]), syncd.__file__\n"
        "assert files('syncd_schemas').joinpath('config.schema.json').is_file()\n"
        "print(len(shipped()))\n"
    )
    ran = subprocess.run(
        [sys.executable, "-P", "-c", program, tmp_path],
        cwd=tmp_path,
        env={"PATH": os.defpath},  # no coverage of what is a copy
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert ran.returncode == 0, ran.stderr
    assert int(ran.stdout) >= 1
