"""The command simulate replay-trace: what a live node recorded, run in the laboratory.

Spec: specs/trace.md#replay.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from node.cli.failure import CliError
from node.cli.laboratory import in_laboratory, set_option, values_of
from node.cli.options import OBJECT, json_option
from node.cli.output import say, show_fields, show_json, show_table
from node.cli.simulation_progress import run_progress

if TYPE_CHECKING:  # The laboratory's packages take a second to import.
    from node.simulator.trace_replay import Measure, Replayed

NAMES: Final = {
    "award_ms": "time to award (ms)", "start_ms": "time to start (ms)",
    "end_ms": "end to end (ms)", "rate": "rate (nano-credits/s)",
}  # fmt: skip


@click.command("replay-trace")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--tier", default="flow", help="How faithful: flow (default) or message.")
@click.option(
    "--processing", "processing_ms", type=click.FloatRange(0, 10_000), metavar="MS",
    help="How long a node is busy with each message; by default it is fitted to the times to award "
    "of the first half of the jobs, and the other half is compared.",
)  # fmt: skip
@set_option
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="DIR",
    help="Write the tables of the run into this folder, which must not exist.",
)  # fmt: skip
@json_option(OBJECT)
@in_laboratory
def replay_trace(  # noqa: PLR0913 - one parameter for each option.
    *, file: Path, tier: str, processing_ms: float | None, changes: tuple[str, ...],
    out: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Run what `mutirao record` wrote, and show where simulated times differ from recorded ones.

    The nodes of the trace lend what they lent, at their prices and distances, and its jobs come at
    their times.

    Example: mutirao simulate replay-trace trace.jsonl
    """
    from node.simulator.results import write
    from node.simulator.trace_replay import replay_trace as replayed_of

    if out is not None and out.exists():
        raise CliError("conflict", f"{out} exists: a run is never overwritten")
    processing_us = None if processing_ms is None else round(1000 * processing_ms)
    with run_progress(as_json=as_json) as progress:
        values = {"tier": tier, **values_of(changes)}
        replayed = replayed_of(file, values, processing_us, progress)
    if out is not None:
        write(out, replayed.tables, replayed.run)
    if as_json:
        show_json({"folder": None if out is None else str(out), **replayed.summary()})
    else:
        _show(replayed)
        if out is not None:
            say(f"the tables are in {out}")
    if not replayed.run.complete:
        raise CliError("interrupted", "interrupted: what is shown is up to then")


def _show(replayed: "Replayed") -> None:
    how = f", fitted to the first {replayed.fitted} jobs" if replayed.fitted else ""
    shares = replayed.done_recorded, replayed.done_simulated
    recorded, simulated = (f"{100 * share:.0f} %" for share in shares)
    show_fields([
        ("processing", f"{replayed.processing_us / 1000:g} ms{how}"),
        ("compared", f"{replayed.jobs} jobs"),
        ("done", f"{recorded} recorded, {simulated} simulated"),
    ])  # fmt: skip
    click.echo()
    head = ("", "jobs", *(f"{name} {world}" for name in ("median", "p90")
                          for world in ("recorded", "simulated", "difference")))  # fmt: skip
    show_table(head, [_row(measure) for measure in replayed.measures])


def _row(measure: "Measure") -> Sequence[Any]:
    cells: list[Any] = [NAMES[measure.name], measure.jobs]
    triples = zip(measure.recorded, measure.simulated, measure.difference_percent, strict=True)
    for recorded, simulated, percent in triples:
        differs = "-" if percent is None else f"{percent:+.0f} %"
        cells += [f"{recorded:.0f}", f"{simulated:.0f}", differs]
    return cells
