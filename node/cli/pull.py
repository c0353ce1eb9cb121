"""Pulls or builds an image through the node, with its progress on stderr.

Spec: specs/registries.md#command-line.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from node.cli.connection import Connection
from node.cli.draft import Draft
from node.cli.failure import CliError
from node.cli.output import say
from node.cli.progress import LiveLine, choose_progress
from node.cli.refusals import nearest_image
from node.cli.transfer_rate import share_of

DIGEST: Final = re.compile(r"(sha256:)?[0-9a-f]{12,64}")
"""A digest or the beginning of one: not a reference, though Docker allows such a name."""
WHEN: Final = ("missing", "always", "never")


def ready_image(
    node: Connection, draft: Draft, words: Mapping[str, str], *, as_json: bool
) -> Draft:
    """Pull the image of a job if it wants that; return the job without that wish."""
    when = draft.pull or WHEN[0]
    if when not in WHEN:
        raise CliError("invalid-request", f"{words['pull']}: give {', '.join(WHEN)}")
    if when == "never" or (when == "missing" and _is_here(node, draft.image)):
        return draft
    if DIGEST.fullmatch(draft.image):  # The node says that it does not have it.
        return replace(draft, pull="never")
    try:
        pull(node, draft.image, "", as_json=as_json)
    except CliError as failure:
        hint = failure.hint or nearest_image(node, draft.image)
        raise CliError(failure.code, failure.detail, hint) from None
    return replace(draft, pull=None)


def pull(
    node: Connection,
    reference: str,
    platform: str,
    *,
    as_json: bool,
    tell: Callable[[dict[str, Any]], None] | None = None,
) -> dict[str, Any]:
    """Pull an image and return its view; `tell` gets each line of the answer."""
    body = {"reference": reference, "platform": platform}
    display, name = choose_progress(as_json=as_json), reference
    try:
        for line in node.lines("/images/pull", body):
            if tell is not None:
                tell(line)
            if found := line.get("found"):
                name = found["reference"]
                display.note(f"{name} is sha256:{found['digest']} ({found['platform']})")
            elif (progress := line.get("progress")) and isinstance(display, LiveLine):
                display.update(f"pulling {name}: {share_of(progress['done'], progress['total'])}")
            if view := line.get("image"):
                return dict(view)
    finally:
        display.end()
    raise CliError("daemon-unavailable", "the daemon stopped", "pull again: it continues")


def build(
    node: Connection, body: dict[str, str], *, tell: Callable[[dict[str, Any]], None] | None
) -> dict[str, Any]:
    """Build an image and return its view; without `tell` its log goes to stderr."""
    for line in node.lines("/images/build", body):
        if tell is not None:
            tell(line)
        elif "log" in line:
            say(line["log"])
        if view := line.get("image"):
            return dict(view)
    raise CliError("daemon-unavailable", "the daemon stopped", "build again")


def _is_here(node: Connection, image: str) -> bool:
    """Return whether the node has an image."""
    try:
        node.get("/images/resolve", reference=image)
    except CliError as failure:
        if failure.code != "not-found":
            raise
        return False
    return True
