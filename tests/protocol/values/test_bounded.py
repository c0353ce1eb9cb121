"""What is bounded forgets the oldest first.

Spec: specs/parameters.md#limits.
"""

from hypothesis import given
from hypothesis import strategies as st

from protocol.values.bounded import keep_newest


@given(st.integers(0, 9), st.integers(0, 9))
def test_the_newest_are_kept_in_their_order(size: int, most: int) -> None:
    entries = dict.fromkeys(range(size))
    keep_newest(entries, most)
    assert list(entries) == list(range(size))[max(0, size - most) :]
