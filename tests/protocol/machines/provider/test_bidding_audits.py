"""What a bidder concludes from the sets that other bidders show it.

Spec: specs/auction.md#audits.
"""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.machines.effects import Accuse, Send
from protocol.machines.provider import bidding
from protocol.machines.provider.bidding import Committed, Over, Revealed, StandingBy
from protocol.machines.table import step
from protocol.rules.fraud import Fraud
from protocol.values.ids import CallId
from protocol.values.units import PPM
from protocol.wire.envelope import Signed
from protocol.wire.job import QUICK
from protocol.wire.messages import Cancel, CommitSet, SetCheck
from tests.driven import START_MS, signed_by
from tests.protocol.machines.provider.test_bidding import (
    CONTEXT,
    REQUESTER,
    accused,
    bidder,
    opened,
)
from tests.signed_auction import SignedAuction
from tests.strategies import SIGNERS


def check_of(auction: SignedAuction, closed: Signed[CommitSet], who: int = 3) -> Signed[SetCheck]:
    return SIGNERS[who].sign(SetCheck(auction.call_id, closed.envelope))


def sets_of(auction: SignedAuction) -> tuple[Signed[CommitSet], Signed[CommitSet]]:
    """Return the set of an auction, and another one that the requester has signed."""
    assert auction.commit_set is not None
    return auction.commit_set, auction.told(replace(auction.commit_set.message, weights=()))


def committed_in(auction: SignedAuction) -> Committed:
    """Return the state of the second bidder before it has its set."""
    _, state = opened()
    return Committed(state.bidding, state.deadline_ms)


BIDDER = replace(CONTEXT, signer=SIGNERS[2])
"""The second bidder of an auction."""


def heard(state: Any, event: Any) -> tuple[Any, tuple[Any, ...]]:
    return step(bidding.TRANSITIONS, state, event, BIDDER)


def assert_accused(effects: tuple[Any, ...], ours: Signed[CommitSet], who: int = 3) -> None:
    """Two sets are proven, and who has the other one is shown ours."""
    accusation, shown = effects
    assert accused((accusation,)) == [Fraud.EQUIVOCATION]
    assert accusation.finding.requester == SIGNERS[0].peer_id
    said = SIGNERS[2].sign(SetCheck(ours.message.call_id, ours.envelope))
    assert shown == Send(SIGNERS[who].peer_id, said.envelope, 0)


@pytest.mark.parametrize("until", [Revealed, StandingBy])
def test_a_bidder_that_is_shown_another_set_accuses_and_shows_its_own(until: type) -> None:
    auction, state = opened(until=until)
    ours, other = sets_of(auction)
    assert heard(state, check_of(auction, ours)) == (state, ())
    following, effects = heard(state, check_of(auction, other))
    assert following == Over()
    assert_accused(effects, ours)


def test_a_bidder_does_not_open_its_bid_to_another_set_than_it_was_shown() -> None:
    auction, _ = opened()
    ours, other = sets_of(auction)
    warned, effects = heard(committed_in(auction), check_of(auction, other))
    assert (warned.shown.peer, warned.shown.commit_set) == (SIGNERS[3].peer_id, other)
    assert effects == ()
    following, effects = heard(warned, ours)
    assert following == Over()
    assert_accused(effects, ours)


def test_a_bidder_opens_its_bid_to_the_set_that_it_was_shown() -> None:
    auction, _ = opened()
    ours, _ = sets_of(auction)
    warned, _ = heard(committed_in(auction), check_of(auction, ours))
    assert heard(warned, check_of(auction, ours, 4)) == (warned, ())
    following, (send,) = heard(warned, ours)
    assert isinstance(following, Revealed)
    assert send.peer == SIGNERS[0].peer_id


def test_a_bidder_without_a_set_that_is_shown_two_accuses() -> None:
    auction, _ = opened()
    ours, other = sets_of(auction)
    warned, _ = heard(committed_in(auction), check_of(auction, ours))
    following, effects = heard(warned, check_of(auction, other, 4))
    assert following == Over()
    assert_accused(effects, ours, 4)


@pytest.mark.parametrize("until", [Revealed, StandingBy, Committed])
def test_what_its_requester_has_not_signed_for_this_auction_is_ignored(until: type) -> None:
    auction, state = opened() if until is Committed else opened(until=until)
    state = committed_in(auction) if until is Committed else state
    _, other = sets_of(auction)
    elsewhere = replace(other.message, call_id=CallId(bytes(32)))
    torn = replace(other, envelope=other.envelope[:-1])
    for shown in (signed_by(3, other.message), auction.told(elsewhere), auction.outcome, torn):
        assert heard(state, check_of(auction, shown)) == (state, ())


def test_in_profile_q_a_set_means_nothing() -> None:
    state = bidder(QUICK).state
    closed = signed_by(REQUESTER, CommitSet(state.bidding.call_id, (bytes(32),)))
    assert heard(state, closed) == (state, ())
    check = SetCheck(state.bidding.call_id, closed.envelope)
    assert heard(state, signed_by(2, check)) == (state, ())


@given(st.data())
def test_an_honest_requester_is_not_accused_whatever_its_bidders_show(data: st.DataObject) -> None:
    """Checks of all bidders and noise come in any order, before the set, after it and again."""
    auction = SignedAuction([(30, 1), (50, 1), (70, 1)], weights=[PPM, 2 * PPM])
    assert auction.commit_set is not None
    bid = auction.bid(2)
    held = bidding.Bidding(auction.call, bid.reveal.message.bid, bid.reveal.message.nonce)
    state: Any = Committed(held, START_MS + 1_000)
    noise = auction.told(Cancel(CallId(bytes(32))))
    events = [
        auction.commit_set, auction.outcome,
        *(check_of(auction, shown, who) for shown in (auction.commit_set, noise)
          for who in (1, 3, 4)),
    ]  # fmt: skip
    for event in data.draw(st.lists(st.sampled_from(events), max_size=12)):
        state, effects = heard(state, event)
        assert not any(isinstance(effect, Accuse) for effect in effects)
        assert all(effect.peer == SIGNERS[0].peer_id for effect in effects)
    assert not isinstance(state, Over)
