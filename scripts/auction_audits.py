"""Compares what a requester gains that cheats where audits might look, in virtual time.

Why: an audit costs messages, and is worth them only if the cheat gains more than others that no
audit finds. Prices are those of a node's own rules in the markets of `scripts/auction_rules`.

Spec: specs/decisions/0029-no-opening-audit.md.
"""

import argparse
import json
import random
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from statistics import fmean
from typing import Final

from scripts.auction_market import (
    COSTS,
    LOWEST_LISTED,
    SHIFTED,
    Node,
    Rule,
    Sale,
    market,
    sell,
)
from scripts.auction_rules import (
    TRAINING,
    Act,
    above,
    best_place,
    honest,
    ladder,
)

BIDDERS: Final = (2, 5, 10, 30)
LADDERS: Final = {1: 0.2, 4: 0.2, 16: 0.8, 48: 0.8}
"""The commitments of a requester, and how far above the first the last is."""


@dataclass(frozen=True, slots=True)
class Figure:
    """What one cheat gains among a number of bidders."""

    cheat: str
    costs: str
    bidders: int
    over_ask: float
    """The price, over the lowest private ask."""
    taken: float
    """The part of the winner's surplus that the cheat takes."""


def another_set(
    rule: Rule, nodes: Sequence[Node], place: float, *, mixed: bool = False
) -> Sale | None:
    """Let it show one bidder, the cheapest before, another set: with a bid below all others'.

    All others have opened their bids by then. If its own bid is too low, it buys from the others;
    with `mixed` the bid that was opened to the other set sets a price in theirs.
    """
    posted = [rule.posted(node) for node in nodes]
    victim = min((node for node in nodes if node.bids), key=lambda node: node.earlier)
    others = [replace(node, bids=node.bids and node is not victim) for node in nodes]
    theirs = sell(rule, others, posted) if any(node.bids for node in others) else None
    sale = sell(rule, nodes, posted) if mixed or theirs is None else theirs
    if sale is None or theirs is None:
        return sale
    (shill,) = above(theirs.ask, place)
    sold = victim.ask <= shill < sale.rate and shill <= sale.cap
    return replace(sale, rate=shill, ask=victim.ask) if sold else sale


# Who calls closed bids open has no shift: as one whose call says so.
CHEATS: Final[tuple[tuple[str, Rule, Act], ...]] = (
    *(
        (f"{rungs} of its own, {name}", rule, partial(ladder, rungs=rungs, apart=width / rungs))
        for name, rule in (("closed ones count", SHIFTED), ("called open", LOWEST_LISTED))
        for rungs, width in LADDERS.items()
    ),
    ("another set", LOWEST_LISTED, another_set),
    ("another set, bids mixed", LOWEST_LISTED, partial(another_set, mixed=True)),
)


def compare(seed: int, markets: int, bidders: Sequence[int] = BIDDERS) -> Iterator[Figure]:
    """Yield what each cheat gains."""
    for kind in COSTS:
        for count in bidders:
            dice = random.Random(f"{seed} {kind} {count}")
            drawn = [market(dice, kind, count) for _ in range(markets)]
            training = [market(dice, kind, count) for _ in range(min(TRAINING, markets))]
            plain = [honest(LOWEST_LISTED, nodes, 1) for nodes in drawn]
            yield _figure(("nobody cheats", kind, count), drawn, plain, plain)
            for name, rule, act in CHEATS:
                place = best_place(rule, act, training)
                sales = [act(rule, nodes, place) for nodes in drawn]
                yield _figure((name, kind, count), drawn, sales, plain)


def _figure(
    key: tuple[str, str, int],
    drawn: Sequence[Sequence[Node]],
    sales: Sequence[Sale | None],
    plain: Sequence[Sale | None],
) -> Figure:
    lowest = [min(node.ask for node in nodes if node.bids) for nodes in drawn]
    ratios = [sale.rate / ask for sale, ask in zip(sales, lowest, strict=True) if sale]
    usual, left = (sum(sale.rate - sale.ask for sale in sold if sale) for sold in (plain, sales))
    taken = 1 - left / usual if usual else 0
    return Figure(*key, round(fmean(ratios), 3), round(taken, 2))


def main() -> int:
    """Print the figures."""
    parser = argparse.ArgumentParser(
        prog="scripts/auction_audits", description=__doc__.split("\n\n")[0]
    )
    parser.add_argument("--seed", type=int, default=1, help="of the markets (default 1)")
    parser.add_argument("--markets", type=int, default=400, help="of each kind (default 400)")
    parser.add_argument("--json", action="store_true", help="print one JSON object a line")
    given = parser.parse_args()
    if given.markets < 1:
        parser.error("--markets: give 1 or more")
    form = "{:34}{:11}{:>8}{:>8}{:>8}"
    if not given.json:
        print(form.format("cheat", "costs", "bidders", "/ask", "taken"))
    for figure in compare(given.seed, given.markets):
        print(json.dumps(asdict(figure)) if given.json else form.format(*asdict(figure).values()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
