"""The command that waits for jobs and arrays.

Spec: specs/rpc.md#command-line.
"""

from typing import Any, Final

import click

from node.cli import exit_codes
from node.cli.arrays import is_array, show_end, watch_array
from node.cli.attach import summary
from node.cli.connection import Connection, quoted
from node.cli.failure import CliError
from node.cli.job_commands import as_reference
from node.cli.options import LINES, reaches_node
from node.cli.output import short_job, show_json
from node.cli.progress import ProgressDisplay, choose_progress


@click.command()
@click.argument("jobs", nargs=-1, required=True)
@reaches_node(LINES)
def wait(*, jobs: tuple[str, ...], node: Connection, as_json: bool) -> int:
    """Wait until jobs and arrays have ended; exit with 0 if each exited with 0, else with 1.

    It follows them one after the other, in the order in which they are given.

    Example: mutirao wait 3f9a0c 81b2d7
    """
    progress = choose_progress(as_json=as_json)
    # All at first: a wrong id is told at once.
    found = [node.get(f"/jobs/{quoted(as_reference(job))}") for job in jobs]
    try:
        ended = [_end_of(node, view, progress, as_json=as_json) for view in found]
    except KeyboardInterrupt:
        hint = "the jobs continue; cancel them with `mutirao cancel`"
        raise CliError("interrupted", "interrupted", hint) from None
    finally:
        progress.end()
    return exit_codes.OK if all(map(_succeeded, ended)) else exit_codes.FAILURE


def _end_of(
    node: Connection, view: dict[str, Any], progress: ProgressDisplay, *, as_json: bool
) -> dict[str, Any]:
    """Wait for the end of a job or an array, and show and return it."""
    if is_array(view):
        array = watch_array(node, view["id"], progress, as_json=as_json)
        show_end(array, progress, as_json=as_json)
        return array
    for _ in node.events(f"/jobs/{view['id']}/events"):
        continue
    job: dict[str, Any] = node.get(f"/jobs/{view['id']}")
    if as_json:
        show_json({"job": job})
    progress.note(f"job {short_job(job['id'])}: {summary(job)}")
    return job


def _succeeded(ended: dict[str, Any]) -> bool:
    if is_array(ended):
        return bool(ended["done"] == ended["size"])
    return ended["phase"] == "done" and not ended["exit_code"]


COMMANDS: Final = {"wait": wait}
