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
from node.cli.failure import CliError
from node.cli.starting import LOCK_NAME
from node.paths import data_home, is_configured

if TYPE_CHECKING:  # Its import takes as long as the rest of a command.
    from node.config import Config

Command = TypeVar("Command", bound=Callable[..., Any])

SOCKET_VARIABLE: Final = "MUTIRAO_SOCKET"
SOCKET_NAME: Final = "api.sock"

config_option = click.option(
    "--config", "file", type=click.Path(path_type=Path), metavar="FILE",
    help="Read settings from this file only; `mutirao config` shows the result.",
)  # fmt: skip
data_option = click.option(
    "--data", type=click.Path(path_type=Path), metavar="DIR",
    help="The node's folder, for its key, database and files; ~/.local/share/mutirao by default.",
)  # fmt: skip
OBJECT: Final = "Print one JSON object, for programs."
LINES: Final = "Print JSON for programs: one object per line, as it comes."


def json_option(text: str) -> Callable[[Command], Command]:
    """Return the option --json with OBJECT or LINES; commands that reach the node have it."""
    return click.option("--json", "as_json", is_flag=True, help=text)


def reaches_node(json_text: str = OBJECT) -> Callable[[Command], Command]:
    """Give a command --socket, --data and --json; it is called with `node` and `as_json`.

    `node` is the Connection to the daemon. `json_text` is the help of --json: OBJECT or LINES.
    """
    shared = (
        json_option(json_text),
        click.option(
            "--data", type=click.Path(path_type=Path), metavar="DIR",
            help="Use the node of this data folder, not that of the configuration.",
        ),
        click.option(
            "--socket", type=click.Path(path_type=Path), metavar="PATH",
            help="Use the node with this socket.",
        ),
    )  # fmt: skip

    def reaching(command: Command) -> Command:
        @wraps(command)
        def found(*args: Any, socket: Path | None, data: Path | None, **options: Any) -> Any:
            return command(*args, node=find_node(socket, data), **options)

        for option in shared:
            found = option(found)
        return found  # type: ignore[return-value]

    return reaching


def find_node(socket: Path | None, data: Path | None) -> Connection:
    """Return a Connection: from the options, else MUTIRAO_SOCKET, else the configuration."""
    if socket is not None:
        return Connection(socket)
    if data is not None:
        return Connection(data / SOCKET_NAME)
    if named := os.environ.get(SOCKET_VARIABLE):
        return Connection(Path(named))
    if not is_configured():
        return Connection(data_home() / SOCKET_NAME)
    config = effective_config(None, {})
    return Connection(config.socket, config.data_dir / LOCK_NAME)


def effective_config(file: Path | None, flags: Mapping[str, object]) -> "Config":
    """Return the configuration; CliError "config" says what is wrong with it.

    `flags` maps keys such as "network.listen" to values; None means "not given".
    """
    from node.config import ConfigError, load_config

    try:
        return load_config(file, flags=flags)
    except ConfigError as error:
        raise CliError("config", str(error)) from None
