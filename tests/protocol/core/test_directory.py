"""The directory: newest sequence number wins, what has expired is gone, and nobody takes it over.

Spec: specs/discovery.md#directory.
"""

from collections import Counter

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from protocol.core import directory
from protocol.core.core import Core
from protocol.core.directory import Directory, DirectoryView
from protocol.machines.context import Policy
from protocol.machines.inputs import RecordReceived
from protocol.values.ids import PeerId
from protocol.values.limits import CLOCK_SKEW_MS, RECORD_FRESH_MS, RECORD_TTL_MS
from protocol.wire.messages import CapabilityRecord
from tests.driven import START_MS
from tests.strategies import SIGNERS

TTL_MS = 600_000
ANN, BEN, EVE = PeerId("ann"), PeerId("ben"), PeerId("eve")
HOME, FLOOD = "192.0.2.1", "198.51.100.7"


def record(sequence: int, *, ttl_ms: int = TTL_MS, issued_ms: int = START_MS) -> CapabilityRecord:
    return CapabilityRecord(sequence, issued_ms, ttl_ms, (), True)


def named(number: int) -> PeerId:
    return PeerId(f"peer {number}")


def listed(known: Directory, now_ms: int = START_MS) -> list[PeerId]:
    return [listing.peer for listing in known.listings(now_ms)]


def flood(known: Directory, count: int, source: str = FLOOD, now_ms: int = START_MS) -> None:
    for number in range(count):
        fresh = record(1, ttl_ms=RECORD_TTL_MS, issued_ms=now_ms)
        known.add(PeerId(f"{source} {number}"), fresh, source, now_ms)


def test_only_a_newer_record_replaces() -> None:
    known = Directory()
    assert [known.add(ANN, record(number), HOME, START_MS) for number in (5, 5, 4, 6)] == [
        True, False, False, True,
    ]  # fmt: skip
    (found,) = known.listings(START_MS)
    assert (found.peer, found.record.sequence) == (ANN, 6)
    assert known.get(ANN, START_MS) == record(6)
    assert known.get(BEN, START_MS) is None


def test_records_expire_at_their_instant() -> None:
    known = Directory()
    known.add(ANN, record(1), HOME, START_MS)
    assert len(known.listings(START_MS + TTL_MS - 1)) == 1
    assert known.listings(START_MS + TTL_MS) == ()
    assert known.get(ANN, START_MS + TTL_MS) is None
    assert list(known.providers(START_MS + TTL_MS)) == []
    known.expire(START_MS + TTL_MS)
    assert not known.add(ANN, record(1), HOME, START_MS), "still remembered"
    known.expire(START_MS + TTL_MS + 1)
    assert known.add(ANN, record(1), HOME, START_MS), "forgotten"


def test_an_expired_record_is_not_taken() -> None:
    assert not Directory().add(ANN, record(1), HOME, START_MS + TTL_MS)


def test_a_withdrawn_record_does_not_come_back() -> None:
    known = Directory()
    known.add(ANN, record(1), HOME, START_MS)
    assert known.add(ANN, record(2, ttl_ms=0), HOME, START_MS)
    assert known.listings(START_MS) == ()
    assert known.count_providers() == 0
    known.expire(START_MS + 2 * CLOCK_SKEW_MS)
    assert not known.add(ANN, record(1), HOME, START_MS)
    known.expire(START_MS + 2 * CLOCK_SKEW_MS + 1)
    assert known.add(ANN, record(1), HOME, START_MS), "its memory is bounded"


def test_those_that_lend_are_found_without_looking_at_the_others() -> None:
    known = Directory()
    for number in range(6):
        lends = CapabilityRecord(1, START_MS, TTL_MS, (), number % 2 == 0)
        known.add(named(number), lends, HOME, START_MS)
    assert [one.peer for one in known.providers(START_MS)] == [named(0), named(2), named(4)]
    assert [one.peer for one in known.providers(START_MS, start=1)] == [named(2), named(4)]
    assert [one.peer for one in known.providers(START_MS, step=2)] == [named(0), named(4)]
    assert known.count_providers() == 3
    known.add(named(0), CapabilityRecord(2, START_MS, TTL_MS, (), False), HOME, START_MS)
    assert known.count_providers() == 2


# Who gives way when it is full.


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Directory:
    monkeypatch.setattr(directory, "RECORDS_MAX", 5)
    return Directory()


def test_a_flood_from_one_source_keeps_out_nobody_from_another(small: Directory) -> None:
    for number in range(3):
        small.add(named(number), record(1), f"{HOME}{number}", START_MS)
    flood(small, 50)
    small.add(EVE, record(1), "203.0.113.1", START_MS)
    assert {named(0), named(1), named(2), EVE} < set(listed(small))
    assert len(small) == 5


def test_a_newcomer_does_not_push_out_who_came_before_from_the_same_source(
    small: Directory,
) -> None:
    for number in range(9):
        taken = small.add(named(number), record(1), HOME, START_MS)
        assert taken == (number < 5)
    assert listed(small) == [named(number) for number in range(5)]


def test_who_was_not_heard_again_in_time_gives_way_first(small: Directory) -> None:
    for number in range(5):
        small.add(named(number), record(1, ttl_ms=RECORD_TTL_MS), HOME, START_MS)
    later_ms = START_MS + RECORD_FRESH_MS + 1
    small.add(named(0), record(2, ttl_ms=RECORD_TTL_MS, issued_ms=later_ms), HOME, later_ms)
    assert small.add(EVE, record(1, ttl_ms=1_000, issued_ms=later_ms), HOME, later_ms)
    assert set(listed(small, later_ms)) == {named(0), *map(named, range(2, 5)), EVE}


def test_nobody_gains_by_claiming_a_long_life(small: Directory) -> None:
    for number in range(5):
        short = record(1, ttl_ms=60_000)
        small.add(named(number), short, HOME, START_MS)
    flood(small, 20, source=HOME)
    assert listed(small) == [named(number) for number in range(5)]


def test_those_that_we_know_are_safe_from_all_others(small: Directory) -> None:
    small.protect(ANN)
    for peer in (ANN, BEN):
        small.add(peer, record(1, ttl_ms=RECORD_TTL_MS), FLOOD, START_MS)
    small.protect(BEN)
    flood(small, 20)
    later_ms = START_MS + RECORD_FRESH_MS + 1
    flood(small, 20, source="203.0.113.1", now_ms=later_ms)
    assert {ANN, BEN} < set(listed(small, later_ms))


def test_who_is_no_longer_protected_counts_on_its_own_source(small: Directory) -> None:
    small.protect(ANN)
    small.add(ANN, record(1), FLOOD, START_MS)
    small.expose(ANN, HOME)
    flood(small, 20)
    assert ANN in listed(small), "its own source has one record"
    small.expose(EVE, HOME)  # Nobody knows it: nothing happens.
    assert len(small) == 5


def test_a_short_connection_changes_no_place_in_the_order(small: Directory) -> None:
    for number in range(4):
        small.add(named(number), record(1), HOME, START_MS)
    small.protect(named(0))
    small.expose(named(0), HOME)
    for number in range(3):
        small.add(PeerId(f"other {number}"), record(1), f"other {number}", START_MS)
    assert set(listed(small)) == {named(0), named(1), *(PeerId(f"other {n}") for n in range(3))}


def test_a_short_connection_does_not_refresh_a_record(small: Directory) -> None:
    for number in range(5):
        small.add(named(number), record(1, ttl_ms=RECORD_TTL_MS), HOME, START_MS)
    later_ms = START_MS + RECORD_FRESH_MS + 1
    for number in range(1, 5):
        again = record(2, ttl_ms=RECORD_TTL_MS, issued_ms=later_ms)
        small.add(named(number), again, HOME, later_ms)
    small.protect(named(0))
    small.expose(named(0), HOME)
    assert small.add(EVE, record(1, issued_ms=later_ms), HOME, later_ms)
    assert set(listed(small, later_ms)) == {*map(named, range(1, 5)), EVE}


def test_protected_places_are_bounded_too(
    small: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(directory, "PROTECTED_MAX", 3)
    for number in range(8):
        small.protect(named(number))
        small.add(named(number), record(1), HOME, START_MS)
    assert len(small._protected) == 3
    assert len(small) == 5
    assert {named(5), named(6), named(7)} < set(listed(small))


def test_protected_records_alone_give_way_to_each_other(small: Directory) -> None:
    for number in range(7):
        small.protect(named(number))
        small.add(named(number), record(1), HOME, START_MS)
    assert listed(small) == [named(number) for number in range(2, 7)]


def test_twenty_thousand_of_a_stranger_leave_a_thousand_honest_ones() -> None:
    """The honest ones came through a few neighbours, some before the flood and some after."""
    known = Directory()
    for number in range(500):
        known.add(named(number), record(1), f"192.0.2.{number % 4}", START_MS)
    flood(known, 25_000)
    for number in range(500, 1_000):
        known.add(named(number), record(1), f"192.0.2.{number % 4}", START_MS)
    assert len(known) == directory.RECORDS_MAX
    assert {named(number) for number in range(1_000)} < set(listed(known))


class Attacked(RuleBasedStateMachine):
    """Any order of records, refreshes, connections and time."""

    def __init__(self) -> None:
        super().__init__()
        self.known, self.now_ms, self.places = Directory(), START_MS, 6

    @rule(
        who=st.integers(0, 15), source=st.integers(0, 3), sequence=st.integers(1, 4),
        ttl_ms=st.sampled_from([0, 1_000, RECORD_TTL_MS]),
    )  # fmt: skip
    def record_comes(self, who: int, source: int, sequence: int, ttl_ms: int) -> None:
        self.known.expire(self.now_ms)
        before = self.sources()
        fresh = record(sequence, ttl_ms=ttl_ms, issued_ms=self.now_ms)
        is_new = named(who) not in before
        directory.RECORDS_MAX, keep = self.places, directory.RECORDS_MAX
        try:
            self.known.add(named(who), fresh, str(source), self.now_ms)
        finally:
            directory.RECORDS_MAX = keep
        after = self.sources()
        gone = before.keys() - after.keys()
        assert len(gone) <= is_new
        sizes = Counter(before.values())
        if is_new:
            came_from = self.known._source_for(named(who), str(source))
            sizes[came_from] += 1
        unprotected = [sizes[one] for one in sizes if one != directory.PROTECTED]
        for peer in gone:
            if unprotected:
                assert before[peer] != directory.PROTECTED
                assert sizes[before[peer]] == max(unprotected), "the fullest source loses"

    @rule(who=st.integers(0, 15), source=st.integers(0, 3), connected=st.booleans())
    def connection_changes(self, who: int, source: int, connected: bool) -> None:
        if connected:
            self.known.protect(named(who))
        else:
            self.known.expose(named(who), str(source))

    @rule(ms=st.sampled_from([1, 1_000, RECORD_FRESH_MS, RECORD_TTL_MS]))
    def time_passes(self, ms: int) -> None:
        self.now_ms += ms
        self.known.expire(self.now_ms)

    def sources(self) -> dict[PeerId, str]:
        return {peer: entry.source for peer, entry in self.known._entries.items()}

    @invariant()
    def all_books_agree(self) -> None:
        assert len(self.known) <= self.places
        shares = {
            peer: source
            for source, share in self.known._shares.items()
            for peer in share._arrived._priorities
        }
        assert shares == self.sources()
        lend = {one.peer for one in self.known.providers(0)}
        entries = self.known._entries.values()
        assert lend == {one.listing.peer for one in entries if one.listing.record.ttl_ms}


TestAttacked = Attacked.TestCase


def test_cores_may_share_what_they_know_and_by_default_do_not() -> None:
    shared: DirectoryView = Directory()
    one, other = (Core(signer, Policy(), shared) for signer in SIGNERS[:2])
    alone = Core(SIGNERS[2], Policy())
    signed = SIGNERS[3].sign(record(1))
    one.handle(RecordReceived(signed, HOME), START_MS)
    for core in (one, other):
        assert core.record_of(signed.signer, START_MS) == record(1)
        assert [each.peer for each in core.status(START_MS).listings] == [signed.signer]
    assert alone.record_of(signed.signer, START_MS) is None
