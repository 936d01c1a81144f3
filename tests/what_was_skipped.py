"""Say what `make test` skipped, and for want of what, from the results it left in a folder.

python tests/what_was_skipped.py FOLDER
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree as ET


def main(folder: Path) -> None:
    """Print a line for each reason."""
    lines = [
        line for file in sorted(folder.glob("*.txt")) for line in file.read_text().splitlines()
    ]
    reasons: Counter[str] = Counter()
    for file in sorted(folder.glob("*.xml")):
        for skipped in ET.parse(file).iterfind(".//skipped[@type='pytest.skip']"):
            reasons[skipped.get("message", "no reason given")] += 1
    lines += [f"{count} test{'s' * (count > 1)}: {reason}" for reason, count in reasons.items()]
    print("skipped for want of:" if lines else "nothing was skipped")
    for line in lines:
        print(f"  {line}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
