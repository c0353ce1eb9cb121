"""What a bidder sees: nothing is wrong with an honest auction, and each lie is found.

Spec: specs/auction.md#verification.
"""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.rules.verification import award_fault, loss_fault, set_fault
from protocol.values.ids import CallId
from protocol.values.limits import START_MS_MAX, START_PERCENT_MAX, WEIGHT_MAX
from protocol.values.units import PPM
from protocol.wire.job import QUICK, VICKREY
from protocol.wire.messages import NO_ID, NO_LOSER, Award, CommitSet, Outcome, Start, Winner
from tests.signed_auction import REQUESTER, SignedAuction
from tests.strategies import SIGNERS

BIDS = st.lists(
    st.tuples(st.integers(0, 120), st.integers(1, 4)), min_size=1, max_size=len(SIGNERS) - 1
)
WEIGHTS = st.lists(st.integers(PPM, WEIGHT_MAX), max_size=len(SIGNERS) - 1)
STARTS = st.lists(st.integers(0, START_MS_MAX), max_size=len(SIGNERS) - 1)
NETWORK = REQUESTER.network_id
OTHER_CALL = CallId(bytes([1]) * 32)


@given(
    BIDS, st.integers(1, 12), st.integers(0, 2), WEIGHTS, st.sampled_from([QUICK, VICKREY]),
    st.booleans(),
)  # fmt: skip
def test_nothing_is_wrong_with_an_honest_auction(
    bids: list[tuple[int, int]],
    slots: int,
    unopened: int,
    weights: list[int],
    profile: int,
    gang: bool,
) -> None:
    closed = min(unopened, len(bids) - 1) if profile == VICKREY else 0
    auction = SignedAuction(
        bids, slots=slots, unopened=closed, weights=weights, profile=profile, gang=gang
    )
    if auction.commit_set:
        assert set_fault(auction.commit_set.message) == ""
    for number in range(1, len(bids) + 1):
        assert loss_fault(auction.bid(number), auction.outcome.message) == ""
    for bid, award in auction.awards():
        assert award_fault(bid, award.message, NETWORK) == ""


@given(BIDS, st.integers(1, 3), WEIGHTS, STARTS, st.integers(1, START_PERCENT_MAX))
def test_nothing_is_wrong_where_a_promised_start_counts(
    bids: list[tuple[int, int]], slots: int, weights: list[int], starts: list[int], percent: int
) -> None:
    auction = SignedAuction(
        bids, slots=slots, weights=weights, starts=starts, start_percent=percent
    )
    for number in range(1, len(bids) + 1):
        assert loss_fault(auction.bid(number), auction.outcome.message) == ""
    for bid, award in auction.awards():
        assert award_fault(bid, award.message, NETWORK) == ""


def test_who_starts_sooner_may_ask_more_and_is_paid_for_it() -> None:
    minute, half = 60_000, 30_000
    bids = [(20, 1), (26, 1), (60, 1)]
    (bid, award), *_ = SignedAuction(bids, starts=[minute, half, half], start_percent=50).awards()
    assert (bid.reveal.message.bid.ask, award.message.rate) == (20, 22), "33 / 1.5"
    (bid, award), *_ = SignedAuction(bids, starts=[minute, half, half], start_percent=100).awards()
    assert (bid.reveal.message.bid.ask, award.message.rate) == (26, 26), "40 / 1.5"
    auction = SignedAuction(bids, starts=[0, half, half], start_percent=10)
    assert auction.awards()[0][0].reveal.message.bid.ask == 26, "no promise counts as ten minutes"


@given(BIDS, st.integers(1, 12), WEIGHTS)
def test_a_bid_that_is_passed_over_for_a_worse_one_sees_it(
    bids: list[tuple[int, int]], slots: int, weights: list[int]
) -> None:
    """The requester sells to others as if a winner had not bid, but cannot deny its reveal."""
    auction = SignedAuction(bids, slots=slots, weights=weights)
    honest: Outcome = auction.outcome.message
    for winner in honest.winners:
        number = next(n for n, each in enumerate(SIGNERS) if each.peer_id == winner.peer)
        others = tuple(each for each in honest.winners if each != winner)
        bid = auction.bid(number)
        for losing in {honest.losing_score, NO_LOSER} - set(range(bid.score + 1)):
            told = replace(honest, winners=others, losing_score=losing)
            assert loss_fault(bid, told).startswith("the bid counts")


@given(BIDS, WEIGHTS, st.data())
def test_a_worse_bid_cannot_win_unseen(
    bids: list[tuple[int, int]], weights: list[int], data: st.DataObject
) -> None:
    """Whatever the outcome says: the bid that won or one that lost sees it, if both are honest."""
    auction = SignedAuction([(ask % 101, slots) for ask, slots in bids], weights=weights)
    opened = [auction.bid(number) for number in range(1, len(bids) + 1)]
    winner = data.draw(st.sampled_from(opened))
    losing = data.draw(st.sampled_from([*(bid.score for bid in opened), NO_LOSER]))
    won = (Winner(winner.bidder, 1),)
    told = auction.told(
        replace(auction.outcome.message, winners=won, losing_score=losing, clearing=100)
    )
    award = Award(auction.call_id, told.envelope, 0, 0, 0, 100, 0, (), winner.reveal.content_id)
    seen = [award_fault(winner, award, NETWORK)]
    seen += [loss_fault(bid, told.message) for bid in opened if bid != winner]
    if any(bid.score < winner.score for bid in opened):
        assert any(seen)


# One auction of three bids: 30, 50 and 70.

THREE = SignedAuction([(30, 1), (50, 1), (70, 1)])
ONE_CLOSED = SignedAuction([(30, 1), (50, 1), (70, 1)], unopened=1)
LONE = SignedAuction([(30, 1)])
SETTERS = tuple(reveal.envelope for reveal in THREE.reveals[1:])


OPENED_ELSEWHERE = (
    SIGNERS[2].sign(replace(THREE.reveals[1].message, commit_set=THREE.call.content_id)).envelope
)


def fault_of(auction: SignedAuction, told: dict[str, Any], **given: Any) -> str:
    """Return what the winner says of an award that is changed, and of an outcome that is."""
    bid, award = auction.awards()[0]
    outcome = auction.told(replace(auction.outcome.message, **told))
    return award_fault(
        bid, replace(award.message, **{"outcome": outcome.envelope} | given), NETWORK
    )


def positions(auction: SignedAuction, *numbers: int) -> tuple[int, ...]:
    return tuple(sorted(auction.bid(number).position for number in numbers))


PRICES: list[tuple[SignedAuction, dict[str, Any], str]] = [
    (THREE, {}, ""),
    (THREE, {"evidence": SETTERS[:1]}, ""),
    (THREE, {"rate": 29}, "the award pays less than the ask"),
    (THREE, {"evidence": ()}, "the price has no evidence"),
    (THREE, {"rate": 49}, "the evidence gives another price"),
    (THREE, {"rate": 100}, "the evidence gives another price"),
    (THREE, {"evidence": SETTERS[:1] * 2}, "the evidence repeats a bid"),
    (THREE, {"evidence": SETTERS[1:], "rate": 70}, "the outcome names another losing score"),
    (THREE, {"call_id": OTHER_CALL}, "the outcome is of another auction"),
    (THREE, {"evidence": (b"noise",)}, "not canonical msgpack"),
    (THREE, {"evidence": (THREE.reveals[0].envelope,)}, "the evidence is no bid of another"),
    (THREE, {"evidence": (THREE.call.envelope,)}, "the evidence is no bid of another"),
    (THREE, {"evidence": (OPENED_ELSEWHERE,)}, "the bid that set the price was opened to another"),
    (LONE, {}, ""),
    (LONE, {"rate": 99}, "the price has no evidence"),
    (LONE, {"evidence": SETTERS[:1]}, "the bid that set the price has no commitment"),
    (ONE_CLOSED, {}, ""),
]


@pytest.mark.parametrize("auction, given, fault", PRICES)
def test_a_winner_sees_what_is_wrong_with_its_price(
    auction: SignedAuction, given: dict[str, Any], fault: str
) -> None:
    clearing = {"clearing": given["rate"]} if "rate" in given else {}
    found = fault_of(auction, clearing, **given)
    assert found.startswith(fault)
    assert bool(found) == bool(fault)


TO_ANOTHER = {"winners": (Winner(SIGNERS[2].peer_id, 1),)}
OUTCOMES: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({}, {}, ""),
    ({}, {"shift": 1}, "the shift does not follow"),
    ({}, {"offer": 1}, "the shift does not follow"),
    ({"opened": positions(THREE, 1, 2)}, {}, "the shift does not follow"),
    ({"opened": positions(THREE, 2, 3)}, {"shift": 1}, "the outcome does not count the bid"),
    ({"opened": (0, 1, 2, 3)}, {}, "the outcome counts bids that are not in the set"),
    ({"opened": (0, 0, 1, 2)}, {}, "the outcome counts bids that are not in the set"),
    ({"call_id": OTHER_CALL}, {}, "the outcome is of another auction"),
    ({"commit_set": NO_ID}, {}, "the outcome is of another auction"),
    (TO_ANOTHER, {}, "the outcome names another winner"),
    ({}, {"unit": 1}, "the outcome names another winner"),
    ({"clearing": 71}, {}, "the outcome names another price"),
    ({"losing_score": 49}, {}, "the outcome names another losing score"),
    ({"losing_score": 29}, {}, "the outcome says that a better bid has lost"),
    ({"losing_score": NO_LOSER}, {}, "the outcome names another losing score"),
    ({"winners": (Winner(SIGNERS[1].peer_id, 2),)}, {}, "the outcome sells more slots"),
    ({"winners": (Winner(SIGNERS[1].peer_id, 1),) * 2}, {}, "the outcome sells more slots"),
    (TO_ANOTHER, {"offer": 1, "shift": 1, "rate": 50}, "the evidence is no losing bid"),
]


@pytest.mark.parametrize("told, given, fault", OUTCOMES)
def test_a_winner_sees_that_an_outcome_fits_neither_its_set_nor_its_award(
    told: dict[str, Any], given: dict[str, Any], fault: str
) -> None:
    found = fault_of(THREE, told, **given)
    assert found.startswith(fault)
    assert bool(found) == bool(fault)


def test_a_bid_sets_a_price_only_if_all_slots_are_sold() -> None:
    two = SignedAuction([(30, 1), (50, 2), (70, 1)], slots=2)
    one_left = {"winners": (Winner(SIGNERS[1].peer_id, 1),)}
    found = fault_of(two, one_left)
    assert found == "the outcome does not sell all slots, but another bid sets the price"


def test_a_gang_wins_all_its_slots_or_none() -> None:
    gang = SignedAuction([(30, 1), (50, 2), (70, 1)], slots=2, gang=True)
    assert all(award_fault(bid, each.message, NETWORK) == "" for bid, each in gang.awards())
    found = fault_of(gang, {"winners": (Winner(SIGNERS[1].peer_id, 1),)})
    assert found == "the outcome sells only a part of the slots that a gang needs"
    unsold = SignedAuction([(30, 1), (50, 1)], slots=3, gang=True)
    assert not unsold.outcome.message.winners
    assert [loss_fault(unsold.bid(number), unsold.outcome.message) for number in (1, 2)] == ["", ""]


@given(
    st.lists(st.tuples(st.integers(0, 100), st.integers(1, 3)), min_size=2, max_size=6), st.data()
)
def test_nobody_finds_a_fault_when_slots_are_spread(
    bids: list[tuple[int, int]], data: st.DataObject
) -> None:
    regions = data.draw(st.lists(st.sampled_from("abc"), min_size=len(bids), max_size=len(bids)))
    auction = SignedAuction(bids, slots=2, gang=True, regions=regions)
    for bid, award in auction.awards():
        assert award_fault(bid, award.message, NETWORK) == ""
    for number in range(1, len(bids) + 1):
        assert loss_fault(auction.bid(number), auction.outcome.message) == ""


def test_a_bidder_wins_one_slot_of_those_that_are_spread() -> None:
    spread = SignedAuction([(30, 2), (50, 1)], slots=2, gang=True, regions=["eu", "us"])
    found = fault_of(spread, {"winners": (Winner(SIGNERS[1].peer_id, 2),)})
    assert found.startswith("the outcome sells several slots of one bidder")


@pytest.mark.parametrize("signer, message", [
    (SIGNERS[3], THREE.outcome.message), (REQUESTER, Start(bytes(32), 0)),
])  # fmt: skip
def test_an_award_holds_an_outcome_of_its_requester(signer: Any, message: Any) -> None:
    told = signer.sign(message).envelope
    assert fault_of(THREE, {}, outcome=told) == "the outcome is not the requester's"
    assert fault_of(THREE, {}, outcome=b"noise").startswith("not canonical msgpack")


def test_a_winner_is_paid_by_the_weights_of_the_set() -> None:
    weighed = SignedAuction([(30, 1), (40, 1)], weights=[PPM, 2 * PPM])
    (bid, award), = weighed.awards()  # fmt: skip
    assert award.message.rate == 80
    assert award_fault(bid, award.message, NETWORK) == ""
    equal = SignedAuction([(30, 1), (40, 1)])
    (_, lower), = equal.awards()  # fmt: skip
    other = {"rate": lower.message.rate, "evidence": award.message.evidence}
    assert fault_of(weighed, {"clearing": 40}, **other) == "the evidence gives another price"


QUICKLY = SignedAuction([(30, 1), (50, 1)], profile=QUICK)


@pytest.mark.parametrize("given, fault", [
    ({}, ""), ({"rate": 31}, "Profile Q pays the ask"), ({"rate": 29}, "the award pays less"),
    ({"shift": 1}, "the shift does not follow"),
])  # fmt: skip
def test_in_profile_q_each_winner_is_paid_its_ask(given: dict[str, Any], fault: str) -> None:
    clearing = {"clearing": given.get("rate", 30)}
    assert fault_of(QUICKLY, clearing, **given).startswith(fault)
    assert fault_of(QUICKLY, {"opened": (0,)}) == "the outcome counts bids that are not in the set"


# Losers.


@pytest.mark.parametrize("told, fault", [
    ({}, ""),
    ({"losing_score": 51}, "the bid counts, has slots left and scores 50, but the outcome says"),
    ({"losing_score": NO_LOSER}, "the bid counts and has slots left, but the outcome says that"),
    ({"winners": (), "losing_score": 50}, "the bid counts and has slots left, but the outcome le"),
    ({"winners": (), "losing_score": 50, "opened": positions(THREE, 1, 3)}, ""),
    ({"winners": TO_ANOTHER["winners"], "losing_score": 51}, ""),
    ({"opened": positions(THREE, 1, 3), "losing_score": 70}, ""),
    ({"commit_set": NO_ID}, "the outcome is of another set than the bid was opened to"),
])  # fmt: skip
def test_a_loser_sees_that_an_outcome_contradicts_its_bid(told: dict[str, Any], fault: str) -> None:
    found = loss_fault(THREE.bid(2), replace(THREE.outcome.message, **told))
    assert found.startswith(fault)
    assert bool(found) == bool(fault)


@pytest.mark.parametrize("supply, fault", [
    ([1, 1], ""), ([2, 1], ""), ([3, 1], "the bid counts and has slots left, but the outcome le"),
])  # fmt: skip
def test_a_gang_buys_nothing_unless_a_bid_alone_would_have_sufficed(
    supply: list[int], fault: str
) -> None:
    auction = SignedAuction([(30, slots) for slots in supply], slots=3, gang=True)
    told = replace(auction.outcome.message, winners=(), losing_score=30)
    found = loss_fault(auction.bid(1), told)
    assert found.startswith(fault)
    assert bool(found) == bool(fault)


@given(BIDS, st.integers(1, 12), WEIGHTS)
def test_nobody_won_is_said_in_vain_if_any_bid_counts_that_the_call_can_pay(
    bids: list[tuple[int, int]], slots: int, weights: list[int]
) -> None:
    auction = SignedAuction(bids, slots=slots, weights=weights)
    for losing in {auction.bid(number).score for number in range(1, len(bids) + 1)} | {NO_LOSER}:
        told = replace(auction.outcome.message, winners=(), losing_score=losing)
        found = [loss_fault(auction.bid(number), told) for number in range(1, len(bids) + 1)]
        assert all(found) == all(ask <= 100 for ask, _ in bids)
        assert any(found) == any(ask <= 100 for ask, _ in bids)


def test_a_bid_above_the_highest_rate_rightly_loses() -> None:
    auction = SignedAuction([(30, 1), (101, 1)])
    assert auction.outcome.message.losing_score == NO_LOSER
    assert loss_fault(auction.bid(2), auction.outcome.message) == ""


def test_a_set_is_sorted_and_weighs_each_commitment_once_or_none() -> None:
    assert THREE.commit_set is not None
    fair = THREE.commit_set.message
    assert set_fault(replace(fair, weights=())) == ""
    for digests in (fair.commitments[::-1], fair.commitments[:1] * 3):
        assert set_fault(CommitSet(fair.call_id, digests)).startswith("the set is not sorted")
    assert set_fault(replace(fair, weights=(PPM, PPM))) == "the set does not weigh each commitment"


def test_an_opened_bid_knows_its_place() -> None:
    bid = ONE_CLOSED.bid(2)
    assert bid.bidder == SIGNERS[2].peer_id
    assert bid.commitment == ONE_CLOSED.commit_set.message.commitments[bid.position]  # type: ignore[union-attr]
    assert (bid.weight, bid.score) == (PPM, 50)
