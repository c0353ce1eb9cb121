"""The program: its commands, its error handling and its exit code.

Spec: specs/rpc.md#command-line.
"""

import errno
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Final

import click

from node import VERSION
from node.cli import exit_codes
from node.cli.failure import CliError

HOMES: Final[dict[str, str]] = {
    "up": "node_commands",
    "stop": "node_commands",
    "status": "node_commands",
    "peers": "node_commands",
    "offers": "offer_commands",
    "gpus": "gpu_commands",
    "egress": "egress_commands",
    "bids": "bid_commands",
    "prices": "price_commands",
    "refusals": "refusal_commands",
    "pause": "owner_commands",
    "resume": "owner_commands",
    "drain": "owner_commands",
    "reclaim": "owner_commands",
    "verify": "verify_commands",
    "run": "run_commands",
    "submit": "run_commands",
    "jobs": "job_commands",
    "show": "job_commands",
    "explain": "explain_commands",
    "logs": "job_commands",
    "wait": "wait_commands",
    "cancel": "job_commands",
    "retry": "job_commands",
    "outputs": "job_commands",
    "image": "image_commands",
    "record": "record_commands",
    "simulate": "simulate_commands",
    "config": "config_commands",
    "version": "config_commands",
}
"""The commands in the order of their use, each with its module in this folder."""


class Commands(click.Group):
    """Loads a command when it is used, so it does not wait for the imports of others."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(HOMES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in HOMES:
            return None
        home = import_module(f"node.cli.{HOMES[cmd_name]}")
        found: click.Command = home.COMMANDS[cmd_name]
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in HOMES:
            import difflib

            # click searches for the nearest name among loaded commands only.
            if close := difflib.get_close_matches(args[0], HOMES, 1):
                meant = f"No such command {args[0]!r}. Did you mean {close[0]!r}?"
                raise click.UsageError(meant, ctx)
        return super().resolve_command(ctx, args)


@click.group(
    cls=Commands, invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)  # fmt: skip
@click.version_option(VERSION, message="%(version)s")
@click.pass_context
def program(context: click.Context) -> None:
    """Run jobs on your neighbours' computers, and theirs on yours.

    \b
    Example:
      mutirao up &
      mutirao image build-base
      mutirao run base -- python3 -c 'print(6 * 7)'
    """  # noqa: D301 - \b is click's mark for lines to be kept.
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code; every failure is one clear line."""
    if arguments[:1] == ["help"]:  # As in `mutirao help run`.
        arguments = [*arguments[1:], "--help"]
    try:
        result = program.main(list(arguments), prog_name="mutirao", standalone_mode=False)
        sys.stdout.flush()
    except click.UsageError as error:
        return _tell(_usage_failure(error), arguments)
    except click.ClickException as error:
        return _tell(CliError("failure", error.format_message()), arguments)
    except CliError as failure:
        return _tell(failure, arguments)
    except (click.Abort, KeyboardInterrupt):
        return _tell(CliError("interrupted", "interrupted"), arguments)
    except BrokenPipeError:
        return _leave_quietly()
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        _leave_quietly()
        full = CliError("storage-full", "no space is left for the output", "free some space")
        return _tell(full, arguments)
    return result if isinstance(result, int) else exit_codes.OK


def _usage_failure(error: click.UsageError) -> CliError:
    path = error.ctx.command_path if error.ctx else "mutirao"
    hint = f"see `{path} --help`"
    if isinstance(error, click.NoSuchOption) and path == "mutirao":
        hint += "; options come after the command, as in `mutirao peers --data DIR`"
    elif isinstance(error, click.NoSuchOption) and path.endswith("run"):
        hint += "; options of the job's own command come after --"
    return CliError("usage", error.format_message(), hint)


def _tell(failure: CliError, arguments: Sequence[str]) -> int:
    own = arguments[: arguments.index("--")] if "--" in arguments else arguments
    click.echo(failure.as_json() if "--json" in own else failure.as_text(), err=True)
    return failure.exit_code


def _leave_quietly() -> int:
    # The reader of our output has gone; flushing the rest at exit would raise an error.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return exit_codes.FAILURE
