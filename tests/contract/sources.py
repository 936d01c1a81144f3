"""The sources as these tests read them: as text and as trees, never imported."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache, cached_property
from pathlib import Path
from typing import TypeVar

import attrs

ROOT = Path(__file__).parents[2]

Node = TypeVar("Node", bound=ast.AST)


@attrs.frozen
class Source:
    """One module."""

    path: Path  # from the root of the repository
    module: str
    lines: tuple[str, ...]
    tree: ast.Module

    @classmethod
    def read(cls, file: Path, *, root: Path) -> Source:
        text = file.read_text(encoding="utf-8")
        module = ".".join(file.relative_to(root).with_suffix("").parts)
        return cls(
            file.relative_to(ROOT),
            module.removesuffix(".__init__"),
            tuple(text.splitlines()),
            ast.parse(text),
        )

    def nodes(self, kind: type[Node]) -> Iterator[Node]:
        return (node for node in ast.walk(self.tree) if isinstance(node, kind))

    def functions(self) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
        yield from self.nodes(ast.FunctionDef)
        yield from self.nodes(ast.AsyncFunctionDef)

    def at(self, node: ast.stmt | ast.expr | ast.ExceptHandler) -> str:
        """Where a node stands, as an editor opens it."""
        return f"{self.path}:{node.lineno}"

    @cached_property
    def imported(self) -> dict[str, str]:
        """What the names that this module imports stand for, with their dots."""
        names = {}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                for each in node.names:
                    top = each.name.partition(".")[0]
                    names[each.asname or top] = each.name if each.asname else top
            elif isinstance(node, ast.ImportFrom):
                for each in node.names:
                    names[each.asname or each.name] = f"{node.module}.{each.name}"
        return names

    def mentions(self) -> Iterator[tuple[ast.expr, str]]:
        """Every name and attribute that comes from an import, with its dotted name."""
        for node in ast.walk(self.tree):
            if isinstance(node, (ast.Name, ast.Attribute)) and (dotted := _dotted(node)):
                first, dot, rest = dotted.partition(".")
                if first in self.imported:
                    yield node, f"{self.imported[first]}{dot}{rest}"


def _dotted(node: ast.expr) -> str | None:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (before := _dotted(node.value)):
        return f"{before}.{node.attr}"
    return None


def _read(folder: str) -> list[Source]:
    root = ROOT / folder
    return [Source.read(file, root=root) for file in sorted(root.rglob("*.py"))]


@cache
def core() -> list[Source]:
    """The modules of the daemon."""
    return _read("core")


@cache
def shipped() -> list[Source]:
    """The modules of the wheel: of the daemon, of the bundled plugins, and the schemas'."""
    return [*core(), *_read("plugins"), *_read("schemas")]


@cache
def of_tests() -> list[Source]:
    """The modules of the tests."""
    return _read("tests")
