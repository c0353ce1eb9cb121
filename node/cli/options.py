"""Options that many commands share, and how a command finds the daemon's socket.

Spec: specs/rpc.md#command-line.
"""

import os
from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from node.cli.connection import Connection
from node.cli.failure import Failure

if TYPE_CHECKING:  # Its import takes as long as all the rest of a command.
    from node.config import Config

Command = TypeVar("Command", bound=Callable[..., Any])

SOCKET_VARIABLE: Final = "MUTIRAO_SOCKET"
SOCKET_NAME: Final = "api.sock"

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
"""For commands that need no daemon; the others have it from `reaches_node`."""


def reaches_node(command: Command) -> Command:
    """Give a command --socket, --data and --json; it is called with `node` and `as_json`.

    `node` is the Connection to the daemon.
    """

    @wraps(command)
    def found(*args: Any, socket: Path | None, data: Path | None, **options: Any) -> Any:
        return command(*args, node=Connection(find_socket(socket, data)), **options)

    for option in (
        json_option,
        click.option("--data", type=click.Path(path_type=Path), help="The node's data folder."),
        click.option("--socket", type=click.Path(path_type=Path), help="The node's socket."),
    ):
        found = option(found)
    return found  # type: ignore[return-value]


def find_socket(socket: Path | None, data: Path | None) -> Path:
    """Return the daemon's socket: the options decide, then MUTIRAO_SOCKET, then the config."""
    if socket is not None:
        return socket
    if data is not None:
        return data / SOCKET_NAME
    if named := os.environ.get(SOCKET_VARIABLE):
        return Path(named)
    return effective_config(None, {}).socket


def effective_config(file: Path | None, flags: Mapping[str, object]) -> "Config":
    """Return the configuration; Failure "config" says what is wrong with it.

    `flags` maps keys such as "network.listen" to values; None is "not given".
    """
    from node.config import ConfigError, load_config

    try:
        return load_config(file, flags=flags)
    except ConfigError as error:
        raise Failure("config", str(error)) from None
