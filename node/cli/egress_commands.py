"""The command that shows what jobs of others reached.

Spec: specs/egress.md#log.
"""

from typing import Any, Final

import click

from node.cli.connection import Connection
from node.cli.options import LINES, reaches_node
from node.cli.output import bytes_of, instant, say, short_peer, show_json, show_table


@click.command()
@click.argument("lease", default="")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, help="The most to show.")
@reaches_node(LINES)
def egress(*, lease: str, limit: int, node: Connection, as_json: bool) -> None:
    """Show which names jobs of others reached, and what was refused, the latest first.

    LEASE is the id of a lease, or its beginning, as in `mutirao gpus` and the log.

    \b
    Examples:
      mutirao egress
      mutirao egress 3fa0 --json
    """  # noqa: D301 - \b is click's mark for lines to be kept.
    found = node.get("/egress", lease=lease.lower(), limit=limit)
    if as_json:
        for one in found:
            show_json(one)
    elif found:
        head = ("LAST", "LEASE", "REQUESTER", "NAME", "USES", "SENT", "RECEIVED", "REFUSED")
        show_table(head, [_row(one) for one in found])
    else:
        say("no job has reached anything, as far as the log goes back")


def _row(one: dict[str, Any]) -> tuple[Any, ...]:
    return (
        instant(one["last_ms"]),
        one["lease"][:12],
        short_peer(one["requester"]),
        f"{one['host']}:{one['port']}" if one["port"] else one["host"],
        one["uses"],
        bytes_of(one["sent"]),
        bytes_of(one["received"]),
        one["refused"] or "-",
    )


COMMANDS: Final = {"egress": egress}
