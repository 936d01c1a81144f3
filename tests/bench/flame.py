"""A flame graph as text: the tree of a profile's stacks, with the share of each.

python tests/bench/run.py --programs syncd --py-spy stacks.txt    records collapsed stacks
python tests/bench/flame.py stacks.txt > tests/bench/profiles/NAME.txt

A line is a function, and how many percent of the samples it or what it calls is in; below it what
it calls. Samples are of whoever holds the interpreter's lock: of Python's work, not of waiting.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import attrs

LEAST_PERCENT = 1.0
DULL = ("importlib", "outcome/", "threading.py", "trio/_threads.py", "trio/_core")


@attrs.define
class Frame:
    """A function where it is called from, with its samples."""

    samples: int = 0
    calls: dict[str, Frame] = attrs.field(factory=dict)

    def add(self, stack: Iterable[str], samples: int) -> None:
        """Count a stack, the outermost function first."""
        frame = self
        frame.samples += samples
        for name in stack:
            frame = frame.calls.setdefault(name, Frame())
            frame.samples += samples

    def lines(self, total: int, depth: int = 0) -> Iterator[str]:
        for name, frame in sorted(self.calls.items(), key=lambda item: -item[1].samples):
            percent = 100 * frame.samples / total
            if percent >= LEAST_PERCENT:
                yield f"{percent:5.1f} {'  ' * depth}{name}"
                yield from frame.lines(total, depth + 1)


def tree(collapsed: Iterable[str]) -> Frame:
    """Read ``outer;inner;innermost 12`` lines; what only passes a call on is left out."""
    root = Frame()
    for line in collapsed:
        stack, _, samples = line.rpartition(" ")
        names = [name for name in stack.split(";") if not any(dull in name for dull in DULL)]
        root.add(names, int(samples))
    return root


def main(file: Path) -> None:
    root = tree(file.read_text().splitlines())
    print(f"{root.samples} samples; percent of them, from {LEAST_PERCENT:g} on")
    print("\n".join(root.lines(root.samples)))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
