"""The command that explains a job, and how an explanation is printed.

Spec: specs/advice.md, specs/rpc.md#command-line.
"""

from collections.abc import Mapping
from typing import Any, Final

import click

from node.cli.connection import Connection, quoted
from node.cli.job_commands import job_argument, show_bids, show_failed_attempts
from node.cli.options import reaches_node
from node.cli.output import (
    duration,
    instant,
    short_job,
    short_peer,
    show_fields,
    show_json,
    show_table,
)


@click.command()
@job_argument
@reaches_node()
def explain(*, job: str, node: Connection, as_json: bool) -> None:
    """Explain a job: why it waits or failed, which nodes could serve it, and what would help.

    JOB is an id, or its first six digits or more. To ask before a job is submitted, use
    `mutirao run --dry-run`.

    Example: mutirao explain 3f9a0c
    """
    from node.cli.run_commands import flag_of_field

    view = node.get(f"/jobs/{quoted(job)}/explanation")
    if as_json:
        show_json(view)
        return
    told = view["job"]
    click.echo(f"job {short_job(told['id'])} is {told['phase']}")
    show_fields([("  why", told["why"]), ("  provider", told["provider"])])
    if view["waits"]:
        click.echo()
        rows = [
            (instant(each["at_ms"]), each["attempt"] + 1, each["why"]) for each in view["waits"]
        ]
        show_table(("WAITED FROM", "ATTEMPT", "WHY"), rows)
    show_bids(told)
    show_failed_attempts(told)
    click.echo()
    show_explanation(view, flag_of_field())


def show_explanation(view: Mapping[str, Any], words: Mapping[str, str]) -> None:
    """Print how the known nodes relate to a job. `words`: the user's name of each field."""
    click.echo(f"{view['eligible']} of {view['nodes']} known nodes can serve this job")
    if view["too_few"]:
        click.echo(f"  {view['too_few']}")
    if view["failed_before"]:
        click.echo(f"  {view['failed_before']} failed it before")
    for each in view["mismatches"]:
        click.echo(f"  {each['why']}")
    if view["near_misses"]:
        click.echo()
        show_table(("NEAREST MISS", "CONSTRAINT", "WANTED", "HAS"), [
            (short_peer(miss["peer"]), miss["code"], miss["wanted"], miss["has"])
            for miss in view["near_misses"]
        ])  # fmt: skip
    if view["changes"]:
        click.echo()
        rows = [(_change(each, words), f"+{each['nodes']}") for each in view["changes"]]
        show_table(("CHANGE", "NODES"), rows)
    click.echo()
    start = view["start"]
    holders, parts = start["with_image"], start["with_layers"]
    image = f"{holders} of these nodes have it, {parts} a part of it" if holders or parts else None
    show_fields([*_price_fields(view["price"]), ("image", image), ("start", _start(view))])


def _change(change: Mapping[str, Any], words: Mapping[str, str]) -> str:
    word = words.get(change["field"], change["field"])
    return f"without {word}" if change["value"] is None else f"{word} {change['value']}"


def _price_fields(price: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    if price is None:
        return []
    lowest, median, highest = (price[f"{name}_hour"] for name in ("lowest", "median", "highest"))
    return [
        ("price", f"at most {price['cap_hour']} credits an hour: {price['why']}"),
        ("listed", f"{lowest} to {highest} credits an hour, median {median}"),
    ]


def _start(view: Mapping[str, Any]) -> str | None:
    """Return when the job may start; None if it is with a provider, or has ended."""
    start, job = view["start"], view["job"]
    told = job is not None and job["why"] == start["why"]
    why = f": {start['why']}" if start["why"] and not told else ""
    again = (
        f"; the next call is in {duration(start['retry_in_ms'])}" if start["retry_in_ms"] else ""
    )
    if start["place"] is not None:
        ends = f"; it gives up in {duration(start['gives_up_in_ms'])}"
        return f"waits as number {start['place']} of {start['waiting']}{why}{again}{ends}"
    if job is not None:
        return None
    if why:
        return f"equal jobs wait{why}{again}"
    if start["waiting"]:
        return f"after {start['waiting']} jobs of this node that wait"
    if start["answering"] and view["slots"] >= view["nodes_wanted"]:
        return f"at once: {start['answering']} of these nodes answered an earlier call"
    if view["slots"] >= view["nodes_wanted"]:
        return "unknown: none of these nodes has answered a call yet"
    return "not before nodes are known that can serve it"


COMMANDS: Final = {"explain": explain}
