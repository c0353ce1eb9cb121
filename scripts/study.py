"""How auctions scale from a hundred to a million nodes, with the lottery and without it.

Why: nobody knows what it costs a market without a coordinator to ask only a few of its nodes. The
runs are in a folder, so the study goes on where it was, and anybody can draw other figures.
Spec: specs/validation.md#study.
"""

import argparse
import math
import statistics
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any, Final

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from node.simulator import RunResults, Scenario, sweep, tasks_of
from node.simulator.metrics import percentile, ratio
from node.simulator.sweeps import Task, load_all
from scripts.devnet import show_json

ROOT: Final = Path(__file__).resolve().parent.parent
FIGURE: Final = ROOT / "specs/figures/scale.svg"
CROWD: Final = "adversaries.crowd.share_percent"
CROWD_SIZES: Final = [100, 300, 1_000, 3_000, 10_000]
"""Each of its calls gives work to every node: more is too slow."""
PANELS: Final = {
    "call_to_award_ms": "time to award of jobs with a call, median (ms)",
    "price_over_optimum": "price over the lowest cost of any free node",
    "unserved_of_ended": "unserved share of the jobs that ended",
    "messages_per_job": "messages over streams, per job",
}
LOGARITHMIC: Final = frozenset({"call_to_award_ms", "messages_per_job"})
METRICS: Final = (*PANELS, "retries_per_job")
Series = tuple[bool, str]
"""Whether there is a lottery, and the scale of sessions."""
Found = dict[Series, dict[int, list[dict[str, Any]]]]


def main() -> int:
    """Run what is missing, draw the figure, and print the means."""
    parser = argparse.ArgumentParser(prog="scripts/study", description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=ROOT / ".cache/study", help="for the runs")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time; each needs 5 GB")
    parser.add_argument("--figure", type=Path, default=FIGURE, help="an SVG or PNG file")
    parser.add_argument("--json", action="store_true", help="print JSON for programs")
    asked = parser.parse_args()
    missing = [task for task in tasks(asked.folder) if not task.is_done()]
    for done, _ in enumerate(sweep(missing, asked.jobs) if missing else (), 1):
        if sys.stderr.isatty():
            print(f"\r{done} of {len(missing)} runs", end="", file=sys.stderr, flush=True)
    found = read(asked.folder)
    draw(found, asked.figure)
    rows = list(means(found))
    if asked.json:
        show_json(rows)
    else:
        for row in rows:
            print("  ".join(f"{value:<10}" for value in row.values()))
    return 0


def tasks(folder: Path) -> list[Task]:
    """Return all runs of the study."""
    scenario = Scenario.read(ROOT / "scripts/study.toml")
    crowd = scenario.changed({CROWD: 100, "sweep.nodes": CROWD_SIZES})
    return tasks_of(scenario, folder) + tasks_of(crowd, folder)


def read(folder: Path) -> Found:
    """Return what was measured in all runs, by series and number of nodes."""
    found: Found = defaultdict(lambda: defaultdict(list))
    for run in load_all(folder):
        measured, axes = measure(run), run.parameters
        bounded = CROWD not in run.manifest["scenario"]
        session = axes.get("churn.session", "")
        found[bounded, session][measured["nodes"]].append(measured)
    return found


def measure(run: RunResults) -> dict[str, Any]:
    """Return the summary of a run, and two metrics of this study.

    A user's next job often takes a slot that an earlier auction has won, at once: the time to the
    award is that of jobs that had a call. Jobs that are open at the end count neither way.
    """
    summary, jobs = run.summary(), run.columns("jobs")
    is_called = [announced is not None for announced in jobs["announced_ms"]]
    ends = zip(is_called, jobs["submitted_ms"], jobs["awarded_ms"], strict=True)
    waited = [end - start for called, start, end in ends if called and end is not None]
    ended = summary["unserved"] + summary["served"]
    return summary | {
        "call_to_award_ms": percentile(waited, 50),
        "unserved_of_ended": ratio(summary["unserved"], ended),
    }


def means(found: Found) -> list[dict[str, Any]]:
    """Return the means of each point as a row."""
    return [
        {"lottery": bounded, "session": session, "nodes": nodes, **{
            name: round(mean_of(runs, name), 3) for name in METRICS
        }}
        for (bounded, session), sizes in sorted(found.items())
        for nodes, runs in sorted(sizes.items())
    ]  # fmt: skip


def mean_of(runs: list[dict[str, Any]], name: str) -> float:
    """Return the mean over the runs that have a metric: where all jobs fail there is no price."""
    return statistics.mean(known_of(runs, name) or [math.nan])


def known_of(runs: list[dict[str, Any]], name: str) -> list[float]:
    return [run[name] for run in runs if run[name] is not None]


def draw(found: Found, path: Path) -> None:
    """Draw the figure, a panel for each metric: the mean of each point, and each run as a dot."""
    with rc_context({"svg.hashsalt": "mutirao", "font.size": 9}):
        figure = Figure(figsize=(9, 6.5), layout="constrained")
        for axes, (name, title) in zip(figure.subplots(2, 2).flat, PANELS.items(), strict=True):
            draw_panel(axes, found, name)
            axes.set_title(title)
            axes.set_xlabel("nodes")
        figure.axes[0].legend()
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def draw_panel(axes: Axes, found: Found, name: str) -> None:
    """Draw one metric of all series."""
    for color, ((bounded, session), sizes) in enumerate(sorted(found.items(), reverse=True)):
        points = sorted(sizes.items())
        label = f"{'lottery' if bounded else 'everybody'}, sessions of {session}"
        middles = [mean_of(runs, name) for _, runs in points]
        style = {"color": f"C{color}", "linestyle": "-" if bounded else "--"}
        axes.plot([size for size, _ in points], middles, label=label, **style)
        dots = [(size, value) for size, runs in points for value in known_of(runs, name)]
        axes.scatter(*zip(*dots, strict=True), s=9, color=f"C{color}")
    axes.set_xscale("log")
    axes.set_yscale("log" if name in LOGARITHMIC else "linear")
    if name not in LOGARITHMIC:
        axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)


if __name__ == "__main__":
    sys.exit(main())
