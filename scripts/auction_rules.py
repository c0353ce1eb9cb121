"""Compares rules for the price of a job, in virtual time: what is paid, and what a cheat gains.

Why: a rule that is fair among many bidders may be unfair to one. Bids are ranked and priced by the
functions that a node uses; only the rule of the cap, what records show, and who cheats differ.

Spec: specs/decisions/0019-prices.md; with --shift specs/decisions/0027-no-shift.md.
"""

import argparse
import json
import random
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from statistics import fmean
from typing import Final

from protocol.wire.job import QUICK, VICKREY
from scripts.auction_market import (
    COSTS,
    LOWEST_LISTED,
    MEAN,
    RULES,
    USER_CAP,
    Node,
    Rule,
    Sale,
    caps_of,
    market,
    private,
    raised,
    sell,
    shaded,
    shown,
)

BIDDERS: Final = (1, 2, 5, 10, 20)
SHIFT_BIDDERS: Final = (1, 2, 3, 5, 10, 20)
SHIFT_CAPS: Final = (0, 1, 2)
LADDERS: Final = (1, 4, 8)
TRAINING: Final = 150
"""A shill's place is the best of PLACES in at most so many other markets."""
PLACES: Final = tuple(percent / 100 for percent in range(50, 205, 5))
MISSES: Final = (0.002, 0.02)
"""How many commitments of honest bidders stay closed: with usual windows, and with tight ones."""


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
    rule: Rule, nodes: Sequence[Node], place: float, rungs: int = 4, apart: float = 0.05
) -> Sale | None:
    """Let it know the same, and make four commitments, or so many, 5 % apart."""
    known = known_ask(rule, nodes)
    shills = [bid for rung in range(rungs) for bid in above(known, place * (1 + rung * apart))]
    return sell(rule, nodes, [rule.posted(node) for node in nodes], shills=shills)


def known_ask(rule: Rule, nodes: Sequence[Node]) -> int:
    """Return the lowest ask that the requester knows of the bidders."""
    bidders = [node for node in nodes if node.bids]
    return min(node.ask if rule.posted is shown else node.earlier for node in bidders)


def sybil(rule: Rule, nodes: Sequence[Node], place: float) -> Sale | None:
    """Let a bidder have other identities that commit, do not open, and list a high price.

    It has as many as count, and at least one.
    """
    posted = [rule.posted(node) for node in nodes]
    more = max(1, rule.shift_cap)
    unopened = more if rule.profile == VICKREY else 0
    return sell(rule, nodes, [*posted, *[3 * max(posted)] * more], unopened=unopened)


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


def missed(rule: Rule, nodes: Sequence[Node], place: float, rate: float) -> Sale | None:
    """Let nobody cheat, but some bidders miss the window in which bids are opened."""
    dice = random.Random(f"{rate} {[node.cost for node in nodes]}")
    acting = tuple(replace(node, bids=node.bids and dice.random() >= rate) for node in nodes)
    unopened = sum(one.bids for one in nodes) - sum(one.bids for one in acting)
    if unopened == sum(one.bids for one in nodes):
        return None
    return sell(rule, acting, [rule.posted(node) for node in nodes], unopened=unopened)


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
LADDER_ACTS: Final = {f"ladder of {rungs}": partial(ladder, rungs=rungs) for rungs in LADDERS}
SHIFT_STRATEGIES: Final[dict[str, Act]] = {
    "honest": honest, **LADDER_ACTS, "sybil": sybil, "ring": ring,
    **{f"{rate:.1%} missed": partial(missed, rate=rate) for rate in MISSES},
}  # fmt: skip
TRAINED: Final = (shill_by_records, shill_by_memory, ladder, *LADDER_ACTS.values())


def above(price: int, place: float) -> tuple[int, ...]:
    """Return one bid, at a multiple of a price."""
    return (round(price * place) + 1,)


def best_place(rule: Rule, act: Act, markets: Sequence[Sequence[Node]]) -> float:
    """Return the place that makes a shill's requester pay least. A market without a sale costs."""

    def paid(place: float) -> float:
        sales = (act(rule, nodes, place) for nodes in markets)
        return fmean(sale.rate if sale else USER_CAP for sale in sales)

    return min(PLACES, key=paid)


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


# --- figures ------------------------------------------------------------------------------


def compare_shifts(
    seed: int, markets: int, bidders: Sequence[int] = SHIFT_BIDDERS
) -> Iterator[Cell]:
    """Yield the figures of each cap of the shift."""
    rules = [replace(LOWEST_LISTED, name=f"shift cap {cap}", shift_cap=cap) for cap in SHIFT_CAPS]
    return compare(seed, markets, bidders, rules, SHIFT_STRATEGIES)


def compare(
    seed: int,
    markets: int,
    bidders: Sequence[int] = BIDDERS,
    rules: Sequence[Rule] = RULES,
    strategies: Mapping[str, Act] = STRATEGIES,
) -> Iterator[Cell]:
    """Yield the figures of each rule and strategy."""
    for kind in COSTS:
        for count in bidders:
            dice = random.Random(f"{seed} {kind} {count}")
            drawn = [market(dice, kind, count) for _ in range(markets)]
            training = [market(dice, kind, count) for _ in range(min(TRAINING, markets))]
            for each in rules:
                rule = priced(each, training)
                plain = [honest(rule, nodes, 1) for nodes in drawn]
                for name, act in strategies.items():
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
    parser.add_argument("--shift", action="store_true", help="compare caps of the shift instead")
    parser.add_argument("--json", action="store_true", help="print one JSON object a line")
    given = parser.parse_args()
    if given.markets < 1:
        parser.error("--markets: give 1 or more")
    head = ("rule", "strategy", "costs", "bidders", "/ask", "/cost", "surplus", "at once", "sold",
            "efficient")  # fmt: skip
    form = "{:35}{:16}{:11}{:>8}{:>9}{:>9}{:>9}{:>9}{:>7}{:>11}"
    if not given.json:
        print(form.format(*head))
    cells = (compare_shifts if given.shift else compare)(given.seed, given.markets)
    for cell in cells:
        print(json.dumps(asdict(cell)) if given.json else form.format(*asdict(cell).values()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
