"""Validation of auctions: the protocol's own ranking and prices against theory and the optimum.

Spec: specs/validation.md#auctions.
"""

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Final

import numpy as np
from scipy.optimize import linear_sum_assignment

from node.simulator.identities import Numbers
from node.simulator.seeds import stream
from protocol.rules.pricing import ask_of
from protocol.rules.selection import Offer, price_of, rank, shares_of
from protocol.values.ids import ContentId, PeerId
from protocol.wire.job import QUICK, VICKREY, Resources
from protocol.wire.messages import Bid, Call
from scripts.validate_studies import Effort, Study, Target, near

UNIT: Final = 10**9
"""A cost of 1."""
CALL: Final = Call(
    bytes(16), VICKREY, 0, Resources(), UNIT, 1_000, 100, 100, 2_000, 1, bytes(32), 0
)
PEERS: Final = tuple(Numbers(0).peer_of(number) for number in range(512))
BIDDERS: Final = (2, 5, 10, 50)
FACTORS: Final = (0.5, 0.7, 0.85, 1.0, 1.15, 1.3, 1.5)
"""What a bidder that misreports asks, as a factor of its cost."""
BIDDERS_OF_ONE: Final = 5
"""How many bid where one bidder's choice is studied."""
JOBS, PROVIDERS = 30, 40
SLOTS_MAX: Final = 4
RICH: Final = replace(CALL, rate_max=500 * UNIT)
"""A call that can pay every cost that is drawn."""


@dataclass(frozen=True, slots=True)
class Award:
    """What a bidder won."""

    bidder: int
    slots: int
    paid: int
    """For all of its slots."""


def sell(call: Call, bids: Sequence[tuple[int, int]], tie: int) -> Iterator[Award]:
    """Hold an auction by the protocol's rules; a bid is an ask and a number of slots."""
    offers = [
        Offer(peer, Bid(ask, "embedded", 1, 10_000, 35_000, 0, slots), b"")
        for peer, (ask, slots) in zip(PEERS, bids, strict=False)
    ]
    ranking = rank(call, ContentId(hashlib.sha256(tie.to_bytes(8)).digest()), offers)
    sold = {share.peer: share.slots for share in shares_of(call, ranking)}
    for offer in ranking:
        slots = sold.get(offer.peer, 0)
        if slots:
            rates = [price_of(call, ranking, sold, (offer, n), 0).rate for n in range(slots)]
            yield Award(_number_of(offer.peer), slots, sum(rates))


def _number_of(peer: PeerId) -> int:
    return Numbers(0).number_of(peer)


def asks_of(costs: Sequence[int]) -> list[tuple[int, int]]:
    """Return the bids of idle providers whose floor, half of their list price, is their cost."""
    return [(ask_of(2 * cost, 50, 0), 1) for cost in costs]


def _uniform(chance: Random, count: int) -> list[int]:
    return [chance.randrange(UNIT) for _ in range(count)]


def _price(effort: Effort, seed: int) -> Mapping[str, float]:
    """Measure what winners cost and are paid, in units of what theory says."""
    chance = stream(seed, "validation/vickrey")
    found = {}
    for bidders in BIDDERS:
        paid = cost = 0
        for number in range(effort.auctions):
            costs = _uniform(chance, bidders)
            (award,) = sell(CALL, asks_of(costs), number)
            paid, cost = paid + award.paid, cost + costs[award.bidder]
        scale = (bidders + 1) / UNIT / effort.auctions
        found[f"V4 price {bidders}"], found[f"V4 cost {bidders}"] = paid * scale / 2, cost * scale
    return found


def _misreport(effort: Effort, seed: int) -> Mapping[str, float]:
    """Measure what one of some bidders gains by asking more or less than its cost."""
    chance = stream(seed, "validation/truth")
    total, most = [0] * len(FACTORS), 0
    for number in range(effort.auctions):
        cost, *others = _uniform(chance, BIDDERS_OF_ONE)
        gains = [_gain(cost, round(cost * factor), others, number) for factor in FACTORS]
        total = [one + other for one, other in zip(total, gains, strict=True)]
        most = max(most, max(gains) - gains[FACTORS.index(1.0)])
    return {"V4 best": FACTORS[total.index(max(total))], "V4 gain": most / UNIT}


def _gain(cost: int, ask: int, others: Sequence[int], tie: int) -> int:
    """Return what the first bidder gets beyond its cost."""
    (award,) = sell(CALL, [(ask, 1), *asks_of(others)], tie)
    return award.paid - cost if award.bidder == 0 else 0


def _first_price(effort: Effort, seed: int) -> Mapping[str, float]:
    """Measure what quick auctions pay if all ask what is best for them there."""
    call, bidders = replace(CALL, profile=QUICK), BIDDERS_OF_ONE
    chance = stream(seed, "validation/first price")
    paid = 0
    for number in range(effort.auctions):
        asks = [cost + (UNIT - cost) // bidders for cost in _uniform(chance, bidders)]
        (award,) = sell(call, [(ask, 1) for ask in asks], number)
        paid += award.paid
    return {"V4 quick": paid * (bidders + 1) / 2 / UNIT / effort.auctions}


def sequential_cost(jobs: int, providers: int) -> float:
    """Return the expected cost if each job in turn takes the cheapest provider left.

    Each provider's cost of each job is exponential with the mean 1.
    """
    return math.fsum(1 / (providers - job) for job in range(jobs))


def optimal_cost(jobs: int, providers: int) -> float:
    """Return the expected cost of the optimal assignment of such jobs (Coppersmith, Sorkin)."""
    pairs = ((i, j) for i in range(jobs) for j in range(jobs - i))
    return math.fsum(1 / ((providers - i) * (jobs - j)) for i, j in pairs)


def _assign(effort: Effort, seed: int) -> Mapping[str, float]:
    """Sell different jobs one after the other, and compare with the optimal assignment."""
    chance = stream(seed, "validation/assignment")
    ours, best = 0, 0
    for number in range(effort.markets):
        costs = [[int(chance.expovariate(1) * UNIT) for _ in range(PROVIDERS)] for _ in range(JOBS)]
        ours += _sell_in_turn(costs, number)
        best += _optimum(np.array(costs))
    scale = effort.markets * UNIT
    surplus = JOBS * scale
    return {
        "A1 auctions": ours / scale / sequential_cost(JOBS, PROVIDERS),
        "A1 optimum": best / scale / optimal_cost(JOBS, PROVIDERS),
        "A1 efficiency": 100 * (surplus - ours) / (surplus - best),
    }


def _sell_in_turn(costs: Sequence[Sequence[int]], market: int) -> int:
    """Return what all jobs cost if each is sold to one of those providers that are free."""
    free, total = list(range(PROVIDERS)), 0
    for job, row in enumerate(costs):
        bids = asks_of([row[provider] for provider in free])
        (award,) = sell(RICH, bids, market * JOBS + job)
        total += row[free.pop(award.bidder)]
    return total


def _optimum(costs: np.ndarray) -> int:
    return int(costs[linear_sum_assignment(costs)].sum())


def _equal_jobs(effort: Effort, seed: int) -> Mapping[str, float]:
    """Sell many equal jobs in one auction: cost against the optimum, prices against Clarke's."""
    chance = stream(seed, "validation/equal jobs")
    more = wrong = 0
    for number in range(effort.markets):
        bids = [(chance.randrange(UNIT), chance.randint(1, SLOTS_MAX)) for _ in range(PROVIDERS)]
        awards = list(sell(replace(CALL, slots=JOBS), bids, number))
        assert sum(award.slots for award in awards) == JOBS
        more += sum(bids[award.bidder][0] * award.slots for award in awards) - _cheapest(bids)
        wrong += sum(award.paid != _externality(bids, award) for award in awards)
    return {"A2 more": more, "A2 prices": wrong}


def _cheapest(bids: Sequence[tuple[int, int]]) -> int:
    """Return the least cost of all jobs: the optimal assignment of jobs to slots."""
    slots = [ask for ask, count in bids for _ in range(count)]
    return _optimum(np.tile(np.array(slots), (JOBS, 1)))


def _externality(bids: Sequence[tuple[int, int]], award: Award) -> int:
    """Return what a winner saves the others and its own cost: the price of Clarke and Groves."""
    others = [bid for number, bid in enumerate(bids) if number != award.bidder]
    return _cheapest(others) - _cheapest(bids) + bids[award.bidder][0] * award.slots


EFFICIENCY: Final = (
    100 * (JOBS - sequential_cost(JOBS, PROVIDERS)) / (JOBS - optimal_cost(JOBS, PROVIDERS))
)
VICKREY_1961: Final = "Vickrey, J. Finance 1961; U(0,1) costs"
STUDIES: Final = (
    Study("V4 Vickrey prices", _price, tuple(
        Target(f"V4 {what} {m}", f"mean {what}, {m} bidders, in {rule}", "1 ± 2 %", *near(1, 2),
               VICKREY_1961)
        for m in BIDDERS for what, rule in (("price", "2/(m+1)"), ("cost", "1/(m+1)"))
    ), 10),
    Study("V4 truthfulness", _misreport, (
        Target("V4 best", "the factor of its cost that pays a bidder most", "1", 1, 1,
               VICKREY_1961, 2),
        Target("V4 gain", "the most that a misreport gained in any auction", "0", 0, 0,
               VICKREY_1961, 2),
    )),
    Study("V4 revenue equivalence", _first_price, (
        Target("V4 quick", "mean first price at equilibrium, 5 bidders, in 2/(m+1)", "1 ± 2 %",
               *near(1, 2), "Myerson, Math. Oper. Res. 1981"),
    )),
    Study("A1 different jobs", _assign, (
        Target("A1 auctions", "cost of 30 jobs at 40 providers in turn, in Σ 1/r", "1 ± 2 %",
               *near(1, 2), "minimum of exponential costs"),
        Target("A1 optimum", "cost of the optimal assignment, in its expectation", "1 ± 2 %",
               *near(1, 2), "Linusson and Wästlund, Probab. Theory Relat. Fields 2004"),
        Target("A1 efficiency", "surplus against the optimum, jobs worth their mean cost (%)",
               f"{EFFICIENCY:.1f} ± 0.5", EFFICIENCY - 0.5, EFFICIENCY + 0.5,
               "the two expectations above", 1),
    ), 10),
    Study("A2 equal jobs", _equal_jobs, (
        Target("A2 more", "cost of 30 equal jobs in one auction, less the optimum", "0", 0, 0,
               "Vickrey 1961", 0),
        Target("A2 prices", "winners paid other than by Clarke and Groves", "0", 0, 0,
               "Clarke 1971, Groves 1973", 0),
    )),
)  # fmt: skip
