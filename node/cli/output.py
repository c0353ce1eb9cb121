"""How commands print: data on stdout, messages on stderr, JSON for programs.

Text from other nodes is printed without control characters: a peer must not control our user's
terminal.
Spec: specs/rpc.md#command-line.
"""

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import click

from protocol.values.units import size_of_mib


def say(line: str) -> None:
    """Print a message for a person, on stderr."""
    click.echo(plain(line), err=True)


def show_json(value: Any) -> None:
    """Print one object on one line of stdout."""
    click.echo(json.dumps(value, ensure_ascii=False))


def show_fields(fields: Iterable[tuple[str, Any]]) -> None:
    """Print names and values, one per line; None is left out."""
    given = [(name, value) for name, value in fields if value is not None]
    width = max((len(name) for name, _ in given), default=0)
    for name, value in given:
        click.echo(f"{name:<{width}}  {plain(str(value))}")


def show_table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print a table on stdout, with columns as wide as their content."""
    lines = [[plain(str(cell)) for cell in row] for row in (head, *rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        click.echo("  ".join(cells).rstrip())


def plain(text: str) -> str:
    """Return the text on one line, with '?' for each control character."""
    return "".join(c if c.isprintable() else "?" for c in text)


def short_peer(peer: str | None) -> str:
    """Return the end of a peer id, which distinguishes peers; all begin alike."""
    return f"…{peer[-8:]}" if peer else "-"


def short_job(job_id: str) -> str:
    """Return the beginning of a job's id, which identifies it and which commands accept."""
    return job_id[:12]


def duration(milliseconds: int | None) -> str:
    """Return a duration for people, such as "2.5 s" or "3 h 20 min"."""
    if milliseconds is None:
        return "-"
    if milliseconds < 1000:
        return f"{milliseconds} ms"
    if milliseconds < 60_000:
        return f"{milliseconds / 1000:.1f} s"
    minutes = milliseconds // 60_000
    if minutes < 60:
        return f"{minutes} min {milliseconds % 60_000 // 1000} s"
    return f"{minutes // 60} h {minutes % 60} min"


def bytes_of(count: int) -> str:
    """Return a number of bytes for people, such as "300 B" or "2.5 MiB"."""
    for power, unit in ((30, "GiB"), (20, "MiB"), (10, "KiB")):
        if count >= 2**power:
            return f"{count / 2**power:.1f} {unit}"
    return f"{count} B"


def amount_of(resources: dict[str, Any]) -> str:
    """Return the processors and the memory of a node or a job."""
    cpus = resources["cpus"]
    return f"{cpus} {'cpu' if cpus == 1 else 'cpus'}, {size_of_mib(resources['memory_mib'])}"


def gpus_of(gpu: dict[str, Any]) -> str:
    """Return GPUs of one kind."""
    return f"{gpu['count']} x {gpu['gpu_class']} ({size_of_mib(gpu['vram_mib'])})"


def instant(unix_ms: int | None) -> str:
    """Return an instant in UTC, to the second."""
    if unix_ms is None:
        return "-"
    return datetime.fromtimestamp(unix_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
