"""The command refusals: the calls that this node did not serve.

Spec: specs/owner.md#refusals.
"""

from typing import Final

import click

from node.cli.connection import Connection
from node.cli.options import LINES, reaches_node
from node.cli.output import instant, say, show_json, show_table


@click.command()
@reaches_node(LINES)
def refusals(*, node: Connection, as_json: bool) -> None:
    """List why this node did not serve calls lately, newest first, and what to change.

    Calls of one requester that were refused by one rule are one line.

    Example: mutirao refusals --json
    """
    found = node.get("/owner/refusals")
    if as_json:
        for refused in found:
            show_json(refused)
        return
    if not found:
        say("this node has refused no call since it started")
        return
    head = ("LAST AT", "CALLS", "REQUESTER", "RULE", "WHY", "WHAT TO CHANGE")
    rows = [
        (
            instant(one["at_ms"]), one["count"], one["requester"], one["rule"], one["why"],
            one["remedy"] or "-",
        )
        for one in found
    ]  # fmt: skip
    show_table(head, rows)


COMMANDS: Final = {"refusals": refusals}
