"""Compares rules for the price of a job, in virtual time: what is paid, and what a cheat gains.

Why: a rule that is fair among many bidders may be unfair to one. Bids are ranked and priced by the
functions that a node uses; only the rule of the cap, what records show, and who cheats differ.

Spec: specs/decisions/0019-prices.md.
"""

import argparse
import json
import random
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from statistics import fmean
from typing import Final

from protocol.rules.pricing import PERCENT, ask_of, cap_of
from protocol.rules.selection import Offer, price_of, rank
from protocol.values.ids import ContentId, PeerId
from protocol.wire.job import QUICK, VICKREY, Resources
from protocol.wire.messages import Bid, Call

MEAN: Final = 10**6
"""The mean cost of a slot."""
USER_CAP: Final = 100 * MEAN
"""What a user allows that does not know the market: 1.00 an hour where a slot costs 0.01."""
PERCENT_MAX: Final = 200
BIDDERS: Final = (1, 2, 5, 10, 20)
ABSENT: Final = 0.25
"""For each bidder there is another node with a record, this often, that does not bid."""
LOADS: Final = (0, 0, 250_000, 500_000)
COSTS: Final[dict[str, Callable[[random.Random], float]]] = {
    "lognormal": lambda dice: dice.lognormvariate(0, 0.25),
    "floor": lambda dice: 0.7 + 0.3 * dice.gammavariate(2, 0.5),
}
TRAINING: Final = 150
"""A shill's place is the best of PLACES in at most so many other markets."""
PLACES: Final = tuple(percent / 100 for percent in range(50, 205, 5))
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
    shift_cap: int = 1


@dataclass(frozen=True, slots=True)
class Sale:
    """The result of one job's calls."""

    rate: int
    cap: int
    ask: int
    first: bool
    """Whether the first call found a bid."""


@dataclass(frozen=True, slots=True)
class Cell:
    """The figures of one rule against one strategy, for a number of bidders."""

    rule: str
    strategy: str
    costs: str
    bidders: int
    over_ask: float
    """The price, over the lowest private ask."""
    over_cost: float
    """The price, over the lowest cost."""
    surplus: float
    """The winner's surplus, over its surplus if nobody cheats."""
    sold_at_once: float
    sold: float
    efficiency: float
    """The lowest ask, over the winner's."""


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
UNSHIFTED: Final = replace(LOWEST_LISTED, name="V, list, lowest, raised, no shift", shift_cap=0)
RULES: Final = (
    Rule("V, ask posted, user's cap", VICKREY, shown, private, user_cap),
    Rule("V, ask posted, 1.5 x lowest", VICKREY, shown, private, half_more),
    Rule("V, list, user's cap", VICKREY, listed, private, user_cap),
    LOWEST_LISTED,
    UNSHIFTED,
    Rule("V, list, second lowest", VICKREY, listed, private, second),
    Rule("Q, list posted and asked", QUICK, listed, listed, user_cap),
    Rule("Q, list, lowest, raised", QUICK, listed, private, raised),
)


def priced(rule: Rule, markets: Sequence[Sequence[Node]]) -> Rule:
    """Return a rule whose bidders, if they are paid their private asks, ask for more.

    In equilibrium they ask for what the second price would give them: the revenue is the same.
    """
    if rule.profile != QUICK or rule.ask is not private:
        return rule
    sales = [sale for nodes in markets if (sale := honest(LOWEST_LISTED, nodes, 1))]
    room = sum(sale.cap - sale.ask for sale in sales)
    margin = sum(sale.rate - sale.ask for sale in sales) / room if room else 0
    return replace(rule, ask=partial(shaded, margin))


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


# --- strategies ---------------------------------------------------------------------------

Act = Callable[[Rule, Sequence[Node], float], Sale | None]


def honest(rule: Rule, nodes: Sequence[Node], place: float) -> Sale | None:
    """Let nobody cheat."""
    return sell(rule, nodes, [rule.posted(node) for node in nodes])


def shill_by_records(rule: Rule, nodes: Sequence[Node], place: float) -> Sale | None:
    """Let the requester commit to one bid, at the best multiple of the lowest posted price."""
    posted = [rule.posted(node) for node in nodes]
    return sell(rule, nodes, posted, shills=above(min(posted), place))


def shill_by_memory(rule: Rule, nodes: Sequence[Node], place: float) -> Sale | None:
    """Let it know, too, who will bid, and what each asked before."""
    posted = [rule.posted(node) for node in nodes]
    return sell(rule, nodes, posted, shills=above(known_ask(rule, nodes), place))


def ladder(
    rule: Rule, nodes: Sequence[Node], place: float, rungs: int = 4, width: float = 0.2
) -> Sale | None:
    """Let it know the same, and make four commitments, 5 % apart."""
    known, apart = known_ask(rule, nodes), width / rungs
    shills = [bid for rung in range(rungs) for bid in above(known, place * (1 + rung * apart))]
    return sell(rule, nodes, [rule.posted(node) for node in nodes], shills=shills)


def known_ask(rule: Rule, nodes: Sequence[Node]) -> int:
    """Return the lowest ask that the requester knows of the bidders."""
    bidders = [node for node in nodes if node.bids]
    return min(node.ask if rule.posted is shown else node.earlier for node in bidders)


def sybil(rule: Rule, nodes: Sequence[Node], place: float) -> Sale | None:
    """Let a bidder have a second identity that commits, does not open, and lists a high price."""
    posted = [rule.posted(node) for node in nodes]
    high = 3 * max(posted)
    return sell(rule, nodes, [*posted, high], unopened=rule.profile == VICKREY)


def ring(rule: Rule, nodes: Sequence[Node], place: float) -> Sale | None:
    """Let half of the bidders list the double, and only the best of them bid."""
    bidders = [node for node in nodes if node.bids]
    members = bidders[: -(-len(bidders) // 2)]
    best = min(members, key=lambda node: node.ask)
    acting = tuple(
        replace(node, listed=2 * node.listed, bids=node is best) if node in members else node
        for node in nodes
    )
    return sell(rule, acting, [rule.posted(node) for node in acting])


def false_records(rule: Rule, nodes: Sequence[Node], place: float) -> Sale | None:
    """Let as many false records as there are bidders post next to nothing."""
    posted = [rule.posted(node) for node in nodes]
    false = [MEAN // 100] * sum(node.bids for node in nodes)
    if rule.caps is raised:  # Nodes that answered before exist; those of the records do not.
        caps = caps_of([*posted, *false], posted)
        return sell(replace(rule, caps=lambda _: caps), nodes, [*posted, *false])
    return sell(rule, nodes, [*posted, *false])


STRATEGIES: Final[dict[str, Act]] = {
    "honest": honest, "shill, records": shill_by_records, "shill, memory": shill_by_memory,
    "shill, ladder": ladder, "sybil": sybil, "ring": ring, "false records": false_records,
}  # fmt: skip
TRAINED: Final = (shill_by_records, shill_by_memory, ladder)


def above(price: int, place: float) -> tuple[int, ...]:
    """Return one bid, at a multiple of a price."""
    return (round(price * place) + 1,)


def best_place(rule: Rule, act: Act, markets: Sequence[Sequence[Node]]) -> float:
    """Return the place that makes a shill's requester pay least. A market without a sale costs."""

    def paid(place: float) -> float:
        sales = (act(rule, nodes, place) for nodes in markets)
        return fmean(sale.rate if sale else USER_CAP for sale in sales)

    return min(PLACES, key=paid)


# --- figures ------------------------------------------------------------------------------


def compare(seed: int, markets: int, bidders: Sequence[int] = BIDDERS) -> Iterator[Cell]:
    """Yield the figures of each rule and strategy."""
    for kind in COSTS:
        for count in bidders:
            dice = random.Random(f"{seed} {kind} {count}")
            drawn = [market(dice, kind, count) for _ in range(markets)]
            training = [market(dice, kind, count) for _ in range(min(TRAINING, markets))]
            for each in RULES:
                rule = priced(each, training)
                plain = [honest(rule, nodes, 1) for nodes in drawn]
                for name, act in STRATEGIES.items():
                    vain = act in TRAINED and rule.profile == QUICK
                    place = best_place(rule, act, training) if act in TRAINED and not vain else 1
                    sales = plain if vain else [act(rule, nodes, place) for nodes in drawn]
                    yield _cell((rule.name, name, kind, count), drawn, sales, plain)


def _cell(
    key: tuple[str, str, str, int],
    drawn: Sequence[Sequence[Node]],
    sales: Sequence[Sale | None],
    plain: Sequence[Sale | None],
) -> Cell:
    bidders = [[node for node in nodes if node.bids] for nodes in drawn]
    sold = [(who, sale) for who, sale in zip(bidders, sales, strict=True) if sale]
    usual = fmean([sale.rate - sale.ask for sale in plain if sale] or [0])
    earned = fmean([sale.rate - sale.ask for _, sale in sold] or [0])

    def mean(ratio: Callable[[Sequence[Node], Sale], float]) -> float:
        return round(fmean([ratio(who, sale) for who, sale in sold] or [0]), 3)

    return Cell(
        *key,
        over_ask=mean(lambda who, sale: sale.rate / min(node.ask for node in who)),
        over_cost=mean(lambda who, sale: sale.rate / min(node.cost for node in who)),
        surplus=round(earned / usual, 3) if usual else 0,
        sold_at_once=round(sum(sale.first for _, sale in sold) / len(sales), 3),
        sold=round(len(sold) / len(sales), 3),
        efficiency=mean(lambda who, sale: min(node.ask for node in who) / sale.ask),
    )  # fmt: skip


def main() -> int:
    """Print the figures."""
    parser = argparse.ArgumentParser(
        prog="scripts/auction_rules", description=__doc__.split("\n\n")[0]
    )
    parser.add_argument("--seed", type=int, default=1, help="of the markets (default 1)")
    parser.add_argument("--markets", type=int, default=400, help="of each kind (default 400)")
    parser.add_argument("--json", action="store_true", help="print one JSON object a line")
    given = parser.parse_args()
    if given.markets < 1:
        parser.error("--markets: give 1 or more")
    head = ("rule", "strategy", "costs", "bidders", "/ask", "/cost", "surplus", "at once", "sold",
            "efficient")  # fmt: skip
    form = "{:35}{:16}{:11}{:>8}{:>9}{:>9}{:>9}{:>9}{:>7}{:>11}"
    if not given.json:
        print(form.format(*head))
    for cell in compare(given.seed, given.markets):
        print(json.dumps(asdict(cell)) if given.json else form.format(*asdict(cell).values()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
