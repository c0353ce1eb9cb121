"""The rolling digest: the same events in the same order, and only they, have the same.

Spec: specs/simulation.md#determinism.
"""

from hypothesis import given, settings
from hypothesis import strategies as st

from node.simulator.digest import EVENT, PENDING_BYTES, Digest

NUMBER = st.integers(-(2**31), 2**31 - 1)
EVENTS = st.lists(
    st.tuples(st.integers(0, 2**62), st.integers(0, 255), NUMBER, NUMBER, st.integers(0, 2**62)),
    max_size=6,
)


def digest_of(events: list[tuple[int, int, int, int, int]]) -> str:
    digest = Digest()
    for event in events:
        digest.note(*event)
    assert digest.events == len(events)
    return digest.hex()


@settings(max_examples=40)
@given(EVENTS, EVENTS)
def test_only_equal_events_have_an_equal_digest(one: list, other: list) -> None:
    assert (digest_of(one) == digest_of(other)) == (one == other)


def test_asking_for_it_changes_nothing() -> None:
    count = 2 * PENDING_BYTES // EVENT.size
    digest = Digest()
    for number in range(count):
        digest.note(number, 1, 2, 3)
        if number % 997 == 0:
            digest.hex()
    assert digest.hex() == digest.hex() == digest_of([(n, 1, 2, 3, 0) for n in range(count)])


def test_many_events_at_once_keep_their_place() -> None:
    digests = [Digest(), Digest()]
    digests[0].note(1, 1, 1, 1)
    digests[0].note_all(b"many", 5)
    digests[1].note_all(b"many", 5)
    digests[1].note(1, 1, 1, 1)
    assert [each.events for each in digests] == [6, 6]
    assert digests[0].hex() != digests[1].hex()
