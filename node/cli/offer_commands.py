"""The command that lists and selects offers.

Spec: specs/query.md, specs/rpc.md#command-line.
"""

from typing import Any, Final

import click

from node.cli.connection import Connection
from node.cli.options import LINES, reaches_node
from node.cli.output import (
    amount_of,
    duration,
    gpus_of,
    say,
    short_peer,
    show_json,
    show_table,
)


def _show_fields(context: click.Context, _option: click.Parameter, given: bool) -> None:  # noqa: FBT001
    """Print the fields of a query, and end."""
    if not given:
        return
    from protocol.rules.query_fields import FIELDS, VALUES

    rows = [
        (name, " ".join(field.kind.operators), VALUES[field.kind], field.about)
        for name, field in FIELDS.items()
    ]
    show_table(("FIELD", "OPERATORS", "VALUES", "MEANING"), rows)
    context.exit()


@click.command()
@click.argument("where", nargs=-1, metavar="[QUERY]")
@click.option("--sort", metavar="FIELDS", help="Such as price,-vram: by price, then most memory.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="The maximum number of offers.")
@click.option(
    "--fields", is_flag=True, is_eager=True, expose_value=False, callback=_show_fields,
    help="List the fields of a query, and exit.",
)  # fmt: skip
@reaches_node(LINES)
def offers(
    *,
    where: tuple[str, ...],
    sort: str | None,
    limit: int | None,
    node: Connection,
    as_json: bool,
) -> None:
    """List the known providers, with resources and list prices per hour: the most that they ask.

    QUERY selects some: conditions that must all hold; `or`, `not` and parentheses are known.

    \b
    Examples:
      mutirao offers
      mutirao offers 'gpu_class=h100 vram>=80G price<2.5' --sort price --limit 20
      mutirao offers 'region in [eu, us] (isolation>=gvisor or settled)'
      mutirao offers --fields
    """  # noqa: D301 - \b is click's mark for lines to be kept.
    query = " ".join(where) or None
    found = node.get("/offers", where=query, sort=sort, limit=limit)
    if as_json:
        for offer in found:
            show_json(offer)
        return
    head = (
        "PEER", "REGION", "HAS", "GPUS", "CPU/H", "GIB/H", "GPU/H", "SANDBOX", "ISOLATION",
        "EXPIRES IN",
    )  # fmt: skip
    # The record of a node that does not provide is empty.
    rows = [_offer_row(offer) for offer in found if offer["cpus"]]
    show_table(head, rows)
    if query and not rows:
        say("no known node fits the query")


def _offer_row(offer: dict[str, Any]) -> tuple[str, ...]:
    return (
        "this node" if offer["own"] else short_peer(offer["peer"]),
        offer["region"] or "-",
        amount_of(offer),
        ", ".join(gpus_of(gpu) for gpu in offer["gpus"]) or "-",
        offer["price_cpu_hour"],
        offer["price_memory_gib_hour"],
        offer["price_gpu_hour"],
        _sandbox(offer),
        offer["isolation"],
        duration(offer["expires_in_ms"]),
    )


def _sandbox(offer: dict[str, Any]) -> str:
    """Return the drivers, the soft limits, and how far jobs may reach."""
    soft = f" (soft: {', '.join(offer['soft_limits'])})" if offer["soft_limits"] else ""
    net = f" (net: {offer['egress']})" if offer["egress"] != "none" else ""
    return ", ".join(offer["drivers"]) + soft + net


COMMANDS: Final = {"offers": offers}
