"""The directory: newest sequence number wins, what has expired is gone.

Spec: specs/discovery.md#directory.
"""

import pytest

from protocol.core import directory
from protocol.core.directory import Directory
from protocol.values.limits import CLOCK_SKEW_MS
from protocol.wire.envelope import Signed
from protocol.wire.messages import CapabilityRecord
from tests.driven import START_MS
from tests.strategies import SIGNERS

TTL_MS = 600_000


def record(
    sequence: int, *, ttl_ms: int = TTL_MS, issued_ms: int = START_MS, who: int = 0
) -> Signed[CapabilityRecord]:
    return SIGNERS[who].sign(CapabilityRecord(sequence, issued_ms, ttl_ms, (), True))


def test_only_a_newer_record_replaces() -> None:
    known = Directory()
    assert [known.add(record(number), START_MS) for number in (5, 5, 4, 6)] == [
        True, False, False, True,
    ]  # fmt: skip
    assert [listing.record.sequence for listing in known.listings(START_MS)] == [6]


def test_records_expire_at_their_instant() -> None:
    known = Directory()
    known.add(record(1), START_MS)
    assert len(known.listings(START_MS + TTL_MS - 1)) == 1
    assert known.listings(START_MS + TTL_MS) == ()
    known.expire(START_MS + TTL_MS)
    assert not known.add(record(1), START_MS), "still remembered"
    known.expire(START_MS + TTL_MS + 1)
    assert known.add(record(1), START_MS), "forgotten"


def test_an_expired_record_is_not_taken() -> None:
    assert not Directory().add(record(1), START_MS + TTL_MS)


def test_a_withdrawn_record_does_not_come_back() -> None:
    known = Directory()
    known.add(record(1), START_MS)
    assert known.add(record(2, ttl_ms=0), START_MS)
    assert known.listings(START_MS) == ()
    known.expire(START_MS + 2 * CLOCK_SKEW_MS)
    assert not known.add(record(1), START_MS)
    known.expire(START_MS + 2 * CLOCK_SKEW_MS + 1)
    assert known.add(record(1), START_MS), "its memory is bounded"


def listed(known: Directory) -> list[int]:
    """Return the numbers of the signers whose records are known."""
    peers = [listing.peer for listing in known.listings(START_MS)]
    return [who for who, signer in enumerate(SIGNERS) if signer.peer_id in peers]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Directory:
    monkeypatch.setattr(directory, "RECORDS_MAX", 3)
    return Directory()


def test_who_was_heard_longest_ago_gives_way_whatever_it_claims(small: Directory) -> None:
    for who, ttl_ms in enumerate([90_000, 20_000, 50_000]):
        small.add(record(1, ttl_ms=ttl_ms, who=who), START_MS)
    small.add(record(2, ttl_ms=20_000, who=0), START_MS)  # Heard again.
    small.add(record(1, ttl_ms=10_000, who=3), START_MS)
    assert listed(small) == [0, 2, 3]


def test_a_flood_of_strangers_pushes_out_strangers_alone(small: Directory) -> None:
    for who in (0, 1):
        small.meet(SIGNERS[who].peer_id)
    for who in range(8):
        small.add(record(1, ttl_ms=10_000 if who < 2 else TTL_MS, who=who), START_MS)
    assert listed(small) == [0, 1, 7]
    assert [listing.peer for listing in small.listings(START_MS)][-1] == SIGNERS[7].peer_id


def test_who_is_met_later_is_safe_from_then_on(small: Directory) -> None:
    small.add(record(1, who=0), START_MS)
    small.meet(SIGNERS[0].peer_id)
    for who in range(1, 8):
        small.add(record(1, who=who), START_MS)
    assert listed(small) == [0, 6, 7]


def test_too_many_that_we_met_are_bounded_too(
    small: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    for who in range(5):
        small.meet(SIGNERS[who].peer_id)
        small.add(record(1, who=who), START_MS)
    assert listed(small) == [2, 3, 4]
    monkeypatch.setattr(directory, "STANDINGS_MAX", 2)
    small.meet(SIGNERS[7].peer_id)
    assert len(small._met) <= 5
