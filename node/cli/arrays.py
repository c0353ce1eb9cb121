"""Arrays of jobs on the command line: their progress, their state in words, their outputs.

Spec: specs/arrays.md.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from node.cli import exit_codes
from node.cli.connection import Connection
from node.cli.failure import CliError
from node.cli.fetch import fetch_outputs
from node.cli.output import instant, plain, say, show_fields, show_json, show_table
from node.cli.places import place_in_words

Tell = Callable[[str], None]
STATES: Final = ("done", "failed", "running", "waiting", "cancelled")
BAR: Final = 20
"""The characters of a progress bar."""
PAGE: Final = 500
INDICES_SHOWN: Final = 20


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

    Returns 0 if each exited with 0, else 1. Ctrl-C cancels the whole.
    """
    path = f"/jobs/{array['id']}"
    tell: Tell = _ignore if as_json else say
    tell(f"array {array['id']}: {array['size']} jobs")
    try:
        for event in node.events(f"{path}/events"):
            if as_json:
                show_json({"event": event.data})
            for line in _lines_of(event.data["detail"]):
                tell(line)
    except KeyboardInterrupt:
        ended = node.post(f"{path}/cancel")
        tell(f"array {array['id']}: cancelling; {summary(ended)}")
        return exit_codes.INTERRUPTED
    ended = node.get(path)
    if as_json:
        show_json({"job": ended})
    if output is not None:
        tell(f"{len(fetch_array(node, array['id'], output))} files written to {output}")
    if ended["done"] == ended["size"]:
        return exit_codes.OK
    tell(f"`mutirao retry {array['id']}` runs again what has failed")
    return exit_codes.FAILURE


def fetch_array(node: Connection, array_id: str, folder: Path) -> list[dict[str, Any]]:
    """Write the outputs of each member that has ended below the folder, by index."""
    fetched: list[dict[str, Any]] = []
    for member in members_of(node, array_id):
        if member["phase"] != "done":
            continue
        index = str(member["index"])
        files = fetch_outputs(node, member["id"], folder / index)
        fetched += [{**each, "path": f"{index}/{each['path']}"} for each in files]
    return fetched


def show_array(array: dict[str, Any]) -> None:
    """Print an array: counts, cost, and the failures with their indices."""
    show_fields([
        ("array", array["id"]),
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


def _ignore(_: str) -> None:
    """Print nothing: programs read stdout only."""


def _lines_of(detail: dict[str, Any]) -> list[str]:
    """Return the failures that an event of an array tells, and the progress."""
    array = detail["array"]
    failed = [each for each in detail["ended"] if each["phase"] != "done" or each["exit_code"]]
    lines = [f"{each['index']}: {_end_of(each)}" for each in failed]
    return [*lines, f"{bar(array)} {summary(array)}"]


def _end_of(member: dict[str, Any]) -> str:
    if member["phase"] == "done":
        return f"exit code {member['exit_code']}"
    return plain(f"{member['phase']}: {member['why'] or member['reason']}")


def _some(indices: list[int]) -> str:
    shown = ", ".join(map(str, indices[:INDICES_SHOWN]))
    more = len(indices) - INDICES_SHOWN
    return f"{shown} and {more} more" if more > 0 else shown
