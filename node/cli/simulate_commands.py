"""The commands of the laboratory: they need no daemon, but the packages of the extra `lab`.

Spec: specs/simulation.md#command-line.
"""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from node.cli.failure import CliError
from node.cli.laboratory import in_laboratory, set_option, values_of
from node.cli.options import LINES, OBJECT, json_option
from node.cli.output import say, show_fields, show_json, show_table
from node.cli.simulation_progress import run_progress, sweep_progress
from node.cli.trace_commands import replay_trace

if TYPE_CHECKING:  # The laboratory's packages take a second to import.
    from node.simulator.results import RunResults
    from node.simulator.scenario import Scenario

FILE: Final = click.Path(exists=True, dir_okay=False, path_type=Path)
FOLDER: Final = click.Path(exists=True, file_okay=False, path_type=Path)
TEMPLATE: Final = """\
# What is simulated. `mutirao simulate list` shows all models and their parameters.
name = "{name}"
seed = 1                # Decides all chance: the same seed gives the same run, event by event.
tier = "flow"           # How faithful: "flow" computes gossip at once, "message" hop by hop,
                        # "stack" runs whole nodes, at most 200.
horizon = "10m"         # How much virtual time passes.
repetitions = 3         # Runs with other seeds: results get intervals.
nodes = 1000
requesters = 10         # Nodes that submit jobs and lend nothing.

[latency]
model = "regions"

[supply]
model = "mix"

[demand]
model = "poisson"
per_minute = 60
work = "1m"

[churn]
model = "weibull"
session = "1h"

# Each combination of these values is a point of a sweep.
[sweep]
nodes = [100, 1000]
"churn.session" = ["10m", "1h"]
"""


@click.group(invoke_without_command=True)
@click.pass_context
def simulate(context: click.Context) -> None:
    """Simulate networks of many nodes, with the code that the node runs.

    \b
    Example:
      mutirao simulate new churn.toml
      mutirao simulate run churn.toml
      mutirao simulate sweep churn.toml --jobs 2
      mutirao simulate plot churn.results
    """  # noqa: D301 - \b is click's mark for lines to be kept.
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


out_option = click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="The folder for the results; NAME.results by default.",
)


@simulate.command()
@click.argument("file", type=click.Path(path_type=Path))
@json_option(OBJECT)
@in_laboratory
def new(*, file: Path, as_json: bool) -> None:
    """Write an example of a scenario, with comments.

    Example: mutirao simulate new churn.toml
    """
    from node.simulator.scenario import Scenario

    text = TEMPLATE.format(name=file.stem.replace('"', "'"))
    Scenario.parse(text)
    try:
        with file.open("x") as opened:
            opened.write(text)
    except OSError as error:
        raise CliError("invalid-request", f"cannot write {file}: {error.strerror}") from None
    if as_json:
        show_json({"file": str(file)})
    else:
        say(f"{file} is written; run it with: mutirao simulate run {file}")


@simulate.command("list")
@json_option(LINES)
@in_laboratory
def list_models(*, as_json: bool) -> None:
    """List the models of a world, ours and those of installed packages, with their parameters.

    Example: mutirao simulate list
    """
    from node.simulator.world.models import catalogue

    rows = catalogue()
    if as_json:
        for row in rows:
            show_json(row)
        return
    for row in rows:
        click.echo(f'\n[{row["aspect"]}] model = "{row["model"]}": {row["text"]}')
        for each in row["parameters"]:
            click.echo(f"    {each['name']:<16}{each['default']!s:<12}{each['text']}")


@simulate.command()
@click.argument("file", type=FILE)
@set_option
@click.option("--repetition", type=click.IntRange(0), default=0, help="Which repetition to run.")
@out_option
@json_option(OBJECT)
@in_laboratory
def run(
    *, file: Path, changes: tuple[str, ...], repetition: int, out: Path | None, as_json: bool
) -> None:
    """Run a scenario once, and write its tables and its manifest.

    After Ctrl-C the results up to then are written.

    Example: mutirao simulate run churn.toml --set nodes=5000
    """
    from node.simulator.sweeps import tasks_at

    scenario = next(_scenario(file, changes).points())
    (task,) = tasks_at(scenario, [repetition], _folder(scenario, out))
    if not task.is_done():
        with run_progress(as_json=as_json) as progress:
            task.run(progress)
    results = _results(task.folder)
    if as_json:
        show_json({"folder": str(task.folder), **results.summary()})
    else:
        show_fields([(name, _shown(value)) for name, value in results.summary().items()])
        say(f"the tables are in {task.folder}")
    if not results.manifest["complete"]:
        raise CliError("interrupted", f"interrupted; {task.folder} has the results up to then")


@simulate.command()
@click.argument("file", type=FILE)
@set_option
@out_option
@click.option("--jobs", type=click.IntRange(1), help="Runs at a time; all processors by default.")
@click.option(
    "--backend", type=click.Choice(["processes", "dask", "ray"]), default="processes",
    help="What distributes the runs; Dask and Ray also over a cluster.",
)  # fmt: skip
@click.option("--address", default="", help="The address of a running Dask or Ray cluster.")
@json_option(OBJECT)
@in_laboratory
def sweep(  # noqa: PLR0913 - one parameter for each option.
    *, file: Path, changes: tuple[str, ...], out: Path | None, jobs: int | None, backend: str,
    address: str, as_json: bool,
) -> None:  # fmt: skip
    """Run every point of a scenario's sweep, and every repetition; those that are done stay.

    After Ctrl-C the same command goes on where it was.

    Example: mutirao simulate sweep churn.toml --jobs 2
    """
    from node.simulator.sweeps import sweep as run_all
    from node.simulator.sweeps import tasks_of

    scenario = _scenario(file, changes)
    folder = _folder(scenario, out)
    tasks = tasks_of(scenario, folder)
    missing = [task for task in tasks if not task.is_done()]
    count = min(jobs or os.cpu_count() or 1, max(1, len(missing)))
    with sweep_progress(len(tasks), len(tasks) - len(missing), as_json=as_json) as advance:
        for _ in run_all(missing, count, backend, address) if missing else ():
            advance()
    found = {"folder": str(folder), "runs": len(tasks), "run_now": len(missing)}
    if as_json:
        show_json(found)
    else:
        say(f"{len(tasks)} runs are in {folder}; see them with: mutirao simulate plot {folder}")


@simulate.command()
@click.argument("folder", type=FOLDER)
@json_option(OBJECT)
@in_laboratory
def replay(*, folder: Path, as_json: bool) -> None:
    """Run again what a folder of results says, and compare every event by the digest.

    The exit code is 0 if both runs did the same.

    Example: mutirao simulate replay churn.results/0a1b2c3d4e5f/0
    """
    from node.simulator.manifest import manifest_of
    from node.simulator.runs import simulate as run_once
    from node.simulator.scenario import Scenario
    from node.simulator.simulation import STACK

    manifest = _results(folder).manifest
    if not manifest["complete"]:
        raise CliError("conflict", f"{folder} is of a run that was interrupted: run it again")
    scenario = Scenario.of(json.loads(manifest["scenario"]))
    with run_progress(as_json=as_json) as progress:
        _, done = run_once(scenario, manifest["repetition"], progress)
    again = manifest_of(done)
    same = again["digest"] == manifest["digest"]
    if as_json:
        show_json({"same": same, "digest": manifest["digest"], "again": again["digest"]})
    else:
        show_fields([("digest", manifest["digest"]), ("again", again["digest"])])
    if not same:
        differing = [
            f"{key} {manifest[key]} and {again[key]}"
            for key in ("code", "python", "numpy") if manifest[key] != again[key]
        ]  # fmt: skip
        alike = "the versions are the same: please report it"
        if manifest["tier"] == STACK:
            alike = f"in the tier {STACK} threads take part: its runs repeat nearly, not always"
        why = "; ".join(differing) or alike
        raise CliError("not-replayed", "the two runs differ", why)


@simulate.command()
@click.argument("file", type=FILE)
@set_option
@click.option("--repetition", type=click.IntRange(0), default=0, help="Which repetition to run.")
@click.option(
    "--tiers", default="flow,message", show_default=True,
    help="Which tiers, with commas: flow, message, stack.",
)  # fmt: skip
@json_option(OBJECT)
@in_laboratory
def compare(
    *, file: Path, changes: tuple[str, ...], repetition: int, tiers: str, as_json: bool
) -> None:
    """Run a scenario in some tiers, on the same world, and show where they differ.

    The last column compares the last tier with the first. With stack all tiers use real keys.

    Example: mutirao simulate compare churn.toml --tiers message,stack --set nodes=20
    """
    from node.simulator.runs import simulate as run_once
    from node.simulator.simulation import STACK

    chosen = [tier.strip() for tier in tiers.split(",")]
    keys = ("crypto=true",) if STACK in chosen else ()
    scenarios = [
        next(_scenario(file, (*changes, f"tier={tier}", *keys)).points()) for tier in chosen
    ]
    found = {}
    for tier, scenario in zip(chosen, scenarios, strict=True):
        with run_progress(as_json=as_json) as progress:
            tables, _ = run_once(scenario, repetition, progress)
        found[tier] = {name: values[0] for name, values in tables["summary"].items()}
    if as_json:
        show_json(found)
        return
    rows = []
    for name in found[chosen[0]]:
        values = [found[tier][name] for tier in chosen]
        rows.append((name, *map(_shown, values), _difference(values[0], values[-1])))
    show_table(("metric", *chosen, "difference"), rows)


@simulate.command()
@click.argument("folder", type=FOLDER)
@click.option("--figure", "figures", multiple=True, help="One of the figures; all by default.")
@click.option(
    "--format",
    "formats",
    type=click.Choice(["png", "svg"]),
    multiple=True,
    default=("png", "svg"),
    help="The kind of files; both by default.",
)
@out_option
@json_option(LINES)
@in_laboratory
def plot(
    *,
    folder: Path,
    figures: tuple[str, ...],
    formats: tuple[str, ...],
    out: Path | None,
    as_json: bool,
) -> None:
    """Draw the standard figures of all runs below a folder.

    Example: mutirao simulate plot churn.results --figure award-time
    """
    from node.simulator import plots
    from node.simulator.sweeps import load_all

    results = load_all(folder)
    target = out or folder / "figures"
    target.mkdir(parents=True, exist_ok=True)
    for name in figures or plots.figures():
        for kind in formats:
            path = target / f"{name}.{kind}"
            plots.plot(results, name, path)
            if as_json:
                show_json({"figure": name, "file": str(path)})
            else:
                click.echo(path)


def _scenario(file: Path, changes: tuple[str, ...]) -> "Scenario":
    """Return the scenario in a file, with the changes of the command line."""
    from node.simulator.scenario import Scenario

    return Scenario.read(file).changed(values_of(changes))


def _folder(scenario: "Scenario", out: Path | None) -> Path:
    return out or Path(f"{scenario.settings.name.replace('/', '-')}.results")


def _results(folder: Path) -> "RunResults":
    from node.simulator.results import load

    return load(folder)


def _shown(value: Any) -> Any:
    return f"{value:.4g}" if isinstance(value, float) else value


def _difference(one: Any, other: Any) -> str:
    if one == other:
        return "none"
    if isinstance(one, int | float) and isinstance(other, int | float) and one:
        return f"{100 * (other - one) / one:+.1f} %"
    return "differs"


simulate.add_command(replay_trace)
COMMANDS: Final = {"simulate": simulate}
