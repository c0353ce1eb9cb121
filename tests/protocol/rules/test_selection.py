"""Selection: who wins and what it is paid, as properties that no case may break.

Spec: specs/auction.md#selection.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.rules.selection import (
    Offer,
    drawn_among,
    is_drawn,
    price_of,
    rank,
    shares_of,
)
from protocol.values.ids import CallId, ContentId, PeerId
from protocol.values.limits import SETTERS_MAX, WEIGHT_MAX
from protocol.values.units import PPM
from protocol.wire.job import QUICK, VICKREY, Resources
from protocol.wire.messages import (
    LOTTERY_ALL,
    Bid,
    Call,
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


SPREAD = st.lists(
    st.tuples(st.integers(0, 120), st.integers(0, 3)), min_size=1, max_size=len(SIGNERS)
)
"""Asks, each with the number of a region; region 0 is none."""


def spread_sale(bids: Sequence[tuple[int, int]], slots: int, shift: int = 0) -> dict[PeerId, int]:
    """Return what the winners are paid when each slot is in a region of its own."""
    call = replace(CALL, slots=slots, gang=slots > 1, spread=True)
    placed = [
        replace(offer, bid=replace(offer.bid, region=f"r{region}" if region else ""))
        for offer, (_, region) in zip(offers([(ask, 2) for ask, _ in bids]), bids, strict=True)
    ]
    ranking = rank(call, TIE_BREAK, placed)
    won = {share.peer: share.slots for share in shares_of(call, ranking)}
    assert set(won.values()) <= {1}
    return {
        offer.peer: price_of(call, ranking, won, (offer, 0), shift).rate
        for offer in ranking if offer.peer in won
    }  # fmt: skip


@given(SPREAD, st.integers(1, 4), SHIFTS)
def test_the_cheapest_of_the_cheapest_regions_win(
    bids: list[tuple[int, int]], slots: int, shift: int
) -> None:
    lowest: dict[int, int] = {}
    for ask, region in bids:
        if region and ask <= CALL.rate_max:
            lowest[region] = min(ask, lowest.get(region, ask))
    bid_of = {signer.peer_id: each for signer, each in zip(SIGNERS, bids, strict=False)}
    sold = spread_sale(bids, slots, shift)
    asks = sorted(bid_of[peer][0] for peer in sold)
    wanted = sorted(lowest.values())[:slots]
    assert asks == (wanted if slots == 1 or len(wanted) == slots else [])
    assert len({bid_of[peer][1] for peer in sold}) == len(sold), "no region twice"
    assert all(bid_of[peer][0] <= rate <= CALL.rate_max for peer, rate in sold.items())


@given(SPREAD, st.integers(1, 3), st.integers(0, len(SIGNERS) - 1), st.integers(0, 130))
def test_no_lie_pays_when_slots_are_spread(
    bids: list[tuple[int, int]], slots: int, place: int, lie: int
) -> None:
    """Without a lie about its region: that is public in its record."""
    place %= len(bids)
    own, (cost, region) = SIGNERS[place].peer_id, bids[place]
    lied = [*bids[:place], (lie, region), *bids[place + 1:]]  # fmt: skip
    honest = spread_sale(bids, slots).get(own, cost) - cost
    assert spread_sale(lied, slots).get(own, cost) - cost <= honest
    assert honest >= 0


def test_prices_of_slots_in_several_regions() -> None:
    first, second, third, fourth = (signer.peer_id for signer in SIGNERS[:4])
    bids = [(10, 1), (20, 1), (30, 2), (70, 2)]
    assert spread_sale(bids, 2) == {first: 20, third: 70}, "each displaces one of its region"
    assert spread_sale([*bids, (40, 3)], 2) == {first: 20, third: 40}, "or one of another region"
    assert spread_sale(bids, 3) == {}
    assert spread_sale([(10, 1), (20, 0)], 2) == {}, "a bid without a region does not count"
    assert {second, fourth}.isdisjoint(spread_sale([*bids, (90, 3)], 3))


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


@settings(max_examples=50)
@given(
    st.binary(min_size=32, max_size=32),
    st.lists(st.text(max_size=60), max_size=20),
    st.one_of(st.sampled_from([1, LOTTERY_ALL - 1, LOTTERY_ALL]), st.integers(1, LOTTERY_ALL)),
)
def test_many_are_drawn_like_each_alone(call: bytes, peers: list[str], lottery: int) -> None:
    """specs/auction-messages.md: the first 8 bytes of a hash, as a number, decide."""
    call_id = CallId(call)
    lots = [
        int.from_bytes(hashlib.sha256(b"mutirao/lot/1\0" + call + peer.encode()).digest()[:8])
        for peer in peers
    ]
    drawn = [place for place, lot in enumerate(lots) if lot * 10**6 < lottery << 64]
    assert drawn_among(call_id, (peer.encode() for peer in peers), lottery) == drawn
    alone = [is_drawn(call_id, PeerId(peer), lottery) for peer in peers]
    assert [place for place, one in enumerate(alone) if one] == drawn
    assert lottery < LOTTERY_ALL or all(alone)


@pytest.mark.parametrize("lottery", [1, 2, 3, 499_999, 500_000, 999_999, LOTTERY_ALL])
def test_the_last_lot_that_is_drawn_is_the_last(
    lottery: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    last = -(-(lottery << 64) // 10**6) - 1
    for lot, is_in in ((0, True), (last, True), (last + 1, False)):
        if lot < 2**64:
            for rest in (bytes(24), b"\xff" * 24):
                digest = SimpleNamespace(digest=lambda lot=lot, rest=rest: lot.to_bytes(8) + rest)
                monkeypatch.setattr(hashlib, "sha256", lambda _, digest=digest: digest)
                assert is_drawn(CALL_ID, SIGNERS[0].peer_id, lottery) == is_in
                assert drawn_among(CALL_ID, [b""], lottery) == [0] * is_in
            monkeypatch.undo()
