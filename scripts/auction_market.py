"""Markets and rules of price for scripts/auction_rules: who knows what, and how one job is sold.

Bids are ranked and priced by the functions that a node uses.

Spec: specs/decisions/0019-prices.md.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from protocol.rules.pricing import PERCENT, ask_of, cap_of
from protocol.rules.selection import Offer, price_of, rank
from protocol.values.ids import ContentId, PeerId
from protocol.values.limits import SHIFT_CAP
from protocol.wire.job import QUICK, VICKREY, Resources
from protocol.wire.messages import Bid, Call

MEAN: Final = 10**6
"""The mean cost of a slot."""
USER_CAP: Final = 100 * MEAN
"""What a user allows that does not know the market: 1.00 an hour where a slot costs 0.01."""
PERCENT_MAX: Final = 200
ABSENT: Final = 0.25
"""For each bidder there is another node with a record, this often, that does not bid."""
LOADS: Final = (0, 0, 250_000, 500_000)
COSTS: Final[dict[str, Callable[[random.Random], float]]] = {
    "lognormal": lambda dice: dice.lognormvariate(0, 0.25),
    "floor": lambda dice: 0.7 + 0.3 * dice.gammavariate(2, 0.5),
}
CALL: Final = Call(
    bytes(16), VICKREY, 0, Resources(), USER_CAP, 600_000, 1_200, 900, 6_000, 1, bytes(32), 0
)


@dataclass(frozen=True, slots=True)
class Node:
    """One known node that can serve the job."""

    cost: int
    listed: int
    ask: int
    """Its private ask: its cost when idle, more when other jobs hold a part of it."""
    earlier: int
    """What it asked when the requester bought from it before, under another load."""
    bids: bool = True


@dataclass(frozen=True, slots=True)
class Rule:
    """What records show, what bidders ask, what the winner is paid, and the caps of the calls."""

    name: str
    profile: int
    posted: Callable[[Node], int]
    ask: Callable[[Node, int], int]
    """Its ask, from the node and the cap."""
    caps: Callable[[Sequence[int]], tuple[int, ...]]
    """The caps of the first call and of those after calls without bids, from the posted prices."""
    shift_cap: int = SHIFT_CAP


@dataclass(frozen=True, slots=True)
class Sale:
    """The result of one job's calls."""

    rate: int
    cap: int
    ask: int
    first: bool
    """Whether the first call found a bid."""


def market(dice: random.Random, kind: str, bidders: int) -> tuple[Node, ...]:
    """Return so many nodes that bid, and some that only have a record."""
    absent = sum(dice.random() < ABSENT for _ in range(bidders))
    return tuple(_node(dice, kind, bids=n < bidders) for n in range(bidders + absent))


def _node(dice: random.Random, kind: str, *, bids: bool) -> Node:
    listed = round(COSTS[kind](dice) * MEAN * dice.uniform(1.1, 2.0))
    percent = round(PERCENT / dice.uniform(1.1, 2.0))
    ask, earlier = (ask_of(listed, percent, dice.choice(LOADS)) for _ in range(2))
    return Node(ask_of(listed, percent, 0), listed, ask, earlier, bids)


# --- rules --------------------------------------------------------------------------------


def raised(listed: Sequence[int]) -> tuple[int, ...]:
    """Return the caps of a job that names no price, as a node computes them."""
    return caps_of(listed, listed)


def caps_of(listed: Sequence[int], answered: Sequence[int]) -> tuple[int, ...]:
    """Return the caps of a job for which nobody bids."""
    caps: list[int] = []
    while cap := cap_of(listed, answered, caps[-1] if caps else 0, PERCENT_MAX):
        caps.append(cap.rate)
    return tuple(caps)


def shaded(margin: float, node: Node, cap: int) -> int:
    """Return the ask of one that is paid its ask: above its cost, by a part of what it may get."""
    return node.ask + max(0, round((cap - node.ask) * margin))


def user_cap(_: Sequence[int]) -> tuple[int, ...]:
    """Return the cap of a user that does not know the market."""
    return (USER_CAP,)


def private(node: Node, _: int) -> int:
    """Return the ask of one that is paid the second price."""
    return node.ask


def listed(node: Node, _: int = 0) -> int:
    """Return the list price."""
    return node.listed


def shown(node: Node) -> int:
    """Return the ask, which the record shows."""
    return node.ask


def half_more(posted: Sequence[int]) -> tuple[int, ...]:
    """Return a cap of 1.5 x the lowest price."""
    return (min(posted) * 3 // 2,)


def second(posted: Sequence[int]) -> tuple[int, ...]:
    """Return the second lowest price as cap; the only one, if there is one."""
    return (sorted(posted)[:2][-1],)


LOWEST_LISTED: Final = Rule("V, list, lowest, raised", VICKREY, listed, private, raised)
SHIFTED: Final = replace(LOWEST_LISTED, name="V, list, lowest, raised, shift", shift_cap=1)
RULES: Final = (
    Rule("V, ask posted, user's cap", VICKREY, shown, private, user_cap),
    Rule("V, ask posted, 1.5 x lowest", VICKREY, shown, private, half_more),
    Rule("V, list, user's cap", VICKREY, listed, private, user_cap),
    LOWEST_LISTED,
    SHIFTED,
    Rule("V, list, second lowest", VICKREY, listed, private, second),
    Rule("Q, list posted and asked", QUICK, listed, listed, user_cap),
    Rule("Q, list, lowest, raised", QUICK, listed, private, raised),
)


def sell(
    rule: Rule,
    nodes: Sequence[Node],
    posted: Sequence[int],
    *,
    shills: Sequence[int] = (),
    unopened: int = 0,
) -> Sale | None:
    """Hold the auctions of one job; return its sale, if any.

    `shills`: the requester's own commitments; it opens those that win nothing.
    """
    for number, cap in enumerate(rule.caps(posted)):
        call = replace(CALL, profile=rule.profile, rate_max=cap, shift_cap=rule.shift_cap)
        asks = {
            PeerId(str(place)): rule.ask(node, cap)
            for place, node in enumerate(nodes) if node.bids
        }  # fmt: skip
        lowest = min(asks.values())
        if lowest > cap:
            continue
        opened = [PeerId(f"shill {shill}") for shill in shills if shill > lowest]
        asks |= {peer: int(peer.split()[1]) for peer in opened}
        closed = unopened + len(shills) - len(opened)
        ranking = rank(call, ContentId(bytes(32)), (_offer(*each) for each in asks.items()))
        price = price_of(
            call, ranking, {ranking[0].peer: 1}, (ranking[0], 0), min(closed, call.shift_cap)
        )
        winner = nodes[int(ranking[0].peer)]
        return Sale(price.rate, cap, winner.ask, number == 0)
    return None


def _offer(peer: PeerId, ask: int) -> Offer:
    return Offer(peer, Bid(ask, "embedded", 1, 10_000, 35_000, 0), b"")
