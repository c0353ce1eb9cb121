"""Commands for the node itself: up, stop, status, peers.

Spec: specs/rpc.md#command-line.
"""

from pathlib import Path
from typing import Any, Final

import click

from node.cli.connection import NO_PEERS, Connection
from node.cli.failure import CliError
from node.cli.options import LINES, config_option, data_option, effective_config, reaches_node
from node.cli.output import (
    amount_of,
    duration,
    gpus_of,
    say,
    show_fields,
    show_json,
    show_table,
)
from node.cli.starting import claiming

START_HINTS: Final[dict[str, str]] = {
    "daemon-unavailable": "stop it with `mutirao stop`; a second node needs"
    " `mutirao up --data DIR --listen /ip4/0.0.0.0/tcp/0`",
    "address-taken": "give another address or port with --listen; tcp/0 is any free port",
}
"""What to do if the node cannot start, by the code of the error."""


def _check_addresses(
    _context: click.Context, _option: click.Parameter, given: tuple[str, ...]
) -> tuple[str, ...]:
    """Refuse obvious non-addresses at once; the network does the full check."""
    for text in given:
        if not text.startswith("/"):
            fit = "is not a multiaddress, such as /ip4/192.0.2.10/tcp/4788"
            raise click.BadParameter(f"{text!r} {fit}")
    return given


@click.command()
@config_option
@data_option
@click.option(
    "--listen", multiple=True, metavar="MULTIADDR", callback=_check_addresses,
    help="Listen here; may be repeated. /ip4/0.0.0.0/tcp/4788 by default.",
)  # fmt: skip
@click.option(
    "--bootstrap", multiple=True, metavar="MULTIADDR", callback=_check_addresses,
    help="A bootstrap peer, such as /ip4/192.0.2.10/tcp/4788/p2p/12D3…; may be repeated.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Write the log as JSON, one object per line.")
def up(
    *, file: Path | None, data: Path | None, listen: tuple[str, ...], bootstrap: tuple[str, ...],
    as_json: bool,
) -> int:  # fmt: skip
    """Run the node in the foreground, until Ctrl-C.

    \b
    Examples:
      mutirao up
      mutirao up --bootstrap /ip4/192.0.2.10/tcp/4788/p2p/12D3KooW…
    """  # noqa: D301 - \b is click's mark for lines to be kept.
    flags = {
        "data_dir": data,
        "network.listen": listen or None,
        "network.bootstrap": bootstrap or None,
        "log_format": "json" if as_json else None,
    }
    config = effective_config(file, flags)
    from node.config import load_config
    from node.identity import private_dir
    from protocol.values.errors import InvalidRequest, NodeError

    try:
        # The daemon's import takes seconds. Commands that are typed meanwhile must wait.
        with claiming(private_dir(config.data_dir)):
            from node.daemon import run_daemon

            return run_daemon(config, lambda: load_config(file, flags=flags))
    except NodeError as error:
        code = error.code
        if code == InvalidRequest.code:  # A configured address is not valid.
            code = "usage" if listen or bootstrap else "config"
        raise CliError(code, str(error), START_HINTS.get(code, "")) from None


@click.command()
@reaches_node()
def stop(*, node: Connection, as_json: bool) -> None:
    """Ask the node to stop. Its jobs continue when it runs again.

    Example: mutirao stop
    """
    node.post("/stop")
    if as_json:
        show_json({"stopping": True})
    else:
        say("the node is stopping")


@click.command()
@reaches_node()
def status(*, node: Connection, as_json: bool) -> None:
    """Show the node's identity and state.

    Example: mutirao status --json
    """
    view = node.get("/status")
    if as_json:
        show_json(view)
        return
    conditions = node.get("/owner")["conditions"]
    jobs = ", ".join(f"{count} {phase}" for phase, count in view["jobs"].items() if count)
    show_fields([
        ("peer", view["peer_id"]),
        ("version", view["version"]),
        ("up for", duration(view["uptime_ms"])),
        ("peers", view["peers"]),
        *_traffic_fields(view["traffic"]),
        *(("address", address) for address in view["addresses"]),
        ("own jobs", jobs or "none"),
        ("earned", f"{view['earned']} credits"),
        ("spent", f"{view['spent']} credits"),
        *_provider_fields(view["provider"]),
        *(("rule", _condition(one)) for one in conditions),
        ("data", view["data_dir"]),
        *(("illegal", f"{name}: {count}") for name, count in sorted(view["illegal"].items())),
    ])  # fmt: skip
    if not view["peers"]:
        say(NO_PEERS)


def _traffic_fields(traffic: dict[str, int]) -> list[tuple[str, Any]]:
    told = "{messages_sent} sent, {messages_received} received"
    gossip = "{gossip_sent} sent, {gossip_received} received"
    sent, received = (traffic[f"bytes_{way}"] / 2**20 for way in ("sent", "received"))
    return [
        ("messages", told.format(**traffic)),
        ("gossip", gossip.format(**traffic)),
        ("traffic", f"{sent:,.1f} MiB sent, {received:,.1f} MiB received"),
    ]


def _undelivered(bids: int) -> list[tuple[str, Any]]:
    what = f"{bids} bid{'' if bids == 1 else 's'} did not reach the requester: this node's port"
    return [("warning", f"{what} may be closed, or network.announce may be wrong")] if bids else []


def _provider_fields(provider: dict[str, Any]) -> list[tuple[str, Any]]:
    takes = f"takes no new jobs: {provider['closed']}" if provider["paused"] else "enabled"
    state = takes if provider["enabled"] else "disabled"
    driver = f"{provider['driver'] or 'none'} ({provider['why']})"
    return [
        ("provider", state),
        ("sandbox", driver),
        ("lent now", _lent(provider)),
        ("free", amount_of(provider["free"])),
        ("of", amount_of(provider["total"])),
        *(("gpu", gpus_of(gpu)) for gpu in provider["gpus"]),
        *(
            ("warning", f"GPU {one['uuid']} is not lent: {one['trouble']}")
            for one in provider["gpu_troubles"]
        ),
        *_undelivered(provider["bids_undelivered"]),
        ("proofs", f"{provider['proofs']} of fraud" if provider["proofs"] else None),
    ]


def _condition(condition: dict[str, Any]) -> str:
    state = {True: "met", False: "not met", None: "unknown"}[condition["met"]]
    return f"{condition['rule']} is {state}: {condition['seen']}"


@click.command()
@reaches_node(LINES)
def peers(*, node: Connection, as_json: bool) -> None:
    """List the peers that the node is connected to.

    Example: mutirao peers
    """
    found = node.get("/peers")
    if as_json:
        for peer in found:
            show_json(peer)
        return
    rows = [(p["peer"], p["direction"], duration(p["connected_ms"]), p["address"]) for p in found]
    show_table(("PEER", "DIRECTION", "FOR", "ADDRESS"), rows)


def _lent(provider: dict[str, Any]) -> str | None:
    """Return the resources that jobs of others hold; None if nothing is lent."""
    total, free = provider["total"], provider["free"]
    if not total["cpus"]:
        return None
    lent = {name: total[name] - free[name] for name in total}
    return amount_of(lent) if any(lent.values()) else "nothing"


COMMANDS: Final = {"up": up, "stop": stop, "status": status, "peers": peers}
