"""The collector is tuned once for a process, and given back by whoever tuned it."""

from __future__ import annotations

import gc
import subprocess
import sys

from syncd import collector

PROGRAM = """
import gc
from syncd.collector import YOUNG_MAX, tuned

before = gc.get_threshold()
with tuned():
    with tuned():
        assert gc.get_freeze_count() > 0
    assert gc.get_threshold()[0] == YOUNG_MAX
    assert gc.get_freeze_count() > 0
assert gc.get_threshold() == before
assert gc.get_freeze_count() == 0
print("given back")
"""


def test_the_first_one_tunes_it_and_gives_it_back() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=False
    )

    assert (done.returncode, done.stdout) == (0, "given back\n"), done.stderr


def test_a_block_within_another_collects_nothing() -> None:
    with collector.tuned():  # the tests are in one, too
        gc.collect()  # or one of the young is due between the looks
        collections = [each["collections"] for each in gc.get_stats()]
        with collector.tuned():
            pass

        assert [each["collections"] for each in gc.get_stats()] == collections
