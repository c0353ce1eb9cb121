"""Places in an auction: not the first to come has them, and who broke its word is served last.

Spec: specs/standing.md.
"""

from dataclasses import replace

from protocol.core.jobs import Job
from protocol.machines.context import Context
from protocol.machines.inputs import DeadlineReached, JobCancelled
from protocol.machines.requester.auction.places import in_places, seated, unopened, welcome
from protocol.machines.requester.auction.states import Commitment
from protocol.rules.selection import Offer
from protocol.rules.standing import BROKEN, JOB, Standing
from protocol.values.ids import CallId, JobId, PeerId
from protocol.values.limits import BIDS_MAX
from protocol.wire.messages import Bid
from tests.driven import POLICY, START_MS
from tests.protocol.machines.requester.auction.test_machine import after, auction_of
from tests.simulated_network import job_spec
from tests.strategies import SIGNERS

CALL = CallId(bytes(32))
SERVED, BROKE = PeerId("served"), PeerId("broke")
STANDINGS = {
    SERVED: Standing(settled=True, done=JOB),
    BROKE: Standing(strikes=BROKEN, struck_ms=START_MS),
}
CONTEXT = Context(
    START_MS, SIGNERS[0], POLICY, lambda peer: STANDINGS.get(peer, Standing())
)  # fmt: skip
AUCTION = auction_of(Job(JobId(bytes(16)), job_spec(), START_MS), 1, (), CONTEXT)
DOUBTED = replace(AUCTION, is_doubted=True)


def commitment(name: str) -> Commitment:
    return Commitment(PeerId(name), bytes(32))


def places(*names: str, call_id: CallId = CALL, expected: tuple[PeerId, ...] = ()) -> set[str]:
    """Return who has a place if all these commit, one after another."""
    taken: tuple[Commitment, ...] = ()
    auction = replace(AUCTION, call_id=call_id, expected=expected)
    for name in names:
        taken = seated((*taken, commitment(name)), auction, CONTEXT)
        assert len(taken) <= BIDS_MAX
    return {bidder.peer for bidder in taken}


def test_all_have_a_place_while_there_are_some() -> None:
    names = [f"peer{number}" for number in range(BIDS_MAX - 1)]
    assert places(*names, BROKE) == {*names, BROKE}


def test_the_order_of_arrival_does_not_matter() -> None:
    names = [f"peer{number}" for number in range(3 * BIDS_MAX)]
    taken = places(*names)
    assert taken == places(*reversed(names))
    assert taken != set(names[:BIDS_MAX])
    assert taken != places(*names, call_id=CallId(bytes([1]) * 32)), "each call draws anew"


def test_who_is_waited_for_has_a_place_before_others_unless_it_broke_its_word() -> None:
    """Otherwise a crowd of strangers would make an auction wait to the end of its window."""
    names = [f"peer{number}" for number in range(3 * BIDS_MAX)]
    expected = tuple(PeerId(name) for name in names[::6])
    assert places(*names, expected=expected) >= set(expected)
    assert BROKE not in places(*names, BROKE, expected=(*expected, BROKE))
    assert SERVED in places(*names, SERVED, expected=expected)


def test_who_served_us_has_a_place_before_others_and_who_broke_its_word_after_them() -> None:
    names = [f"peer{number}" for number in range(BIDS_MAX)]
    for order in ([BROKE, *names, SERVED], [SERVED, BROKE, *names], [*names, SERVED, BROKE]):
        taken = places(*order)
        assert SERVED in taken
        assert BROKE not in taken


def test_who_broke_its_word_is_welcome_where_nobody_else_is() -> None:
    both = commitment("peer"), commitment(BROKE)
    assert welcome(both, AUCTION, CONTEXT) == both[:1]
    assert welcome(both[1:], AUCTION, CONTEXT) == both[1:]
    forgiven = replace(CONTEXT, now_ms=START_MS + 10**7)
    assert len(welcome(both, AUCTION, forgiven)) == 2


def test_a_doubted_job_goes_to_who_has_served_us() -> None:
    bidders = tuple(commitment(name) for name in ("a", SERVED, "b", BROKE))
    assert welcome(bidders, AUCTION, CONTEXT) == bidders[:3]
    assert welcome(bidders, DOUBTED, CONTEXT) == (commitment(SERVED),)


def test_a_doubted_job_goes_to_two_strangers_by_lot_if_nobody_has_served_us() -> None:
    strangers = tuple(commitment(f"peer{number}") for number in range(BIDS_MAX))
    drawn = welcome(strangers, DOUBTED, CONTEXT)
    assert len(drawn) == 2
    assert set(drawn) < set(strangers)
    assert welcome(strangers[::-1], DOUBTED, CONTEXT) == drawn, "not by the order of arrival"
    other = replace(DOUBTED, call_id=CallId(bytes([1]) * 32))
    assert welcome(strangers, other, CONTEXT) != drawn, "each call draws anew"
    assert welcome((commitment(BROKE),), DOUBTED, CONTEXT) == (commitment(BROKE),)


def test_who_leaves_its_commitment_closed_is_at_fault() -> None:
    machine = after(1)
    machine.reveals(2, 20, honest=True)
    silent = {SIGNERS[who].peer_id for who in (1, 3)}
    assert unopened(machine.state, DeadlineReached()) == silent
    assert unopened(machine.state, JobCancelled(JobId(bytes(16)))) == set()
    assert unopened(after(0).state, DeadlineReached()) == set()


def test_offers_keep_their_order_among_equals() -> None:
    bids = [Offer(PeerId(name), Bid(ask, "x", 1, 2_000, 1_000, 0), b"")
            for ask, name in enumerate([BROKE, "b", "a", SERVED])]  # fmt: skip
    assert [offer.peer for offer in in_places(bids, CONTEXT)] == [SERVED, "b", "a", BROKE]
