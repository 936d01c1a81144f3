"""Keep rendered records, so that each is rendered once.

Records are kept one by one in an anonymous temporary file, not as pages in memory. One by one,
because a page is then put together from whatever cars it holds now: an insertion at the head, which
shifts every page, renders only the new cars, and a change renders only the changed ones. In a file,
because 190,000 cars of real weight are 1.1 GB: the operating system may drop what it cached of a
file, and a test that watches the memory of the process sees none of it.
"""

from __future__ import annotations

import os
import tempfile
import weakref
from array import array
from collections.abc import Callable, Sequence

_SEPARATOR = b","
_SEPARATOR_BYTES = 1


class KeptRecords:
    """The bytes of records by index, each with the comma that follows it in a list.

    At most `bytes_max` are kept: beyond, all are forgotten and rendered again when they are asked
    for. A forgotten record leaves its bytes in the file until then.
    """

    def __init__(self, render: Callable[[int], bytes], *, bytes_max: int) -> None:
        self._render = render
        self._bytes_max = bytes_max
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as we do
        weakref.finalize(self, self._file.close)
        self._end = 0
        self._offsets = array("Q")
        self._lengths = array("I")  # 0: not kept
        self.rendered = 0
        """How many records were rendered so far, repetitions included."""

    @property
    def size_bytes(self) -> int:
        """How much is kept now, forgotten records included."""
        return self._end

    def forget(self, index: int) -> None:
        """Render the record at `index` anew when it is next asked for."""
        if index < len(self._lengths):
            self._lengths[index] = 0

    def joined(self, indices: Sequence[int]) -> bytes:
        """Return the records at `indices`, in that order, separated by commas."""
        self._make_room(max(indices, default=-1) + 1)
        missing = self._missing(indices)
        if missing and not self._append(missing):
            self._forget_all()
            self._append(self._missing(indices))
        return self._read(indices)

    def _make_room(self, size: int) -> None:
        lack = size - len(self._lengths)
        if lack > 0:
            self._offsets.frombytes(bytes(lack * self._offsets.itemsize))
            self._lengths.frombytes(bytes(lack * self._lengths.itemsize))

    def _missing(self, indices: Sequence[int]) -> list[int]:
        lengths = self._lengths
        return [index for index in indices if not lengths[index]]

    def _forget_all(self) -> None:
        self._end = 0
        self._file.truncate(0)
        self._lengths = array("I", bytes(len(self._lengths) * self._lengths.itemsize))

    def _append(self, indices: Sequence[int]) -> bool:
        """Render and keep; False, and nothing kept, if they find no room beside the others."""
        records = [self._render(index) for index in indices]
        self.rendered += len(records)
        blob = _SEPARATOR.join([*records, b""])
        if self._end and self._end + len(blob) > self._bytes_max:
            return False
        _write(self._file.fileno(), blob, self._end)
        for index, record in zip(indices, records, strict=True):
            self._offsets[index] = self._end
            self._lengths[index] = len(record)
            self._end += len(record) + _SEPARATOR_BYTES
        return True

    def _read(self, indices: Sequence[int]) -> bytes:
        """Read records; those that lie one behind the other are one read."""
        offsets, lengths = self._offsets, self._lengths
        runs: list[tuple[int, int]] = []
        first = last = -1
        for index in indices:
            offset = offsets[index]
            if offset != last:
                runs.append((first, last))
                first = offset
            last = offset + lengths[index] + _SEPARATOR_BYTES
        runs.append((first, last))
        descriptor = self._file.fileno()
        return _SEPARATOR.join(
            os.pread(descriptor, last - _SEPARATOR_BYTES - first, first) for first, last in runs[1:]
        )


def _write(descriptor: int, blob: bytes, offset: int) -> None:
    """Write all of `blob`: one call writes at most 2 GiB, and less on a full disk."""
    view = memoryview(blob)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view = view[written:]
        offset += written
