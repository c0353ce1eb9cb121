"""The command prices: what was paid lately.

Spec: specs/bids.md#prices, specs/rpc.md#command-line.
"""

from typing import Final

import click

from node.cli.connection import Connection
from node.cli.options import LINES, reaches_node
from node.cli.output import instant, say, show_json, show_table


@click.command()
@reaches_node(LINES)
def prices(*, node: Connection, as_json: bool) -> None:
    """Show what was paid lately, in credits an hour, for each class of slots and each region.

    Prices are for one GPU, or for one CPU of a slot without a GPU. They come from the receipts of
    this node's newest jobs, and from the auctions in which it bid since it started.

    Example: mutirao prices
    """
    found = node.get("/prices")
    if as_json:
        for price in found:
            show_json(price)
        return
    if not found:
        say("nothing is known to be paid yet; `mutirao offers --sort price` shows list prices")
        return
    show_table(("CLASS", "REGION", "COUNT", "LOWEST", "MEDIAN", "HIGHEST", "LATEST"), [
        (
            price["slot_class"], price["region"] or "-", price["count"], price["lowest_hour"],
            price["median_hour"], price["highest_hour"], instant(price["latest_ms"]),
        )
        for price in found
    ])  # fmt: skip


COMMANDS: Final = {"prices": prices}
