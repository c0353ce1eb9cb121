"""Every segment is fetched, by whoever is there, and what is slow is fetched twice.

Spec: specs/data.md#bulk-transfer.
"""

import random
import threading

from hypothesis import given
from hypothesis import strategies as st

from node.data.segments import SEGMENT_MIN as SEGMENT
from node.data.segments import Segment, Segments, segment_size

SIZE = 3 * SEGMENT + 5


def test_the_end_is_fetched_twice_if_its_connection_is_slow() -> None:
    segments = Segments(SIZE, 2 * SEGMENT)
    slow = [segments.take(()), segments.take(())]
    assert [each.offset for each in slow] == [2 * SEGMENT, 3 * SEGMENT]
    again = segments.take(())
    assert again == slow[0]
    assert segments.take((again,)) is None  # It has something to do.
    segments.came(again, 100)
    assert segments.received == 2 * SEGMENT + 100
    segments.arrived(again)
    assert segments.received == segments.prefix == 3 * SEGMENT
    segments.arrived(slow[0])  # From the slow one, at last.
    assert segments.received == segments.prefix == 3 * SEGMENT
    segments.arrived(slow[1])
    assert segments.take(()) is None
    assert segments.prefix == SIZE


def test_what_a_broken_connection_had_is_missing_again() -> None:
    segments = Segments(SEGMENT, 0)
    lost = segments.take(())
    segments.came(lost, 7)
    segments.give_back(lost)
    assert segments.received == 0
    assert segments.take(()) == lost


def test_who_waits_is_woken() -> None:
    segments = Segments(SEGMENT, 0)
    only = [segments.take(()), segments.take(())]  # Twice is enough.
    assert only[0] == only[1]
    found: list[object] = []
    waiting = [
        threading.Thread(target=lambda: found.append(segments.take(()))),
        threading.Thread(target=lambda: found.append(segments.wait_beyond(0))),
    ]
    for thread in waiting:
        thread.start()
    segments.end()
    for thread in waiting:
        thread.join(60)
    assert sorted(map(str, found)) == ["0", "None"]


@given(st.integers(0, 2**32), st.integers(0, 5 * SEGMENT), st.integers(1, 4))
def test_all_bytes_come_once_whatever_fails(seed: int, size: int, connections: int) -> None:
    rng = random.Random(seed)
    segments = Segments(size, 0)
    held: list[list] = [[] for _ in range(connections)]
    busy = (Segment(0, 0),)  # Who has requested something does not wait.
    while segments.prefix < size:
        mine = rng.choice(held)
        if mine and rng.random() < 0.6:
            act = segments.arrived if rng.random() < 0.7 else segments.give_back
            act(mine.pop(0))
        elif segment := segments.take(tuple(mine) or (busy if any(held) else ())):
            mine.append(segment)
        assert 0 <= segments.received <= size
    assert segments.received == size


def test_a_blob_has_about_64_segments_of_bounded_sizes() -> None:
    assert [segment_size(mib * 2**20) // 2**20 for mib in (1, 64, 256, 512, 2048)] == [
        1, 1, 4, 8, 8,
    ]  # fmt: skip
