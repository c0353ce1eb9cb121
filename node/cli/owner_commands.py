"""Commands by which the owner decides about the machine: pause, resume, drain, reclaim.

Spec: specs/owner.md#modes.
"""

import time
from typing import Any, Final

import click

from node.cli.connection import Connection
from node.cli.failure import CliError
from node.cli.options import reaches_node
from node.cli.output import say, show_json
from node.cli.quantities import Duration
from protocol.values.limits import NOTICE_MS_MAX

POLL_S: Final = 0.5
NO_WAIT: Final = "Do not wait for the jobs that run."


@click.command()
@reaches_node()
def pause(*, node: Connection, as_json: bool) -> None:
    """Take no new jobs of others. Those that run go on. It lasts until `mutirao resume`.

    Example: mutirao pause
    """
    _show(node.post("/owner/pause"), as_json=as_json)


@click.command()
@reaches_node()
def resume(*, node: Connection, as_json: bool) -> None:
    """Take jobs of others again, after pause, drain or reclaim.

    Example: mutirao resume
    """
    _show(node.post("/owner/resume"), as_json=as_json)


@click.command()
@click.option("--no-wait", is_flag=True, help=NO_WAIT)
@reaches_node()
def drain(*, no_wait: bool, node: Connection, as_json: bool) -> None:
    """Take no new jobs of others, and wait until those that run have ended.

    It lasts until `mutirao resume`. Ctrl-C ends the waiting only.

    Example: mutirao drain && systemctl poweroff
    """
    view = node.post("/owner/drain")
    _show(view if no_wait else _wait_empty(node, view), as_json=as_json)


@click.command()
@click.option(
    "--within", type=Duration(), metavar="DURATION",
    help="How long jobs with a checkpoint may still run; the setting provider.notice_s if not"
    " given, at most 5 minutes.",
)  # fmt: skip
@click.option("--no-wait", is_flag=True, help=NO_WAIT)
@reaches_node()
def reclaim(*, within: int | None, no_wait: bool, node: Connection, as_json: bool) -> None:
    """Take the machine back: end the jobs of others, take no new ones, and wait until all are gone.

    A job with a checkpoint is told, and continues on another provider; all others end at once. It
    lasts until `mutirao resume`.

    Example: mutirao reclaim --within 30s
    """
    if within is not None and within > NOTICE_MS_MAX:
        raise click.BadParameter("at most 5 minutes are possible", param_hint="'--within'")
    view = node.post("/owner/reclaim", {"within_ms": within})
    _show(view if no_wait else _wait_empty(node, view), as_json=as_json)


def _wait_empty(node: Connection, view: dict[str, Any]) -> dict[str, Any]:
    """Return the view once no job is left; tell how many there are when that changes."""
    mode, told = view["mode"], None
    try:
        while view["jobs"]:
            if view["jobs"] != told:
                told = view["jobs"]
                say(f"waiting for {_jobs(told)} of others")
            time.sleep(POLL_S)
            view = node.get("/owner")
            if view["mode"] != mode:
                raise CliError("conflict", f"the node is {view['mode']} meanwhile")
    except KeyboardInterrupt:
        hint = f"the node is still {mode}; `mutirao resume` undoes it"
        raise CliError("interrupted", "interrupted", hint) from None
    return view


def _show(view: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        show_json(view)
        return
    takes = f"takes no new jobs: {view['closed']}" if view["closed"] else "takes jobs"
    say(f"the node {takes}")
    say(f"{_jobs(view['jobs'])} of others {'runs' if view['jobs'] == 1 else 'run'} here")


def _jobs(count: int) -> str:
    return f"{count or 'no'} job{'' if count == 1 else 's'}"


COMMANDS: Final = {"pause": pause, "resume": resume, "drain": drain, "reclaim": reclaim}
