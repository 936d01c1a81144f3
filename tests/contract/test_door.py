"""The public door for plugins: `import syncd`, and what stands in its `__all__`.

That an author's code is checked against it by type is shown by `tests/typing/api.py`, which
`make types` reads and nobody runs.
"""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from importlib import import_module

import pytest
from sources import ROOT, core

import syncd


def test_the_doors_names_are_sorted_and_there() -> None:
    assert list(syncd.__all__) == sorted(set(syncd.__all__))
    assert [name for name in syncd.__all__ if not hasattr(syncd, name)] == []


def test_whatever_the_door_imports_of_ours_is_public() -> None:
    (door,) = (source for source in core() if source.module == "syncd")
    ours = {name for name, dotted in door.imported.items() if dotted.startswith("syncd.")}

    assert ours == set(syncd.__all__)


def test_every_name_of_the_door_is_what_the_type_checker_takes_it_for() -> None:
    """Imported by name for who reads the door, and at its first use for who runs it."""
    (door,) = (source for source in core() if source.module == "syncd")
    declared = {name: dotted for name, dotted in door.imported.items() if name in syncd.__all__}

    for name, dotted in declared.items():
        module, _, there = dotted.rpartition(".")
        assert getattr(syncd, name) is getattr(import_module(module), there), name
    assert set(declared) <= set(dir(syncd))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = syncd.nothing


def test_the_door_brings_no_driver_and_no_client_along() -> None:
    """A plugin, its simulator and the checks of a configuration start without them."""
    program = "import sys, syncd; print({'httpx', 'psycopg', 'rich'} & set(sys.modules) or None)"
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )

    assert ran.stdout.strip() == "None"


def test_every_class_and_function_of_the_door_says_what_it_is() -> None:
    silent = [
        name
        for name in syncd.__all__
        if (inspect.isclass(getattr(syncd, name)) or inspect.isfunction(getattr(syncd, name)))
        and not getattr(syncd, name).__doc__
    ]

    assert silent == []


def test_every_name_of_the_door_is_used_by_the_typed_example() -> None:
    example = ast.parse((ROOT / "tests/typing/api.py").read_text(encoding="utf-8"))
    used = {
        node.attr
        for node in ast.walk(example)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "syncd"
    }

    assert set(syncd.__all__) - used == set()
