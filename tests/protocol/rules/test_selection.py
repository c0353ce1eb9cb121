"""Selection: who wins and what it is paid, as properties that no case may break.

Spec: specs/auction.md#selection.
"""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.rules.commitment import commitment_of
from protocol.rules.selection import Offer, award_fault, outcome_fault, price_of_first, rank
from protocol.values.ids import CallId, ContentId
from protocol.wire.envelope import Signed
from protocol.wire.job import QUICK, VICKREY, Resources
from protocol.wire.messages import NO_ID, Award, Bid, BidReveal, Call, CommitSet, Outcome
from tests.strategies import SIGNERS

CALL_ID, NONCE = CallId(bytes(32)), bytes([7]) * 32
TIE_BREAK = ContentId(bytes([9]) * 32)
CALL = Call(
    bytes(16), VICKREY, 0, Resources(), 100, 1_000, 100, 100, 2_000, 1, bytes(32), 0
)  # fmt: skip
ASKS = st.lists(st.integers(0, 120), min_size=1, max_size=len(SIGNERS))
SHIFTS = st.integers(0, CALL.shift_cap)


def bid(ask: int) -> Bid:
    return Bid(ask, "embedded", 1, 10_000, 35_000, 0)


def offers(asks: list[int]) -> list[Offer]:
    peers = [signer.peer_id for signer in SIGNERS]
    return [Offer(peer, bid(ask), peer.encode()) for peer, ask in zip(peers, asks, strict=False)]


def outcome(asks: list[int], shift: int = 0, profile: int = VICKREY) -> tuple[str, int] | None:
    """Return the winner and what it is paid."""
    call = replace(CALL, profile=profile)
    ranking = rank(call, TIE_BREAK, offers(asks))
    return (ranking[0].peer, price_of_first(call, ranking, shift).rate) if ranking else None


@given(ASKS, SHIFTS, st.sampled_from([QUICK, VICKREY]))
def test_nobody_is_paid_less_than_it_asks_or_more_than_the_ceiling(
    asks: list[int], shift: int, profile: int
) -> None:
    sold = outcome(asks, shift, profile)
    assert (sold is None) == (min(asks) > CALL.rate_max)
    if sold:
        winner = next(offer for offer in offers(asks) if offer.peer == sold[0])
        assert winner.bid.ask == min(asks)
        assert winner.bid.ask <= sold[1] <= CALL.rate_max


@given(ASKS, st.data())
def test_the_order_of_arrival_decides_nothing(asks: list[int], data: st.DataObject) -> None:
    arrived = offers(asks)
    shuffled = data.draw(st.permutations(arrived))
    assert rank(CALL, TIE_BREAK, arrived) == rank(CALL, TIE_BREAK, shuffled)


@given(ASKS, st.integers(0, len(SIGNERS) - 1), st.integers(0, 120), SHIFTS)
def test_a_lower_ask_never_loses(asks: list[int], place: int, lower: int, shift: int) -> None:
    place %= len(asks)
    before = outcome(asks, shift)
    if before and before[0] == SIGNERS[place].peer_id and lower <= asks[place]:
        changed = [*asks[:place], lower, *asks[place + 1:]]  # fmt: skip
        after = outcome(changed, shift)
        assert after == before  # The winner's own ask does not set its price either.


@given(ASKS, st.integers(0, len(SIGNERS) - 1), st.integers(0, 130))
def test_no_lie_pays_when_every_commitment_opens(asks: list[int], place: int, lie: int) -> None:
    """With no shift, asking its cost is a provider's best strategy (Vickrey 1961)."""
    place %= len(asks)
    cost, own = asks[place], SIGNERS[place].peer_id

    def profit(sold: tuple[str, int] | None) -> int:
        return sold[1] - cost if sold and sold[0] == own else 0

    lied = [*asks[:place], lie, *asks[place + 1:]]  # fmt: skip
    assert profit(outcome(lied)) <= profit(outcome(asks))
    assert profit(outcome(asks)) >= 0


@given(ASKS)
def test_failed_commitments_move_the_price_up_and_never_down(asks: list[int]) -> None:
    plain, shifted = outcome(asks, 0), outcome(asks, 1)
    if plain and shifted:
        assert plain[0] == shifted[0]
        assert plain[1] <= shifted[1]


def test_prices_of_a_small_auction() -> None:
    assert outcome([30, 50, 70])[1] == 50
    assert outcome([30, 50, 70], shift=1)[1] == 70
    assert outcome([30, 50], shift=1)[1] == CALL.rate_max
    assert outcome([30])[1] == CALL.rate_max
    assert outcome([30, 101])[1] == CALL.rate_max
    assert outcome([30, 50, 70], profile=QUICK)[1] == 30
    assert outcome([101]) is None


def test_with_one_rival_a_closed_bid_of_a_second_identity_makes_the_price_the_ceiling() -> None:
    """What the price rule costs a requester in a thin market; the specification says so."""
    call = replace(CALL, rate_max=277_777)
    ranking = rank(call, TIE_BREAK, offers([1_000, 1_100]))
    assert [price_of_first(call, ranking, shift).rate for shift in (0, 1)] == [1_100, 277_777]


def test_ties_depend_on_what_nobody_chose_alone() -> None:
    winners = {rank(CALL, ContentId(bytes([n]) * 32), offers([5, 5, 5]))[0].peer for n in range(64)}
    assert winners == {signer.peer_id for signer in SIGNERS[:3]}


def test_a_shift_beyond_the_cap_is_a_bug() -> None:
    with pytest.raises(AssertionError):
        price_of_first(CALL, rank(CALL, TIE_BREAK, offers([1])), 2)


# What a winner checks.


def setter(ask: int, signer: int = 1) -> Signed[BidReveal]:
    return SIGNERS[signer].sign(BidReveal(CALL_ID, NO_ID, bid(ask), NONCE))


def commit_set(*asks: int) -> CommitSet:
    peers = [signer.peer_id for signer in SIGNERS]
    digests = [commitment_of(CALL_ID, peer, bid(ask), NONCE)
               for peer, ask in zip(peers, asks, strict=False)]  # fmt: skip
    return CommitSet(CALL_ID, tuple(sorted(digests)))


def award(rate: int, call_id: CallId = CALL_ID) -> Award:
    return Award(call_id, b"outcome", 0, 0, 0, rate, 0, b"")


QUICK_CALL = replace(CALL, profile=QUICK)
OTHER_CALL = CallId(bytes([1]) * 32)
FAULTS = [
    (CALL, commit_set(30, 50), award(50), setter(50), ""),
    (CALL, commit_set(30, 50), award(100), None, ""),
    (CALL, commit_set(30, 50), award(29), None, "the award pays less than the ask"),
    (CALL, commit_set(30, 50), award(50), None, "the price has no evidence"),
    (CALL, commit_set(30, 50), award(49), setter(49), "the bid that set the price has no"),
    (CALL, commit_set(30, 50), award(49), setter(50), "the evidence gives another price"),
    (CALL, commit_set(30), award(50), setter(50), "the bid that set the price has no"),
    (CALL, None, award(50), setter(50), "the bid that set the price has no commitment in the set"),
    (CALL, commit_set(30, 50), award(50), setter(50, 2), "the bid that set the price has no"),
    (CALL, commit_set(30, 50), award(50, OTHER_CALL), setter(50), "the evidence gives another"),
    (QUICK_CALL, None, award(30), None, ""),
    (QUICK_CALL, None, award(31), None, "Profile Q pays the ask"),
    (QUICK_CALL, None, award(29), None, "the award pays less than the ask"),
]


@pytest.mark.parametrize("call, known, given_award, evidence, fault", FAULTS)
def test_a_winner_sees_what_is_wrong_with_its_price(
    call: Call, known: CommitSet | None, given_award: Award, evidence: object, fault: str
) -> None:
    found = award_fault(call, known, bid(30), given_award, evidence)
    assert found.startswith(fault)
    assert bool(found) == bool(fault)


@given(ASKS, SHIFTS)
def test_an_honest_award_has_no_fault(asks: list[int], shift: int) -> None:
    peers = [signer.peer_id for signer in SIGNERS]
    reveals = [setter(ask, number) for number, ask in enumerate(asks)]
    opened = [Offer(peer, reveal.message.bid, reveal.envelope)
              for peer, reveal in zip(peers, reveals, strict=False)]  # fmt: skip
    ranking = rank(CALL, TIE_BREAK, opened)
    if not ranking:
        return
    price = price_of_first(CALL, ranking, shift)
    proof = next((reveal for reveal in reveals if reveal.envelope == price.evidence), None)
    fair = award_fault(CALL, commit_set(*asks), ranking[0].bid, award(price.rate), proof)
    assert fair == ""


OWN = SIGNERS[0].peer_id
HELD = SIGNERS[2].sign(commit_set(30, 50, 70))
TOLD = Outcome(CALL_ID, HELD.content_id, OWN, 70, 2, 1)
GIVEN = replace(award(70), shift=1)
OUTCOMES = [
    ({}, {}, ""),
    ({"opened": 3, "unopened": 0}, {"shift": 0}, ""),
    ({"opened": 1, "unopened": 2}, {}, ""),
    ({"winner": SIGNERS[1].peer_id, "clearing": 50, "opened": 3, "unopened": 0}, {"offer": 1}, ""),
    ({}, {"shift": 0}, "the shift does not follow"),
    ({"opened": 3, "unopened": 0}, {}, "the shift does not follow"),
    ({"winner": SIGNERS[1].peer_id}, {"offer": 1, "shift": 0}, "the shift does not follow"),
    ({"unopened": 0}, {"shift": 0}, "the outcome does not account for every commitment"),
    ({"opened": 3}, {}, "the outcome does not account for every commitment"),
    ({"opened": 0, "unopened": 3}, {}, "the outcome does not account for every commitment"),
    ({"call_id": OTHER_CALL}, {}, "the outcome is of another auction"),
    ({"commit_set": NO_ID}, {}, "the outcome is of another auction"),
    ({"winner": SIGNERS[1].peer_id}, {}, "the outcome names another winner or price"),
    ({"clearing": 71}, {}, "the outcome names another winner or price"),
]


@pytest.mark.parametrize("told, given, fault", OUTCOMES)
def test_a_winner_sees_that_an_outcome_does_not_fit_its_set_or_its_award(
    told: dict[str, Any], given: dict[str, Any], fault: str
) -> None:
    found = outcome_fault(CALL, HELD, OWN, replace(GIVEN, **given), replace(TOLD, **told))
    assert found.startswith(fault)
    assert bool(found) == bool(fault)


def test_in_profile_q_there_is_no_set_and_no_shift() -> None:
    told = Outcome(CALL_ID, NO_ID, OWN, 30, 4, 0)
    quick = replace(QUICK_CALL, shift_cap=0)
    assert outcome_fault(quick, None, OWN, award(30), told) == ""
    assert outcome_fault(quick, None, OWN, award(30), replace(told, unopened=1))
    assert outcome_fault(quick, None, OWN, replace(award(30), shift=1), told)
