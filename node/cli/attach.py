"""Attaches a command to a submitted job, for `run` and `submit`: to its end, or until Ctrl-C.

Spec: specs/rpc.md#command-line.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from node.cli import exit_codes
from node.cli.connection import Connection
from node.cli.failure import CliError
from node.cli.fetch import fetch_outputs
from node.cli.follow import LogPrinter, follow_job
from node.cli.output import duration, say, short_job
from node.cli.progress import ProgressDisplay, choose_progress

Tell = Callable[[str], None]


def attach(node: Connection, job: dict[str, Any], output: Path | None, *, as_json: bool) -> int:
    """Follow a job to its end, fetch its outputs if a folder is given, and return its exit code.

    Raises CliError if the job has none. Ctrl-C cancels the job.
    """
    printer = LogPrinter(as_json=as_json)
    progress = choose_progress(as_json=as_json)
    tell: Tell = _ignore if as_json else say
    tell(f"job {job['id']}")
    try:
        ended = follow_job(node, job["id"], printer, progress)
    except KeyboardInterrupt:
        cancelled = cancel_and_wait(node, job["id"], "job", progress)
        if cancelled is not None:
            printer.write_object({"job": cancelled})
            tell(f"job {short_job(job['id'])}: {summary(cancelled)}")
        return exit_codes.INTERRUPTED
    except OSError:  # The reader of stdout has gone, or its disk is full.
        short = short_job(job["id"])
        tell(f"cannot write the output; the job continues: `mutirao logs -f {short}`")
        raise
    finally:
        progress.end()
    printer.write_object({"job": ended})
    if ended["phase"] == "done":
        tell(summary(ended))
        files = fetch_outputs(node, job["id"], output) if output else node.get(_outputs(ended))
        _tell_of_files(ended, files, output, tell)
    return _exit_code(ended)


def summary(ended: dict[str, Any]) -> str:
    """Return a job's result, run time and cost on one line."""
    ran = f"ran {duration(ended['usage_ms'])}" if ended["usage_ms"] else ""
    cost = ended["cost"] or ended["amount"]
    paid = f"paid {cost} credits" if cost else ""
    facts = ", ".join(filter(None, (ran, paid))) or "nothing to pay"
    if ended["phase"] != "done":
        return f"{ended['phase']}: {facts}"
    why = f" ({ended['why']})" if ended["reason"] else ""
    return f"done: exit code {ended['exit_code']}{why}, {facts}"


def _ignore(_: str) -> None:
    """Print nothing: programs read stdout only."""


def cancel_and_wait(
    node: Connection, job_id: str, kind: str, progress: ProgressDisplay
) -> dict[str, Any] | None:
    """Cancel a job or an array, as `kind` says, and return it once it has ended.

    A second Ctrl-C ends the wait: then return None.
    """
    path = f"/jobs/{job_id}"
    try:
        node.post(f"{path}/cancel")  # Before any output: its reader may be slow.
        progress.end()
        _end_line()
        progress.note(
            f"cancelling the {kind}; its usage until now is paid (Ctrl-C again: exit at once)"
        )
        for _ in node.events(f"{path}/events"):
            continue  # The last event comes when the job has ended.
        ended: dict[str, Any] = node.get(path)
    except KeyboardInterrupt:
        _end_line()
        see = f"see `mutirao show {short_job(job_id)}`"
        progress.note(f"exiting; the node continues to cancel the {kind}: {see}")
        return None
    return ended


def _end_line() -> None:
    """Begin a new line after the ^C that a terminal shows."""
    if sys.stderr.isatty():
        click.echo(err=True)


def _exit_code(ended: dict[str, Any]) -> int:
    """Return the job's own code; raise CliError if the job has none to give."""
    code, why = ended["exit_code"], ended["why"] or ended["reason"] or ended["phase"]
    if ended["phase"] == "done":
        return int(code or 0)
    if code:  # It ran, and was stopped, for example at its time limit.
        say(f"the job was ended: {why}")
        return int(code)
    hint = f"see `mutirao show {short_job(ended['id'])}`"
    raise CliError("job-not-run", f"the job did not run to its end: {why}", hint)


def _tell_of_files(
    ended: dict[str, Any], files: list[Any], output: Path | None, tell: Tell
) -> None:
    count = "1 file" if len(files) == 1 else f"{len(files)} files"
    if files and output:
        tell(f"{count} written to {output}")
    elif files:
        short = short_job(ended["id"])
        tell(f"the job has {count} of output; fetch with: mutirao outputs {short} DIR")


def _outputs(ended: dict[str, Any]) -> str:
    return f"/jobs/{ended['id']}/outputs"
