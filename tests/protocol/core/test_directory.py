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


def test_the_soonest_to_expire_gives_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory, "RECORDS_MAX", 3)
    known = Directory()
    for who, ttl_ms in enumerate([50_000, 20_000, 90_000, 10_000]):
        known.add(record(1, ttl_ms=ttl_ms, who=who), START_MS)
    assert {listing.peer for listing in known.listings(START_MS)} == {
        SIGNERS[who].peer_id for who in (0, 2, 3)
    }
