"""What runs, by key, with the earliest deadline at hand.

Spec: specs/core.md#time.
"""

from dataclasses import dataclass

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from protocol.core.running import SLACK, LazyHeap, RunningStates

KEYS = st.binary(max_size=1)
TIMES = st.integers(0, 9)


@dataclass(frozen=True)
class Waits:
    deadline_ms: int


class Model(RuleBasedStateMachine):
    """The same as a look at every state."""

    def __init__(self) -> None:
        super().__init__()
        self.running: RunningStates[bytes, Waits] = RunningStates()

    @rule(key=KEYS, deadline_ms=TIMES)
    def runs(self, key: bytes, deadline_ms: int) -> None:
        self.running[key] = Waits(deadline_ms)

    @rule(key=KEYS)
    def ends(self, key: bytes) -> None:
        if key in self.running:
            del self.running[key]

    @rule(now_ms=TIMES, again_ms=TIMES)
    def time_comes(self, now_ms: int, again_ms: int) -> None:
        due = [key for key, state in self.running.items() if state.deadline_ms <= now_ms]
        times = {key: self.running[key].deadline_ms for key in due}
        taken = self.running.take_due(now_ms)
        assert sorted(taken) == sorted(due)
        assert [times[key] for key in taken] == sorted(times.values())
        for key in taken:  # Each is moved on: it goes on or is over.
            if again_ms % 2:
                self.running[key] = Waits(again_ms)
            else:
                del self.running[key]

    @invariant()
    def the_earliest_is_known(self) -> None:
        deadlines = [state.deadline_ms for state in self.running.values()]
        assert self.running.next_deadline_ms() == min(deadlines, default=None)


TestModel = Model.TestCase


def test_entries_that_are_out_of_date_do_not_pile_up() -> None:
    heap: LazyHeap[bytes] = LazyHeap()
    for number in range(10_000):
        heap.set(b"key", number)
    assert len(heap._entries) <= 2 + SLACK
    assert heap.first() == (9_999, b"key")
    assert heap.take_up_to(9_998) == []
    assert heap.take_up_to(9_999) == [b"key"]
    assert heap.first() is None
