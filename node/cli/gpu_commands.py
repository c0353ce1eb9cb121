"""The command that shows the GPUs of this machine.

Spec: specs/rpc.md#command-line.
"""

import sys
import time
from typing import Any, Final

import click

from node.cli.connection import Connection
from node.cli.options import reaches_node
from node.cli.output import say, short_peer, show_json, show_table
from protocol.values.units import size_of_mib

WATCH_S: Final = 5
"""The node reads GPUs as often."""


@click.command()
@click.option("--watch", is_flag=True, help="Show them again every 5 seconds, until Ctrl-C.")
@reaches_node()
def gpus(*, watch: bool, node: Connection, as_json: bool) -> None:
    """Show this machine's GPUs: use, heat, power, memory errors, troubles, and who has them.

    \b
    Examples:
      mutirao gpus
      mutirao gpus --watch --json
    """  # noqa: D301 - \b is click's mark for lines to be kept.
    try:
        _show(node.get("/gpus"), as_json=as_json)
        while watch:
            time.sleep(WATCH_S)
            view = node.get("/gpus")
            if sys.stdout.isatty() and not as_json:
                click.clear()
            _show(view, as_json=as_json)
    except KeyboardInterrupt:
        if not watch:
            raise


def _show(view: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        show_json(view)
        return
    if view["gpus"]:
        head = ("GPU", "CLASS", "USE", "MEMORY", "HEAT", "POWER", "ERRORS", "STATE")
        show_table(head, [_row(gpu) for gpu in view["gpus"]])
    if view["why"]:
        say(view["why"])


def _row(gpu: dict[str, Any]) -> tuple[str, ...]:
    used, total = gpu["memory_used_mib"], gpu["vram_mib"]
    of = f" of {size_of_mib(total)}" if total is not None else ""
    limit = f" of {gpu['power_limit_w']}" if gpu["power_limit_w"] is not None else ""
    return (
        gpu["uuid"],
        gpu["gpu_class"],
        _with("%", gpu["utilisation_percent"]),
        "-" if used is None else f"{size_of_mib(used)}{of}",
        _with(" °C", gpu["temperature_c"]),
        "-" if gpu["power_w"] is None else f"{gpu['power_w']}{limit} W",
        _with("", gpu["ecc_errors"]),
        _state(gpu),
    )


def _with(unit: str, value: int | None) -> str:
    return "-" if value is None else f"{value}{unit}"


def _state(gpu: dict[str, Any]) -> str:
    held = f"lease {gpu['lease'][:12]} of {short_peer(gpu['requester'])}" if gpu["lease"] else ""
    if gpu["trouble"]:
        return ", ".join(filter(None, (held, f"in trouble: {gpu['trouble']}")))
    return held or ("free" if gpu["lent"] else "not lent")


COMMANDS: Final = {"gpus": gpus}
