"""Commands about the node itself: up, stop, status, peers, offers, config, version.

Spec: specs/rpc.md#command-line.
"""

import json
from pathlib import Path
from typing import Any

import click

from node.cli.connection import Connection
from node.cli.failure import Failure
from node.cli.options import effective_config, json_option, reaches_node
from node.cli.output import duration, say, short_peer, show_fields, show_json, show_table

config_option = click.option(
    "--config", "file", type=click.Path(path_type=Path), help="Read this file and no other."
)
data_option = click.option("--data", type=click.Path(path_type=Path), help="The data folder.")


@click.command()
@config_option
@data_option
@click.option("--listen", multiple=True, metavar="MULTIADDR", help="Listen here; may be repeated.")
@click.option("--bootstrap", multiple=True, metavar="MULTIADDR", help="A peer to begin with.")
@click.option("--json", "as_json", is_flag=True, help="Write the log as JSON.")
def up(
    *, file: Path | None, data: Path | None, listen: tuple[str, ...], bootstrap: tuple[str, ...],
    as_json: bool,
) -> int:  # fmt: skip
    """Run the node in the foreground, until Ctrl-C.

    Example: mutirao up --listen /ip4/0.0.0.0/tcp/4788
    """
    flags = {
        "data_dir": data,
        "network.listen": listen or None,
        "network.bootstrap": bootstrap or None,
        "log_format": "json" if as_json else None,
    }
    config = effective_config(file, flags)
    from node.daemon import run_daemon
    from protocol.values.errors import NodeError

    try:
        return run_daemon(config)
    except NodeError as error:
        raise Failure(error.code, str(error)) from None


@click.command()
@reaches_node
def stop(*, node: Connection, as_json: bool) -> None:
    """Ask the node to stop. Its jobs go on when it runs again.

    Example: mutirao stop
    """
    node.post("/stop")
    if as_json:
        show_json({"stopping": True})
    else:
        say("the node is stopping")


@click.command()
@reaches_node
def status(*, node: Connection, as_json: bool) -> None:
    """Show what the node is and does.

    Example: mutirao status --json
    """
    view = node.get("/status")
    if as_json:
        show_json(view)
        return
    jobs = ", ".join(f"{count} {phase}" for phase, count in view["jobs"].items() if count)
    show_fields([
        ("peer", view["peer_id"]),
        ("version", view["version"]),
        ("up for", duration(view["uptime_ms"])),
        ("peers", view["peers"]),
        *(("address", address) for address in view["addresses"]),
        ("jobs", jobs or "none"),
        ("earned", f"{view['earned']} credits"),
        ("spent", f"{view['spent']} credits"),
        *_provider_fields(view["provider"]),
        ("data", view["data_dir"]),
    ])  # fmt: skip


def _provider_fields(provider: dict[str, Any]) -> list[tuple[str, Any]]:
    state = "disabled" if not provider["enabled"] else "paused" if provider["paused"] else "enabled"
    driver = f"{provider['driver'] or 'none'} ({provider['why']})"
    return [
        ("provider", state),
        ("sandbox", driver),
        ("free", _amount(provider["free"])),
        ("of", _amount(provider["total"])),
        *(("gpu", _gpu(gpu)) for gpu in provider["gpus"]),
    ]


@click.command()
@reaches_node
def peers(*, node: Connection, as_json: bool) -> None:
    """List the peers that the node is connected with.

    Example: mutirao peers
    """
    found = node.get("/peers")
    if as_json:
        for peer in found:
            show_json(peer)
        return
    rows = [(p["peer"], p["direction"], duration(p["connected_ms"]), p["address"]) for p in found]
    show_table(("PEER", "DIRECTION", "FOR", "ADDRESS"), rows)


@click.command()
@reaches_node
def offers(*, node: Connection, as_json: bool) -> None:
    """List what the providers that the node knows can run, and for how much an hour.

    Example: mutirao offers
    """
    found = node.get("/offers")
    if as_json:
        for offer in found:
            show_json(offer)
        return
    head = ("PEER", "REGION", "HAS", "GPUS", "CPU/H", "GIB/H", "GPU/H", "DRIVERS", "EXPIRES IN")
    show_table(head, [_offer_row(offer) for offer in found])


def _offer_row(offer: dict[str, Any]) -> tuple[str, ...]:
    return (
        "this node" if offer["own"] else short_peer(offer["peer"]),
        offer["region"] or "-",
        _amount(offer),
        ", ".join(_gpu(gpu) for gpu in offer["gpus"]) or "-",
        offer["price_cpu_hour"],
        offer["price_memory_gib_hour"],
        offer["price_gpu_hour"],
        ", ".join(offer["drivers"]),
        duration(offer["expires_in_ms"]),
    )


@click.command()
@config_option
@data_option
@json_option
def config(*, file: Path | None, data: Path | None, as_json: bool) -> None:
    """Print the configuration that `mutirao up` would use, and where each setting is from.

    Example: mutirao config --json
    """
    from node.config import ConfigError, explain_config

    try:
        settings = explain_config(file, flags={"data_dir": data})
    except ConfigError as error:
        raise Failure("config", str(error)) from None
    for each in settings:
        value = _jsonable(each.value)
        if as_json:
            show_json({"key": each.key, "value": value, "origin": each.origin, "what": each.what})
        else:
            shown = "(decided at the start)" if value is None else json.dumps(value)
            click.echo(f"{each.key} = {shown}  # {each.origin}")


@click.command()
@json_option
def version(*, as_json: bool) -> None:
    """Print the version of the program and of the protocol.

    Example: mutirao version
    """
    from node import VERSION
    from protocol import PROTOCOL_VERSION

    if as_json:
        show_json({"version": VERSION, "protocol": PROTOCOL_VERSION})
    else:
        click.echo(f"mutirao {VERSION}, protocol {PROTOCOL_VERSION}")


def _amount(resources: dict[str, Any]) -> str:
    return f"{resources['cpus']} cpus, {resources['memory_mib']} MiB"


def _gpu(gpu: dict[str, Any]) -> str:
    return f"{gpu['count']} x {gpu['gpu_class']} ({gpu['vram_mib']} MiB)"


def _jsonable(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _jsonable(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(inner) for inner in value]
    return value if value is None or isinstance(value, bool | int | str) else str(value)
