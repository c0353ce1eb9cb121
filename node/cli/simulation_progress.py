"""Shows how far a simulation is: a bar on a terminal, nothing elsewhere.

Spec: specs/simulation.md#command-line.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


@contextmanager
def run_progress(*, as_json: bool) -> Iterator[Callable[[int, int], None]]:
    """Show virtual time against real time, as long as a run lasts."""
    if as_json or not sys.stderr.isatty():
        yield lambda *_: None
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = BarColumn(), TextColumn("{task.description}"), TimeRemainingColumn()
    with Progress(*columns, console=_stderr(), transient=True) as bar:
        task, began_s = bar.add_task("starting"), time.monotonic()

        def show(done_ms: int, all_ms: int) -> None:
            factor = done_ms / 1000 / max(0.001, time.monotonic() - began_s)
            text = f"{done_ms / 1000:.0f} of {all_ms / 1000:.0f} virtual seconds"
            text += f", {factor:.0f} x real time"
            bar.update(task, completed=done_ms, total=all_ms, description=text)

        yield show


@contextmanager
def sweep_progress(runs: int, done: int, *, as_json: bool) -> Iterator[Callable[[], None]]:
    """Show how many runs of a sweep are done."""
    if as_json or not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=_stderr(), transient=True) as bar:
        task = bar.add_task("", total=runs, completed=done)
        yield lambda: bar.advance(task)


def _stderr() -> "Console":
    from rich.console import Console

    return Console(stderr=True)
