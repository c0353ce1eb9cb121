"""The command bids: the auctions that this node bid in.

Spec: specs/bids.md.
"""

from typing import Final

import click

from node.cli.connection import Connection
from node.cli.options import LINES, reaches_node
from node.cli.output import amount_of, instant, say, short_peer, show_json, show_table


@click.command()
@click.option("--limit", type=click.IntRange(1, 10_000), default=20, help="The most to show.")
@reaches_node(LINES)
def bids(*, limit: int, node: Connection, as_json: bool) -> None:
    """List the calls that this node answered as a provider, newest first, and how each ended.

    Example: mutirao bids --limit 5
    """
    found = node.get("/bids", limit=limit)
    if as_json:
        for answered in found:
            show_json(answered)
        return
    if not found:
        say("this node has answered no call for bids yet")
        return
    head = ("AT", "REQUESTER", "FOR", "GPUS", "ASK/H", "SLOTS", "RESULT", "PRICE/H", "WHY")
    rows = [
        (
            instant(one["at_ms"]), short_peer(one["requester"]), amount_of(one["resources"]),
            one["resources"]["gpus"], one["ask_hour"] or "-", one["slots"] or "-", one["result"],
            one["price_hour"] or "-", one["why"],
        )
        for one in found
    ]  # fmt: skip
    show_table(head, rows)
    for name in filter(None, (one["proof"] for one in found)):
        say(f"proven: proofs/{name} in the node's data folder; see `mutirao verify --help`")


COMMANDS: Final = {"bids": bids}
