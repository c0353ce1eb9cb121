"""Commands that need no daemon: config and version.

Spec: specs/rpc.md#command-line.
"""

import json
from pathlib import Path
from typing import Any, Final

import click

from node.cli.connection import Connection
from node.cli.failure import CliError
from node.cli.options import (
    LINES,
    OBJECT,
    config_option,
    data_option,
    json_option,
    reaches_node,
)
from node.cli.output import plain, say, show_json
from node.paths import find_files

RESTART: Final = " (needs a restart: stop the node and start it again)"


@click.group(invoke_without_command=True)
@config_option
@data_option
@json_option(LINES)
@click.pass_context
def config(context: click.Context, *, file: Path | None, data: Path | None, as_json: bool) -> None:
    """Print the configuration that `mutirao up` would use.

    It lists the configuration files and whether each was read, then every setting with its value,
    its meaning and, in brackets, its source. The output can be used as a configuration file.

    Example: mutirao config
    """
    if context.invoked_subcommand is not None:
        return
    from node.config import ConfigError, explain_config

    try:
        settings = explain_config(file, flags={"data_dir": data})
    except ConfigError as error:
        raise CliError("config", str(error)) from None
    if not as_json:
        for path in find_files(file):
            click.echo(f"# {plain(str(path))}: {'read' if path.exists() else 'not there'}")
        click.echo(
            "# Environment variables override these settings, for example MUTIRAO_PROVIDER__CPUS."
        )
    for each in settings:
        value = _jsonable(each.value)
        if as_json:
            show_json({"key": each.key, "value": value, "origin": each.origin, "what": each.what})
        else:
            click.echo(f"{_assigned(each.key, value)}  # {each.what} [{plain(each.origin)}]")


def _assigned(key: str, value: Any) -> str:
    """Return a line of TOML; an unset setting is written as a comment."""
    if value is None:
        return f"# {key} = not set"
    return f"{key} = {json.dumps(value, ensure_ascii=False)}"


@config.command(name="reload")
@reaches_node(LINES)
def reload_config(*, node: Connection, as_json: bool) -> None:
    """Make the node read its configuration again, and say what has changed.

    What cannot change while it runs is named: it needs a restart. If the configuration is wrong,
    nothing changes.

    Example: mutirao config reload
    """
    found = node.post("/owner/reload")
    if as_json:
        for changed in found:
            show_json(changed)
        return
    for changed in found:
        values = f"{changed['before'] or 'not set'} -> {changed['after'] or 'not set'}"
        click.echo(plain(f"{changed['key']}: {values}{'' if changed['applies'] else RESTART}"))
    if not found:
        say("nothing has changed")


@click.command()
@json_option(OBJECT)
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


def _jsonable(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _jsonable(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(inner) for inner in value]
    return value if value is None or isinstance(value, bool | int | str) else str(value)


COMMANDS: Final = {"config": config, "version": version}
