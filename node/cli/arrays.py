"""Arrays of jobs on the command line: their progress, their state in words, their outputs.

Spec: specs/arrays.md.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from node.cli import exit_codes
from node.cli.attach import cancel_and_wait
from node.cli.connection import Connection
from node.cli.failure import CliError
from node.cli.fetch import fetch_outputs
from node.cli.output import instant, plain, short_job, show_fields, show_json, show_table
from node.cli.places import place_in_words
from node.cli.progress import ProgressDisplay, choose_progress

STATES: Final = ("done", "failed", "running", "waiting", "cancelled")
BAR: Final = 20
"""The characters of a progress bar."""
PAGE: Final = 500
INDICES_SHOWN: Final = 20
LOST: Final = "blob-unavailable"
"""The code of an error that concerns the outputs of one job alone."""


def is_array(view: dict[str, Any]) -> bool:
    """Return whether an answer about a job is about an array."""
    return "size" in view


def summary(array: dict[str, Any]) -> str:
    """Return how far an array is: "73 of 100 done, 1 failed, 8 running, 18 waiting"."""
    more = [f"{array[state]} {state}" for state in STATES[1:] if array[state]]
    return ", ".join([f"{array['done']} of {array['size']} done", *more])


def bar(array: dict[str, Any]) -> str:
    """Return a bar of what has ended."""
    ended = sum(array[state] for state in ("done", "failed", "cancelled"))
    full = BAR * ended // array["size"]
    return f"[{'#' * full}{'.' * (BAR - full)}]"


def members_of(node: Connection, array_id: str) -> list[dict[str, Any]]:
    """Return all members of an array, by index."""
    found: list[dict[str, Any]] = []
    while True:
        after = found[-1]["index"] if found else -1
        page = node.get(f"/jobs/{array_id}/members", limit=PAGE, after=after)
        found += page
        if len(page) < PAGE:
            return found


def follow_array(
    node: Connection, array: dict[str, Any], output: Path | None, *, as_json: bool
) -> int:
    """Print the ends of an array's members until all have ended, and fetch their outputs.

    Returns 0 if each exited with 0, else 1. Ctrl-C cancels the whole. Raises CliError if outputs
    are lost.
    """
    progress = choose_progress(as_json=as_json)
    if not array["gang"]:
        progress.note(f"array {array['id']}: {array['size']} jobs")
    try:
        ended = watch_array(node, array["id"], progress, as_json=as_json)
    except KeyboardInterrupt:
        cancelled = cancel_and_wait(node, array["id"], "array", progress)
        if cancelled is not None:
            show_end(cancelled, progress, as_json=as_json)
        return exit_codes.INTERRUPTED
    finally:
        progress.end()
    show_end(ended, progress, as_json=as_json)
    if ended["done"] < ended["size"]:
        progress.note(f"`mutirao retry {array['id']}` runs again what has failed")
    if output is not None:
        fetched, lost = fetch_array(node, array["id"], output)
        progress.note(f"{len(fetched)} files written to {output}")
        require_all(lost)
    return exit_codes.OK if ended["done"] == ended["size"] else exit_codes.FAILURE


def follow_gang(
    node: Connection, gang: dict[str, Any], output: Path | None, *, as_json: bool
) -> int:
    """Print the log of a gang's first member to its end, then what became of the others.

    Returns 0 if each exited with 0, else the code of member 0 or 1. Ctrl-C cancels the whole.
    """
    from node.cli.attach import attach

    heading = f"gang {gang['id']}: {gang['size']} members; this is the log of member 0"
    choose_progress(as_json=as_json).note(heading)
    first = node.get(f"/jobs/{members_of(node, gang['id'])[0]['id']}")
    try:
        code = attach(node, first, None, as_json=as_json)
    except CliError:  # It has no exit code; the end of the gang says why.
        code = exit_codes.OK
    if code == exit_codes.INTERRUPTED:
        return code
    whole = follow_array(node, gang, output, as_json=as_json)
    return code or whole


def watch_array(
    node: Connection, array_id: str, progress: ProgressDisplay, *, as_json: bool
) -> dict[str, Any]:
    """Show the ends of an array's members until all have ended; return the array as it is then."""
    for event in node.events(f"/jobs/{array_id}/events"):
        if as_json:
            show_json({"event": event.data})
        for member in event.data["detail"]["ended"]:
            if member["phase"] != "done" or member["exit_code"]:
                progress.note(f"{member['index']}: {_end_of(member)}")
        progress.update(_progress_of(event.data["detail"]["array"]))
    ended: dict[str, Any] = node.get(f"/jobs/{array_id}")
    return ended


def show_end(array: dict[str, Any], progress: ProgressDisplay, *, as_json: bool) -> None:
    """Show how an array has ended."""
    if as_json:
        show_json({"job": array})
    progress.note(f"array {short_job(array['id'])}: {array['phase']}: {summary(array)}")


def fetch_array(
    node: Connection, array_id: str, folder: Path
) -> tuple[list[dict[str, Any]], list[str]]:
    """Write the outputs of each member that has ended below the folder, by index.

    Return what was fetched, and a line for each member whose outputs are lost.
    """
    fetched: list[dict[str, Any]] = []
    lost: list[str] = []
    for member in members_of(node, array_id):
        if member["phase"] != "done":
            continue
        index = str(member["index"])
        try:
            files = fetch_outputs(node, member["id"], folder / index)
        except CliError as failure:
            if failure.code != LOST:
                raise
            lost.append(f"{index}: {failure.detail}")
        else:
            fetched += [{**each, "path": f"{index}/{each['path']}"} for each in files]
    return fetched, lost


def require_all(lost: list[str]) -> None:
    """Raise CliError if outputs of members are lost."""
    if lost:
        raise CliError(LOST, f"outputs are lost: {_some(lost)}", "the others were written")


def show_array(array: dict[str, Any]) -> None:
    """Print an array: counts, cost, and the failures with their indices."""
    show_fields([
        ("gang" if array["gang"] else "array", array["id"]),
        ("name", array["name"] or None),
        ("phase", array["phase"]),
        ("jobs", f"{bar(array)} {summary(array)}"),
        ("at once", f"at most {array['max_running']}" if array["max_running"] else None),
        ("queue", place_in_words(array["queue"]) if array["queue"] else None),
        ("image", array["image"]),
        ("submitted", instant(array["submitted_ms"])),
        ("ended", instant(array["ended_ms"]) if array["ended_ms"] else None),
        ("cost", f"{array['cost']} credits in all" if array["cost"] else None),
        *(("failed", f"{_some(each['indices'])}: {each['why']}") for each in array["failures"]),
    ])  # fmt: skip


def show_members(members: list[dict[str, Any]], *, as_json: bool) -> None:
    """Print the members of an array, one per line."""
    if as_json:
        for member in members:
            show_json(member)
        return
    rows = [
        (each["index"], each["phase"], "-" if each["exit_code"] is None else each["exit_code"],
         each["why"] or "-")
        for each in members
    ]  # fmt: skip
    show_table(("INDEX", "PHASE", "EXIT", "WHY"), rows)


def require_array(view: dict[str, Any]) -> None:
    """Raise CliError if a job is no array."""
    if not is_array(view):
        raise CliError("conflict", f"{view['id'][:12]} is one job, not an array")


def _progress_of(array: dict[str, Any]) -> str:
    """Return how far an array is, and if nothing runs, what its first member waits for."""
    waits = array["queue"] and not array["running"]
    place = f"; next is {place_in_words(array['queue'])}" if waits else ""
    return f"{bar(array)} {summary(array)}{place}"


def _end_of(member: dict[str, Any]) -> str:
    if member["phase"] == "done":
        return f"exit code {member['exit_code']}"
    return plain(f"{member['phase']}: {member['why'] or member['reason']}")


def _some(items: Sequence[object]) -> str:
    shown = ", ".join(map(str, items[:INDICES_SHOWN]))
    more = len(items) - INDICES_SHOWN
    return f"{shown} and {more} more" if more > 0 else shown
