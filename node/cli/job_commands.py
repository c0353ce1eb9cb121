"""Commands for submitted jobs: jobs, show, logs, cancel, outputs.

Spec: specs/rpc.md#command-line.
"""

import re
from pathlib import Path
from typing import Any, Final

import click

from node.cli.arrays import (
    fetch_array,
    is_array,
    members_of,
    require_all,
    require_array,
    show_array,
    show_members,
    summary,
)
from node.cli.connection import Connection, quoted
from node.cli.failure import CliError
from node.cli.options import LINES, reaches_node
from node.cli.output import (
    duration,
    instant,
    plain,
    say,
    short_job,
    short_peer,
    show_fields,
    show_json,
    show_table,
)
from node.cli.places import place_in_words

COMMAND_WIDTH: Final = 40
"""The characters of a job's command that tables show."""
STEPS: Final = ("announce", "award", "start", "run", "return")


def as_reference(job: str) -> str:
    """Return ID/INDEX as the API writes it: ID[INDEX]."""
    return re.sub(r"/(\d+)$", r"[\1]", job)


def _reference(_context: click.Context, _argument: click.Parameter, job: str | None) -> str | None:
    return job and as_reference(job)


job_argument = click.argument("job", callback=_reference)


@click.command()
@click.option(
    "--limit", type=click.IntRange(1, 500), default=20, help="The maximum number of jobs."
)
@click.option("--before", metavar="JOB", help="Only jobs older than this one.")
@click.argument("array", required=False, callback=_reference)
@reaches_node(LINES)
def jobs(
    *, array: str | None, limit: int, before: str | None, node: Connection, as_json: bool
) -> None:
    """List your jobs, newest first, or the jobs of an array.

    Example: mutirao jobs --limit 5
    """
    if array is not None:
        view = node.get(f"/jobs/{quoted(array)}")
        require_array(view)
        show_members(members_of(node, view["id"]), as_json=as_json)
        return
    found = node.get("/jobs", limit=limit, before=before)
    if as_json:
        for view in found:
            show_json(view)
        return
    show_table(("JOB", "NAME", "PHASE", "EXIT", "PROVIDER", "SUBMITTED", "COMMAND", "QUEUE"), [
        (
            short_job(view["id"]), view["name"] or "-",
            f"{view['phase']}: {summary(view)}" if is_array(view) else view["phase"],
            _or_dash(view.get("exit_code")), short_peer(view.get("provider")),
            instant(view["submitted_ms"]), _cut(_command(view)),
            place_in_words(view["queue"]) if view["queue"] else "",
        )
        for view in found
    ])  # fmt: skip


@click.command()
@job_argument
@reaches_node()
def show(*, job: str, node: Connection, as_json: bool) -> None:
    """Show a job: bids, price, steps, receipt, failed attempts and cost.

    JOB is an id, or its first six digits or more.

    Example: mutirao show 3f9a0c
    """
    view = node.get(f"/jobs/{quoted(job)}")
    if as_json:
        show_json(view)
        return
    if is_array(view):
        show_array(view)
        return
    show_fields(_job_fields(view))
    show_bids(view)
    show_failed_attempts(view)


def show_bids(view: dict[str, Any]) -> None:
    """Print the bids for a job, if there are any, below an empty line."""
    if view["bids"]:
        click.echo()
        rows = [
            (bid["peer"], bid["ask_hour"], "yes" if bid["eligible"] else "no")
            for bid in view["bids"]
        ]
        show_table(("BID OF", "CREDITS/H", "ELIGIBLE"), rows)


def show_failed_attempts(view: dict[str, Any]) -> None:
    """Print the attempts at a job that failed, if there are any, below an empty line."""
    if view["failed_attempts"]:
        click.echo()
        head = ("UNFINISHED ATTEMPT", "PROVIDER", "RAN", "CREDITS", "WHY")
        show_table(head, [_attempt_row(each, view["why"]) for each in view["failed_attempts"]])


def _attempt_row(attempt: dict[str, Any], said: str | None) -> tuple[Any, ...]:
    ran = duration(attempt["usage_ms"]) if attempt["usage_ms"] else "-"
    peer = short_peer(attempt["provider"])
    why = "as above" if attempt["why"] == said else attempt["why"]
    return attempt["number"], peer, ran, attempt["cost"], why


def _job_fields(view: dict[str, Any]) -> list[tuple[str, Any]]:
    steps = [(step, view["steps"][f"{step}_ms"]) for step in STEPS]
    reached = ", ".join(f"{step} {duration(ms)}" for step, ms in steps if ms is not None)
    receipt = view["receipt"]
    return [
        ("job", view["id"]),
        ("name", view["name"] or None),
        ("phase", view["phase"]),
        ("why", view["why"]),
        ("queue", _queue(view["queue"], view["why"])),
        ("exit code", view["exit_code"]),
        ("image", " ".join(filter(None, (view["image_name"], view["image"])))),
        ("command", _command(view)),
        ("submitted", instant(view["submitted_ms"])),
        ("ended", instant(view["ended_ms"]) if view["ended_ms"] else None),
        ("attempts", view["attempts"] or None),
        ("provider", view["provider"]),
        ("highest price", _cap(view)),
        ("price", _price(view)),
        ("runner-up", _per_hour(view["runner_up_hour"])),
        ("promised start", _promise(view)),
        ("usage", duration(view["usage_ms"]) if view["usage_ms"] is not None else None),
        ("amount", f"{view['amount']} credits" if view["amount"] else None),
        ("cost", f"{view['cost']} credits in all" if view["cost"] else None),
        ("steps", reached or None),
        ("continued from", _continued(view["resumes_from"])),
        ("checkpoint", _checkpoint(view)),
        ("outputs", view["output_digest"]),
        ("receipt", f"{receipt['amount']} credits, signed by both" if receipt else None),
    ]


@click.command()
@job_argument
@click.option("-f", "--follow", is_flag=True, help="Wait for more until the job has ended.")
@click.option("--offset", type=click.IntRange(0), default=0, help="Skip this many bytes.")
@reaches_node(LINES)
def logs(*, job: str, follow: bool, offset: int, node: Connection, as_json: bool) -> None:
    """Print a job's log, as the job wrote it.

    Example: mutirao logs -f 3f9a0c
    """
    from node.cli.follow import LogPrinter

    printer = LogPrinter(as_json=as_json)
    query: dict[str, Any] = {"offset": offset, "follow": "true" if follow else None}
    path = f"/jobs/{quoted(job)}/logs"
    try:
        # Without a time-out: a job may be silent for days.
        for chunk in node.download(path, None, **query):
            printer.write(chunk)
    except KeyboardInterrupt:
        if not follow:
            raise
        hint = f"the job continues; cancel it with `mutirao cancel {job}`"
        raise CliError("interrupted", "interrupted", hint) from None
    printer.end()


@click.command()
@job_argument
@reaches_node()
def cancel(*, job: str, node: Connection, as_json: bool) -> None:
    """Cancel a job. Its usage until then is paid.

    Example: mutirao cancel 3f9a0c
    """
    from node.cli.attach import summary as job_summary

    view = node.post(f"/jobs/{quoted(job)}/cancel")
    short = short_job(view["id"])
    if as_json:
        show_json(view)
    elif is_array(view):
        say(f"array {short}: {summary(view)}")
    elif view["phase"] in {"done", "failed"}:
        say(f"job {short} had ended already: {view['phase']}")
    elif view["phase"] == "cancelled":
        say(f"job {short}: {job_summary(view)}")
    else:
        say(f"job {short}: cancelling; `mutirao show {short}` shows the result and the cost")


@click.command()
@job_argument
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@reaches_node(LINES)
def outputs(*, job: str, folder: Path, node: Connection, as_json: bool) -> None:
    """Fetch a job's output files into a folder.

    Example: mutirao outputs 3f9a0c ./result
    """
    from node.cli.fetch import fetch_outputs

    view = node.get(f"/jobs/{quoted(job)}")
    if is_array(view):
        fetched, lost = fetch_array(node, view["id"], folder)
    else:
        fetched, lost = fetch_outputs(node, view["id"], folder), []
    if as_json:
        for output in fetched:
            show_json(output)
    elif not fetched and not lost:
        say("the job has no output files")
    else:
        for output in fetched:
            click.echo(plain(str(folder / output["path"])))
    require_all(lost)


def _queue(queue: dict[str, Any] | None, said: str | None) -> str | None:
    """Return a job's place in the queue, and when it gives up."""
    if queue is None:
        return None
    until = f"; until {instant(queue['until_ms'])}" if queue["until_ms"] is not None else ""
    return f"{place_in_words(queue, said)}{until}"


def _continued(number: int | None) -> str | None:
    return f"checkpoint {number}" if number else None


def _checkpoint(view: dict[str, Any]) -> str | None:
    """Return a job's newest checkpoint in words, and whether its provider stops."""
    import time

    kept = view["checkpoint"]
    if kept is None:
        return "none; its provider stops" if view["stops_ms"] else None
    until_ms = view["ended_ms"] or int(time.time() * 1000)
    age = duration(max(0, until_ms - kept["at_ms"]))
    what = f"{kept['number']}, {kept['size'] / 2**20:,.1f} MiB, "
    if view["ended_ms"]:
        return f"{what}{age} before the end"
    stops = "; its provider stops, and the job continues from it" if view["stops_ms"] else ""
    return f"{what}{age} old{stops}"


@click.command()
@job_argument
@reaches_node()
def retry(*, job: str, node: Connection, as_json: bool) -> None:
    """Run a job again that did not exit with 0; of an array, only such jobs.

    Example: mutirao retry 3f9a0c
    """
    view = node.post(f"/jobs/{quoted(job)}/retry")
    if as_json:
        show_json(view)
    else:
        say(f"{short_job(view['id'])}: {summary(view) if is_array(view) else view['phase']}")


def _command(view: dict[str, Any]) -> str:
    import shlex

    return shlex.join(view["command"])


def _cut(text: str) -> str:
    return text if len(text) <= COMMAND_WIDTH else f"{text[: COMMAND_WIDTH - 1]}…"


def _cap(view: dict[str, Any]) -> str | None:
    """Return the most that the job's call pays, and why."""
    cap = _per_hour(view["cap_hour"])
    return f"{cap}: {view['cap_why']}" if cap else None


def _price(view: dict[str, Any]) -> str | None:
    """Return the job's price per hour, and what set it if there was no other bid."""
    from node.cli.progress import why_alone

    paid, bids = view["price_hour"], view["bids"]
    if not paid:
        return None
    eligible = [bid for bid in bids if bid["eligible"]]
    at_ask = any(bid["ask_hour"] == paid for bid in eligible)
    return f"{_per_hour(paid)}{why_alone(len(bids), len(eligible), at_ask=at_ask)}"


def _promise(view: dict[str, Any]) -> str | None:
    """Return in how long the provider promised to start the job, and whether it was late."""
    if view["promised_ms"] is None:
        return None
    late = f", {duration(view['late_ms'])} late" if view["late_ms"] else ""
    return f"within {duration(view['promised_ms'])}{late}"


def _per_hour(price: str | None) -> str | None:
    return f"{price} credits an hour" if price else None


def _or_dash(value: Any) -> str:
    return "-" if value is None else str(value)


COMMANDS: Final = {
    "jobs": jobs, "show": show, "logs": logs, "cancel": cancel, "retry": retry, "outputs": outputs,
}  # fmt: skip
