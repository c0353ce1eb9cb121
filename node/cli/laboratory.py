"""What all commands of the laboratory share: errors in one line, and changes of a scenario.

Spec: specs/simulation.md#command-line.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any, Final

import click

from node.cli.failure import CliError

INSTALL: Final = "install what it needs: pip install 'mutirao[lab]'"


def in_laboratory(command: Callable[..., None]) -> Callable[..., None]:
    """Let a command tell what is wrong in one line, also if the laboratory is not installed."""

    @wraps(command)
    def guarded(**options: Any) -> None:
        from protocol.values.errors import NodeError

        try:
            command(**options)
        except ModuleNotFoundError as error:
            raise CliError("lab-missing", f"the simulator needs {error.name}", INSTALL) from None
        except NodeError as error:
            raise CliError(error.code, str(error)) from None

    return guarded


set_option = click.option(
    "--set", "changes", multiple=True, metavar="KEY=VALUE",
    help="Change a value of the scenario, such as nodes=5000 or demand.per_minute=30.",
)  # fmt: skip


def values_of(changes: tuple[str, ...]) -> dict[str, Any]:
    """Return the values in options KEY=VALUE; a text needs no quotes."""
    import tomllib

    values = {}
    for change in changes:
        key, mark, text = change.partition("=")
        if not mark:
            raise CliError("usage", f"--set {change}: write KEY=VALUE")
        try:
            values[key.strip()] = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            values[key.strip()] = text.strip()
    return values
