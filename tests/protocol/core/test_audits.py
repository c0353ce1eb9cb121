"""Audits: a bidder compares its set with another one that only it knows beforehand.

Spec: specs/auction.md#audits.
"""

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from protocol.core.audits import Audits
from protocol.core.candidates import Candidates
from protocol.core.directory import Directory
from protocol.core.standings import Standings
from protocol.machines.context import Context
from protocol.machines.effects import Send
from protocol.rules.verification import OpenedBid
from protocol.values.ids import CallId, PeerId
from protocol.values.limits import CHECKS_BURST, CHECKS_PER_MINUTE, RECORD_TTL_MS
from protocol.wire.envelope import open_envelope
from protocol.wire.messages import CapabilityRecord, CommitSet, SetCheck
from tests.driven import POLICY, START_MS
from tests.signed_auction import SignedAuction
from tests.strategies import SIGNERS

REQUESTER, OWN, *OTHERS = (signer.peer_id for signer in SIGNERS)
ALWAYS = replace(POLICY, audit_percent=100)
RECORD = CapabilityRecord(
    1, START_MS, RECORD_TTL_MS, (), True, "", 4, 4_096, 50_000, (), ("embedded",)
)


class Auditing:
    """A bidder, the nodes that it knows, and its bids in auctions."""

    def __init__(self, *known: PeerId, connected: tuple[PeerId, ...] = (), own: int = 1) -> None:
        self.directory = Directory()
        for peer in known:
            self.knows(peer)
        self.audits = Audits(Candidates(self.directory, Standings()), connected)
        self.context = Context(START_MS, SIGNERS[own], ALWAYS)

    def knows(self, peer: PeerId, **changes: Any) -> None:
        self.directory.add(peer, replace(RECORD, **changes), "", START_MS)

    def begin(self, nonce: int = 0, **given: Any) -> list[Send]:
        """Open a bid in another auction; return what it sends."""
        context = replace(self.context, **given)
        return self.audits.begin(bid_in(nonce), context)  # type: ignore[return-value]


def bid_in(nonce: int, **changes: Any) -> OpenedBid:
    auction = SignedAuction([(30, 1), (50, 1)], nonce=nonce)
    bid = auction.bid(1)
    return replace(bid, call=auction.told(replace(bid.call.message, **changes)))


def asked(sends: list[Send]) -> PeerId:
    (send,) = sends
    return send.peer


def test_a_bidder_shows_its_signed_set_once() -> None:
    (send,) = Auditing(OTHERS[0]).begin()
    bid = bid_in(0)
    assert bid.commit_set is not None
    told = open_envelope(send.envelope, SIGNERS[1].network_id, OWN)
    assert (send.peer, send.until_ms, told.signer) == (OTHERS[0], 0, OWN)
    assert told.message == SetCheck(CallId(bid.call.content_id), bid.commit_set.envelope)


def test_it_asks_neither_itself_nor_the_requester_nor_who_cannot_bid() -> None:
    bidder = Auditing(OWN, REQUESTER)
    bidder.knows(OTHERS[0], providing=False)
    bidder.knows(OTHERS[1], memory_mib=1)
    assert [bidder.begin(nonce) for nonce in range(20)] == [[]] * 20
    bidder.knows(OTHERS[2])
    assert {asked(bidder.begin(nonce)) for nonce in range(20)} == {OTHERS[2]}


def test_it_asks_only_who_is_drawn() -> None:
    bidder = Auditing(*OTHERS)
    told = [bidder.audits.begin(bid_in(n, lottery=1), bidder.context) for n in range(20)]
    assert told == [[]] * 20, "the lottery draws one of a million"


@pytest.mark.parametrize("percent, least, most", [(0, 0, 0), (25, 30, 70), (100, 200, 200)])
def test_how_often_is_the_owners_choice(percent: int, least: int, most: int) -> None:
    bidder = Auditing(*OTHERS)
    policy = replace(POLICY, audit_percent=percent)
    count = sum(
        bool(bidder.begin(nonce, policy=policy, now_ms=START_MS + nonce * 10_000))
        for nonce in range(200)
    )
    assert least <= count <= most


def test_whom_it_asks_depends_on_a_secret_and_not_on_the_set_alone() -> None:
    """A requester that could compute it would make the set so that its own shill is asked."""
    one, same, other = (Auditing(*OTHERS[1:], own=own) for own in (1, 1, 2))
    chosen = [[asked(each.begin(nonce)) for nonce in range(50)] for each in (one, same, other)]
    assert chosen[0] == chosen[1] != chosen[2]
    assert set(Counter(chosen[0])) == set(OTHERS[1:])
    assert max(Counter(chosen[0]).values()) < 25


@pytest.mark.parametrize("count", range(1, 7))
def test_each_of_a_few_has_its_turn(count: int) -> None:
    bidder = Auditing(*OTHERS[:count])
    assert {asked(bidder.begin(nonce)) for nonce in range(60)} == set(OTHERS[:count])


def test_it_asks_who_is_connected_first_because_a_record_proves_nothing() -> None:
    bidder = Auditing(*OTHERS, connected=(OTHERS[4], REQUESTER, OWN))
    assert {asked(bidder.begin(nonce)) for nonce in range(30)} == {OTHERS[4]}


def test_of_a_large_directory_all_have_their_turn() -> None:
    many = [PeerId(f"peer {number}") for number in range(2_000)]
    bidder = Auditing(*many)
    chosen = [
        many.index(asked(bidder.begin(nonce, now_ms=START_MS + nonce * 10_000)))
        for nonce in range(60)
    ]
    assert all(any(start <= n < start + 500 for n in chosen) for start in range(0, 2_000, 500))


def test_it_asks_so_often_and_no_more() -> None:
    bidder = Auditing(*OTHERS)
    told = [bidder.begin(nonce % 250) for nonce in range(CHECKS_BURST + 1)]
    assert told[CHECKS_BURST - 1]
    assert told[CHECKS_BURST] == []
    later_ms = START_MS + 60_000 // CHECKS_PER_MINUTE
    assert bidder.begin(0, now_ms=later_ms)
    assert bidder.begin(1, now_ms=later_ms) == []


def test_the_largest_set_fits_into_a_check() -> None:
    digests = tuple(bytes([number]) * 32 for number in range(64))
    closed = SIGNERS[0].sign(CommitSet(CallId(bytes(32)), digests, (4_000_000,) * 64))
    SIGNERS[1].sign(SetCheck(CallId(bytes(32)), closed.envelope))
