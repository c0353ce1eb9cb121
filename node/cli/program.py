"""The program's commands put together, and how it ends.

Spec: specs/rpc.md#command-line.
"""

import os
import sys
from collections.abc import Sequence

import click

from node import VERSION
from node.cli import exits
from node.cli.failure import Failure
from node.cli.image_commands import image
from node.cli.job_commands import cancel, jobs, logs, outputs, show
from node.cli.node_commands import config, offers, peers, status, stop, up, version
from node.cli.run_commands import run_job, submit

COMMANDS = (
    up, stop, status, peers, offers, run_job, submit, jobs, show, logs, cancel, outputs, image,
    config, version,
)  # fmt: skip


class InOrder(click.Group):
    """Lists the commands in the order of their use, not of the alphabet."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(self.commands)


@click.group(
    cls=InOrder, no_args_is_help=False, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.version_option(VERSION, message="%(version)s")
def program() -> None:
    """Run jobs on your neighbours' computers, and theirs on yours.

    \b
    Example:
      mutirao up &
      mutirao image build-base
      mutirao run base -- python3 -c 'print(6 * 7)'
    """  # noqa: D301 - \b is click's mark for lines to be kept.


for command in COMMANDS:
    program.add_command(command)


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code; every failure is one clear line."""
    try:
        result = program.main(list(arguments), prog_name="mutirao", standalone_mode=False)
        sys.stdout.flush()
    except click.UsageError as error:
        return _tell(_usage_failure(error), arguments)
    except click.ClickException as error:
        return _tell(Failure("failure", error.format_message()), arguments)
    except Failure as failure:
        return _tell(failure, arguments)
    except (click.Abort, KeyboardInterrupt):
        return _tell(Failure("interrupted", "interrupted"), arguments)
    except BrokenPipeError:
        return _leave_quietly()
    return result if isinstance(result, int) else exits.OK


def _usage_failure(error: click.UsageError) -> Failure:
    path = error.ctx.command_path if error.ctx else "mutirao"
    hint = f"see `{path} --help`"
    if isinstance(error, click.NoSuchOption) and path.endswith("run"):
        hint += "; options of the job's own command come after --"
    return Failure("usage", error.format_message(), hint)


def _tell(failure: Failure, arguments: Sequence[str]) -> int:
    own = arguments[: arguments.index("--")] if "--" in arguments else arguments
    click.echo(failure.as_json() if "--json" in own else failure.as_text(), err=True)
    return failure.exit_code


def _leave_quietly() -> int:
    # Whoever read our output has left; Python would complain when it flushes the rest at exit.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return exits.FAILURE
