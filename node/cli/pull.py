"""Pulls an image through the node, with its progress on stderr.

Spec: specs/registries.md#command-line.
"""

import sys
from typing import Any

from node.cli.connection import Connection
from node.cli.failure import CliError
from node.cli.output import say, show_json
from node.cli.progress import choose_progress


def pull(node: Connection, reference: str, platform: str, *, as_json: bool) -> dict[str, Any]:
    """Pull an image and return its view; for programs, each line of the answer goes to stdout."""
    body = {"reference": reference, "platform": platform}
    display, name = choose_progress(as_json=as_json), reference
    try:
        for line in node.lines("/images/pull", body):
            if as_json:
                show_json(line)
            elif found := line.get("found"):
                name = found["reference"]
                say(f"{name} is sha256:{found['digest']} ({found['platform']})")
            elif (progress := line.get("progress")) and sys.stderr.isatty():
                display.update(f"pulling {name}: {_share(progress)}")
            if view := line.get("image"):
                return dict(view)
    finally:
        display.end()
    raise CliError("daemon-unavailable", "the daemon stopped", "pull again: it continues")


def _share(progress: dict[str, int]) -> str:
    done, total = progress["done"], max(1, progress["total"])
    return f"{100 * done // total} % of {total / 2**20:,.1f} MiB"
