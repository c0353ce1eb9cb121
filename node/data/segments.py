"""The segments of a blob that several connections fetch at once, shared by their threads.

Spec: specs/data.md#bulk-transfer.
"""

import threading
from collections import Counter
from dataclasses import dataclass
from typing import Final

SEGMENT_MAX: Final = 8 * 1024 * 1024
SEGMENT_MIN: Final = 1024 * 1024
SEGMENTS_WANTED: Final = 64
"""So that holders of different rates end at about the same time."""
CONNECTIONS_PER_SEGMENT_MAX: Final = 2


@dataclass(frozen=True, slots=True)
class Segment:
    """Bytes of a blob from an offset on."""

    offset: int
    length: int


def segment_size(size: int) -> int:
    """Return the bytes of each segment but the last, of a blob of so many bytes."""
    return min(SEGMENT_MAX, max(SEGMENT_MIN, size // SEGMENTS_WANTED))


class Segments:
    """Which segments are missing, under way or here. `done` bytes are here from the start."""

    def __init__(self, size: int, done: int) -> None:
        step = segment_size(size)
        starts = range(done, size, step)
        self._size = size
        self._missing = [Segment(start, min(step, size - start)) for start in starts][::-1]
        self._under_way: Counter[Segment] = Counter()
        self._beyond: dict[int, int] = {}  # Where segments beyond the prefix begin and end.
        self._prefix = done
        self._received = done
        self._partly: dict[Segment, int] = {}  # What came of segments that are under way.
        self._is_over = False
        self._changed = threading.Condition()

    @property
    def prefix(self) -> int:
        """Return how many bytes are here without a gap from the first on."""
        return self._prefix

    @property
    def received(self) -> int:
        """Return the number of bytes that are here."""
        with self._changed:
            return self._received + sum(self._partly.values())

    def take(self, mine: tuple[Segment, ...]) -> Segment | None:
        """Return the next segment to fetch for a connection that has requested `mine`.

        At the end, what another connection fetches is fetched twice: it may be slow. Waits for
        others only if nothing is requested; None if there is nothing to do.
        """
        with self._changed:
            while not self._is_over:
                segment = self._missing.pop() if self._missing else self._slow(mine)
                if segment is not None:
                    self._under_way[segment] += 1
                    return segment
                if mine or self._prefix == self._size:
                    return None
                self._changed.wait()
        return None

    def came(self, segment: Segment, count: int) -> None:
        """Record how many bytes of a segment have come."""
        with self._changed:
            if not self._is_here(segment):
                self._partly[segment] = max(count, self._partly.get(segment, 0))

    def arrived(self, segment: Segment) -> None:
        """Record that a segment is in the file."""
        with self._changed:
            if not self._is_here(segment):
                self._received += segment.length
                self._beyond[segment.offset] = segment.offset + segment.length
            while self._prefix in self._beyond:
                self._prefix = self._beyond.pop(self._prefix)
            self._release(segment)

    def give_back(self, segment: Segment) -> None:
        """Record that a connection failed before a segment was here."""
        with self._changed:
            self._release(segment)
            if not self._is_here(segment) and segment not in self._under_way:
                self._missing.append(segment)

    def wait_beyond(self, offset: int) -> int:
        """Return the prefix once it is longer than this; 0 if it will never be."""
        with self._changed:
            while self._prefix <= offset and not self._is_over:
                self._changed.wait()
            return self._prefix if self._prefix > offset else 0

    def end(self) -> None:
        """Wake everybody who waits: nothing more will come."""
        with self._changed:
            self._is_over = True
            self._changed.notify_all()

    def _slow(self, mine: tuple[Segment, ...]) -> Segment | None:
        """Return a segment that only another connection fetches, the oldest first."""
        if mine:
            return None
        few = (s for s, n in self._under_way.items() if n < CONNECTIONS_PER_SEGMENT_MAX)
        return next(few, None)

    def _release(self, segment: Segment) -> None:
        self._under_way[segment] -= 1
        if self._is_here(segment) or self._under_way[segment] <= 0:
            del self._under_way[segment]
            self._partly.pop(segment, None)
        self._changed.notify_all()

    def _is_here(self, segment: Segment) -> bool:
        return segment.offset < self._prefix or segment.offset in self._beyond
