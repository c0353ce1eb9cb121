"""Selection: who wins and what it is paid, as properties that no case may break.

Spec: specs/auction.md#selection.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.rules.commitment import commitment_of
from protocol.rules.selection import (
    Offer,
    award_fault,
    is_drawn,
    outcome_fault,
    price_of,
    rank,
    shares_of,
)
from protocol.values.ids import CallId, ContentId, PeerId
from protocol.values.limits import SETTERS_MAX, WEIGHT_MAX
from protocol.values.units import PPM
from protocol.wire.envelope import Signed
from protocol.wire.job import QUICK, VICKREY, Resources
from protocol.wire.messages import (
    LOTTERY_ALL,
    NO_ID,
    Award,
    Bid,
    BidReveal,
    Call,
    CommitSet,
    Outcome,
    Winner,
)
from tests.strategies import SIGNERS

CALL_ID, NONCE = CallId(bytes(32)), bytes([7]) * 32
TIE_BREAK = ContentId(bytes([9]) * 32)
CALL = Call(
    bytes(16), VICKREY, 0, Resources(), 100, 1_000, 100, 100, 2_000, 1, bytes(32), 0
)  # fmt: skip
ASKS = st.lists(st.integers(0, 120), min_size=1, max_size=len(SIGNERS))
BIDS = st.lists(
    st.tuples(st.integers(0, 120), st.integers(1, 4)), min_size=1, max_size=len(SIGNERS)
)
"""Asks, each with a number of slots."""
SHIFTS = st.integers(0, CALL.shift_cap)
SLOTS = st.integers(1, 12)
WEIGHTS = st.lists(st.integers(PPM, WEIGHT_MAX), max_size=len(SIGNERS))


def bid(ask: int, slots: int = 1) -> Bid:
    return Bid(ask, "embedded", 1, 10_000, 35_000, 0, slots)


def offers(bids: Sequence[tuple[int, int]], weights: Sequence[int] = ()) -> list[Offer]:
    peers = [signer.peer_id for signer in SIGNERS]
    factors = [*weights, *[PPM] * len(peers)]
    return [
        Offer(peer, bid(*each), peer.encode(), factor)
        for peer, each, factor in zip(peers, bids, factors, strict=False)
    ]


def sale(
    bids: Sequence[tuple[int, int]], slots: int = 1, shift: int = 0, profile: int = VICKREY,
    weights: Sequence[int] = (),
) -> dict[PeerId, list[int]]:  # fmt: skip
    """Return what the winners are paid for each of their slots."""
    call = replace(CALL, profile=profile, slots=slots)
    ranking = rank(call, TIE_BREAK, offers(bids, weights))
    won = {share.peer: share.slots for share in shares_of(call, ranking)}
    return {
        offer.peer: [price_of(call, ranking, won, (offer, unit), shift).rate
                     for unit in range(won[offer.peer])]
        for offer in ranking if offer.peer in won
    }  # fmt: skip


def ones(asks: Sequence[int]) -> list[tuple[int, int]]:
    return [(ask, 1) for ask in asks]


@given(BIDS, SLOTS, SHIFTS, st.sampled_from([QUICK, VICKREY]), WEIGHTS)
def test_nobody_is_paid_less_than_it_asks_or_more_than_the_ceiling(
    bids: list[tuple[int, int]], slots: int, shift: int, profile: int, weights: list[int]
) -> None:
    sold = sale(bids, slots, shift, profile, weights)
    offered = {offer.peer: offer.bid for offer in offers(bids)}
    payable = sum(each.slots for each in offered.values() if each.ask <= CALL.rate_max)
    assert sum(map(len, sold.values())) == min(slots, payable)
    for peer, rates in sold.items():
        assert len(rates) <= offered[peer].slots
        assert all(offered[peer].ask <= rate <= CALL.rate_max for rate in rates)
        assert rates == sorted(rates), "each further slot displaces a dearer one"


@given(BIDS, SLOTS)
def test_the_cheapest_win(bids: list[tuple[int, int]], slots: int) -> None:
    sold = sale(bids, slots)
    asks = sorted(ask for ask, many in bids for _ in range(many) if ask <= CALL.rate_max)
    won = sorted(offer.bid.ask for offer in offers(bids) for _ in sold.get(offer.peer, ()))
    assert won == asks[:slots]


@given(BIDS, st.data())
def test_the_order_of_arrival_decides_nothing(
    bids: list[tuple[int, int]], data: st.DataObject
) -> None:
    arrived = offers(bids)
    shuffled = data.draw(st.permutations(arrived))
    assert rank(CALL, TIE_BREAK, arrived) == rank(CALL, TIE_BREAK, shuffled)


@given(BIDS, SLOTS, st.integers(0, len(SIGNERS) - 1), st.integers(0, 120), SHIFTS)
def test_a_lower_ask_never_loses_slots(
    bids: list[tuple[int, int]], slots: int, place: int, lower: int, shift: int
) -> None:
    place %= len(bids)
    own, (ask, many) = SIGNERS[place].peer_id, bids[place]
    before = sale(bids, slots, shift).get(own, [])
    changed = [*bids[:place], (min(lower, ask), many), *bids[place + 1:]]  # fmt: skip
    assert len(sale(changed, slots, shift).get(own, [])) >= len(before)


@given(
    BIDS, SLOTS, st.integers(0, len(SIGNERS) - 1),
    st.tuples(st.integers(0, 130), st.integers(1, 4)),
    WEIGHTS,
)  # fmt: skip
def test_no_lie_pays_when_every_commitment_opens(
    bids: list[tuple[int, int]], slots: int, place: int, told: tuple[int, int], weights: list[int]
) -> None:
    """Asking its cost for all its slots is a provider's best strategy (Vickrey, Clarke, Groves).

    Weights round, so that a lie may gain a nano-credit for each slot.
    """
    lie, fewer = told
    rounding = 2 * slots if weights else 0
    place %= len(bids)
    own, (cost, many) = SIGNERS[place].peer_id, bids[place]

    def profit(sold: dict[PeerId, list[int]]) -> int:
        return sum(rate - cost for rate in sold.get(own, ()))

    lied = [*bids[:place], (lie, min(fewer, many)), *bids[place + 1:]]  # fmt: skip
    honest = profit(sale(bids, slots, weights=weights))
    assert profit(sale(lied, slots, weights=weights)) <= honest + rounding
    assert honest >= 0


@given(BIDS, SLOTS)
def test_failed_commitments_move_the_price_up_and_never_down(
    bids: list[tuple[int, int]], slots: int
) -> None:
    plain, shifted = sale(bids, slots, 0), sale(bids, slots, 1)
    assert plain.keys() == shifted.keys()
    for peer, rates in plain.items():
        assert all(a <= b for a, b in zip(rates, shifted[peer], strict=True))


def rates(asks: Sequence[int], **more: int) -> list[int]:
    return [rate for each in sale(ones(asks), **more).values() for rate in each]


def test_prices_of_a_small_auction() -> None:
    assert rates([30, 50, 70]) == [50]
    assert rates([30, 50, 70], shift=1) == [70]
    assert rates([30, 50], shift=1) == [CALL.rate_max]
    assert rates([30]) == [CALL.rate_max]
    assert rates([30, 101]) == [CALL.rate_max]
    assert rates([30, 50, 70], profile=QUICK) == [30]
    assert rates([101]) == []


def test_prices_of_several_slots() -> None:
    first, second, third = (signer.peer_id for signer in SIGNERS[:3])
    assert rates([30, 50, 70], slots=2) == [70, 70], "one price for all with one slot each"
    assert sale([(30, 2), (50, 1), (70, 2)], slots=2) == {first: [50, 70]}
    assert sale([(30, 2), (50, 2), (70, 1)], slots=3) == {first: [50, 70], second: [70]}
    assert sale([(30, 2), (50, 2), (70, 1)], slots=4) == {
        first: [70, CALL.rate_max], second: [70, CALL.rate_max],
    }  # fmt: skip
    assert sale([(30, 1), (50, 1)], slots=3) == {
        first: [CALL.rate_max], second: [CALL.rate_max],
    }, "fewer slots than called for: no bid sets a price"  # fmt: skip
    assert third not in sale([(30, 9), (50, 9), (70, 9)], slots=3)


def test_a_weighed_ask_wins_less_and_is_paid_less() -> None:
    first, second = (signer.peer_id for signer in SIGNERS[:2])
    assert sale(ones([50, 60]), weights=[2 * PPM, PPM]) == {second: [100]}
    assert sale(ones([50, 60]), weights=[PPM * 11 // 10, PPM]) == {first: [54]}, "60 / 1.1"
    assert sale(ones([50, 60, 70]), weights=[PPM, 2 * PPM, PPM]) == {first: [70]}


def test_one_bid_of_many_slots_does_not_absorb_the_shift() -> None:
    (paid,) = sale([(30, 1), (31, 64), (70, 1)], shift=1).values()
    assert paid == [70]


def test_so_many_bids_prove_a_price_and_no_more() -> None:
    bids = [(0, SETTERS_MAX + 1), *((ask, 1) for ask in range(1, len(SIGNERS)))]
    (paid,) = sale(bids, slots=SETTERS_MAX + 1).values()
    known = min(SETTERS_MAX, len(SIGNERS) - 1)
    assert paid[:known] == list(range(1, known + 1))
    call, ranking = replace(CALL, slots=9), rank(CALL, TIE_BREAK, offers(bids))
    price = price_of(call, ranking, {ranking[0].peer: 9}, (ranking[0], 8), 0)
    assert len(price.evidence) <= SETTERS_MAX


def test_with_one_rival_a_closed_bid_of_a_second_identity_makes_the_price_the_ceiling() -> None:
    """What the price rule costs a requester in a thin market; the specification says so."""
    assert [rates([10, 11], shift=shift) for shift in (0, 1)] == [[11], [CALL.rate_max]]


def test_ties_depend_on_what_nobody_chose_alone() -> None:
    ties = offers(ones([5, 5, 5]))
    winners = {rank(CALL, ContentId(bytes([n]) * 32), ties)[0].peer for n in range(64)}
    assert winners == {signer.peer_id for signer in SIGNERS[:3]}


def test_a_shift_beyond_the_cap_is_a_bug() -> None:
    with pytest.raises(AssertionError):
        rates([1], shift=2)


def test_a_lottery_draws_its_share_of_the_providers() -> None:
    peers = [PeerId(f"peer {number}") for number in range(2_000)]
    drawn = [peer for peer in peers if is_drawn(CALL_ID, peer, LOTTERY_ALL // 10)]
    assert 120 < len(drawn) < 280
    assert all(is_drawn(CALL_ID, peer, LOTTERY_ALL) for peer in peers)
    assert set(drawn) <= {peer for peer in peers if is_drawn(CALL_ID, peer, LOTTERY_ALL // 5)}
    other = [peer for peer in peers if is_drawn(CallId(bytes([1]) * 32), peer, LOTTERY_ALL // 10)]
    assert drawn != other


# What a winner checks.


def setter(ask: int, signer: int = 1, slots: int = 1) -> Signed[BidReveal]:
    return SIGNERS[signer].sign(BidReveal(CALL_ID, NO_ID, bid(ask, slots), NONCE))


def commit_set(*asks: int) -> CommitSet:
    peers = [signer.peer_id for signer in SIGNERS]
    digests = [commitment_of(CALL_ID, peer, bid(ask), NONCE)
               for peer, ask in zip(peers, asks, strict=False)]  # fmt: skip
    return CommitSet(CALL_ID, tuple(sorted(digests)))


def award(rate: int, call_id: CallId = CALL_ID, unit: int = 0, shift: int = 0) -> Award:
    return Award(call_id, b"outcome", 0, 0, 0, rate, shift, (), unit)


OWN = SIGNERS[0].peer_id
QUICK_CALL = replace(CALL, profile=QUICK)
OTHER_CALL = CallId(bytes([1]) * 32)
SOLD = Outcome(CALL_ID, NO_ID, (Winner(OWN, 1),), 50, 3, 0)
UNSOLD = replace(SOLD, winners=())
TO_ANOTHER = replace(SOLD, winners=(Winner(SIGNERS[1].peer_id, 1),))
THREE = commit_set(30, 50, 70)
FAULTS = [
    (CALL, THREE, award(50), [setter(50)], ""),
    (CALL, THREE, award(50), [setter(50), setter(70, 2)], ""),
    (CALL, THREE, award(70, shift=1), [setter(50), setter(70, 2)], ""),
    (CALL, THREE, award(100), [], ""),
    (CALL, THREE, award(100, shift=1), [setter(50)], ""),
    (CALL, THREE, award(29), [], "the award pays less than the ask"),
    (CALL, THREE, award(50), [], "the price has no evidence"),
    (CALL, THREE, award(50, shift=1), [setter(50)], "the price has no evidence"),
    (CALL, THREE, award(50, shift=1), [setter(50), setter(70, 2)], "the evidence gives another"),
    (CALL, THREE, award(49), [setter(49)], "the bid that set the price has no commitment"),
    (CALL, THREE, award(49), [setter(50)], "the evidence gives another price"),
    (CALL, THREE, award(100), [setter(50)], "the evidence gives another price"),
    (CALL, THREE, award(50, shift=1), [setter(50)] * 2, "the evidence repeats a bid"),
    (CALL, commit_set(30), award(50), [setter(50)], "the bid that set the price has no"),
    (CALL, None, award(50), [setter(50)], "the bid that set the price has no commitment"),
    (CALL, THREE, award(50), [setter(50, 2)], "the bid that set the price has no"),
    (CALL, commit_set(30, 20), award(30), [setter(20)], "the evidence is no losing bid"),
    (CALL, THREE, award(50, OTHER_CALL), [setter(50)], "the evidence is no losing bid"),
    (QUICK_CALL, None, award(30), [], ""),
    (QUICK_CALL, None, award(31), [], "Profile Q pays the ask"),
    (QUICK_CALL, None, award(29), [], "the award pays less than the ask"),
]


@pytest.mark.parametrize("call, known, given_award, evidence, fault", FAULTS)
def test_a_winner_sees_what_is_wrong_with_its_price(
    call: Call, known: CommitSet | None, given_award: Award, evidence: Any, fault: str
) -> None:
    own = bid(30), commitment_of(CALL_ID, OWN, bid(30), NONCE)
    found = award_fault(call, known, own, given_award, (SOLD, evidence))
    assert found.startswith(fault)
    assert bool(found) == bool(fault)


@pytest.mark.parametrize("told, fault", [(SOLD, ""), (UNSOLD, "the outcome"), (TO_ANOTHER, "the")])
def test_a_bid_sets_a_price_only_if_all_slots_are_sold_and_it_has_lost(
    told: Outcome, fault: str
) -> None:
    own = bid(30), commitment_of(CALL_ID, OWN, bid(30), NONCE)
    found = award_fault(CALL, THREE, own, award(50), (told, [setter(50)]))
    assert found.startswith(fault)
    assert bool(found) == bool(fault)


@given(BIDS, SLOTS, SHIFTS, WEIGHTS)
def test_an_honest_award_has_no_fault(
    bids: list[tuple[int, int]], slots: int, shift: int, weights: list[int]
) -> None:
    call = replace(CALL, slots=slots)
    reveals = [setter(ask, number, many) for number, (ask, many) in enumerate(bids)]
    factors = [*weights, *[PPM] * len(bids)][: len(bids)]
    opened = [
        Offer(reveal.signer, reveal.message.bid, reveal.envelope, factor)
        for reveal, factor in zip(reveals, factors, strict=True)
    ]
    digests = [commitment_of(CALL_ID, o.peer, o.bid, NONCE) for o in opened]
    pairs = sorted(zip(digests, factors, strict=True))
    known = CommitSet(CALL_ID, tuple(d for d, _ in pairs), tuple(w for _, w in pairs))
    ranking = rank(call, TIE_BREAK, opened)
    shares = shares_of(call, ranking)
    told = Outcome(CALL_ID, NO_ID, shares, 0, len(bids), 0)
    won = {share.peer: share.slots for share in shares}
    for offer in ranking[: len(shares)]:
        for unit in range(won[offer.peer]):
            price = price_of(call, ranking, won, (offer, unit), shift)
            proofs = [reveal for reveal in reveals if reveal.envelope in price.evidence]
            given_award = award(price.rate, unit=unit, shift=shift)
            own = offer.bid, commitment_of(CALL_ID, offer.peer, offer.bid, NONCE)
            assert award_fault(call, known, own, given_award, (told, proofs)) == ""


HELD = SIGNERS[2].sign(commit_set(30, 50, 70))
TOLD = Outcome(CALL_ID, HELD.content_id, (Winner(OWN, 1),), 70, 2, 1)
GIVEN = replace(award(70), shift=1)
OTHER_WON = {"winners": (Winner(SIGNERS[1].peer_id, 1),)}
OUTCOMES = [
    ({}, {}, ""),
    ({"opened": 3, "unopened": 0}, {"shift": 0}, ""),
    ({"opened": 1, "unopened": 2}, {}, ""),
    ({**OTHER_WON, "clearing": 50, "opened": 3, "unopened": 0}, {"offer": 1}, ""),
    ({}, {"shift": 0}, "the shift does not follow"),
    ({"opened": 3, "unopened": 0}, {}, "the shift does not follow"),
    (OTHER_WON, {"offer": 1, "shift": 0}, "the shift does not follow"),
    ({"unopened": 0}, {"shift": 0}, "the outcome does not account for every commitment"),
    ({"opened": 3}, {}, "the outcome does not account for every commitment"),
    ({"opened": 0, "unopened": 3}, {}, "the outcome does not account for every commitment"),
    ({"call_id": OTHER_CALL}, {}, "the outcome is of another auction"),
    ({"commit_set": NO_ID}, {}, "the outcome is of another auction"),
    (OTHER_WON, {}, "the outcome names another winner"),
    ({}, {"unit": 1}, "the outcome names another winner"),
    ({"clearing": 71}, {}, "the outcome names another price"),
    ({"winners": (Winner(OWN, 2),)}, {}, "the outcome sells more slots"),
    ({"winners": (Winner(OWN, 1), Winner(OWN, 1))}, {}, "the outcome sells more slots"),
]


@pytest.mark.parametrize("told, given, fault", OUTCOMES)
def test_a_winner_sees_that_an_outcome_does_not_fit_its_set_or_its_award(
    told: dict[str, Any], given: dict[str, Any], fault: str
) -> None:
    found = outcome_fault(CALL, HELD, OWN, replace(GIVEN, **given), replace(TOLD, **told))
    assert found.startswith(fault)
    assert bool(found) == bool(fault)


def test_a_winner_sees_that_the_requester_weighs_another_bid_than_the_set_says() -> None:
    weighed = replace(commit_set(30, 50), weights=(PPM, PPM))
    own = bid(30), commitment_of(CALL_ID, OWN, bid(30), NONCE)
    theirs = commitment_of(CALL_ID, SIGNERS[1].peer_id, bid(50), NONCE)
    doubled = replace(weighed, weights=tuple(
        2 * PPM if digest == theirs else PPM for digest in weighed.commitments
    ))  # fmt: skip
    call = replace(CALL, rate_max=1_000)
    for known, rate in ((weighed, 50), (doubled, 100)):
        fair = award_fault(call, known, own, award(rate), (SOLD, [setter(50)]))
        assert fair == ""
        wrong = award_fault(call, known, own, award(150 - rate), (SOLD, [setter(50)]))
        assert wrong == "the evidence gives another price"


def test_a_winner_sees_that_a_set_does_not_weigh_each_commitment() -> None:
    held = SIGNERS[2].sign(replace(commit_set(30, 50, 70), weights=(PPM, PPM)))
    told = replace(TOLD, commit_set=held.content_id)
    assert outcome_fault(CALL, held, OWN, GIVEN, told) == "the set does not weigh each commitment"


def test_in_profile_q_there_is_no_set_and_no_shift() -> None:
    told = Outcome(CALL_ID, NO_ID, (Winner(OWN, 1),), 30, 4, 0)
    quick = replace(QUICK_CALL, shift_cap=0)
    assert outcome_fault(quick, None, OWN, award(30), told) == ""
    assert outcome_fault(quick, None, OWN, award(30), replace(told, unopened=1))
    assert outcome_fault(quick, None, OWN, replace(award(30), shift=1), told)
