"""The command record: an anonymised trace of what a running node saw, for the laboratory.

Spec: specs/trace.md#recording.
"""

import json
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final

import click

from node.cli.connection import Connection
from node.cli.failure import CliError
from node.cli.options import OBJECT, reaches_node
from node.cli.output import say, show_json
from node.cli.quantities import Duration

KINDS: Final = {
    "job": "jobs", "event": "events", "offer": "offers", "round-trip": "round_trips",
    "answer": "answers",
}  # fmt: skip


@click.command()
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), default=Path("trace.jsonl"),
    metavar="FILE", help="The file to write, which must not exist; trace.jsonl by default.",
)  # fmt: skip
@click.option(
    "--since", "since_ms", type=Duration(), metavar="DURATION",
    help="Begin with the jobs submitted so long ago, such as 2h; by default with the first that "
    "the node remembers, and with --for, now.",
)  # fmt: skip
@click.option(
    "--for", "follow_ms", type=Duration(), metavar="DURATION",
    help="Go on recording for so long, or until Ctrl-C; by default, only what is past.",
)  # fmt: skip
@reaches_node(OBJECT)
def record(
    *, out: Path, since_ms: int | None, follow_ms: int | None, node: Connection, as_json: bool
) -> None:
    """Write a trace of what this node saw: its jobs, offers, round trips, calls it answered.

    It names nobody: numbers stand for peers and images, and it has no addresses, commands or names.

    Example: mutirao record --for 1h --out monday.jsonl
    """
    query = {"since_ms": None if since_ms is None else now_ms() - since_ms, "follow_ms": follow_ms}
    lines = _lines(node.download("/trace", None, **query))
    first = next(lines, b"")  # Whoever cannot be asked leaves no file behind.
    counts: Counter[str] = Counter()
    with _created(out) as file:
        try:
            _write(file, first, counts)
            for line in lines:
                _write(file, line, counts)
        except KeyboardInterrupt:
            if follow_ms is None:
                raise CliError("interrupted", f"interrupted; {out} has a part of it") from None
        except CliError as error:
            raise CliError(error.code, f"{error.detail}; {out} has a part of it") from None
    told: dict[str, Any] = {name: counts[kind] for kind, name in KINDS.items()}
    if as_json:
        show_json({"file": str(out), **told})
    else:
        said = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in told.items())
        say(f"{out} has {said}; run it with: mutirao simulate replay-trace {out}")


def now_ms() -> int:
    """Return the time in Unix milliseconds."""
    return time.time_ns() // 10**6


def _lines(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Yield whole lines with their ends: one that is cut off would not be JSON."""
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        yield from (line + b"\n" for line in whole)


def _created(out: Path) -> BinaryIO:
    try:
        return out.open("xb", buffering=0)  # What is recorded survives us.
    except OSError as error:
        raise CliError("invalid-request", f"cannot write {out}: {error.strerror}") from None


def _write(file: BinaryIO, line: bytes, counts: Counter[str]) -> None:
    file.write(line)
    counts[json.loads(line)["kind"]] += 1


COMMANDS: Final = {"record": record}
