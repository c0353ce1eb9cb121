"""How auctions scale from a hundred to a million nodes, with the lottery and without it.

Why: nobody knows what it costs a market without a coordinator to ask only a few of its nodes. The
runs are in a folder, so the study goes on where it was, and anybody can draw other figures.
Spec: specs/validation.md#study.
"""

import argparse
import statistics
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any, Final

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from node.simulator import Scenario, sweep, tasks_of
from node.simulator.sweeps import Task, load_all
from scripts.devnet import show_json

ROOT: Final = Path(__file__).resolve().parent.parent
FIGURE: Final = ROOT / "specs/figures/scale.svg"
CROWD: Final = "adversaries.crowd.share_percent"
CROWD_SIZES: Final = [100, 1_000, 10_000]
"""Each of its calls gives work to every node: more is too slow."""
PANELS: Final = {
    "award_ms_p50": "time to award, median (ms)",
    "messages_per_job": "messages over streams, per job",
    "price_over_optimum": "price over the lowest cost of any free node",
    "retries_per_job": "attempts that failed, per job",
}
METRICS: Final = (*PANELS, "unserved")
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
    """Return the summaries of all runs, by series and number of nodes."""
    found: Found = defaultdict(lambda: defaultdict(list))
    for run in load_all(folder):
        summary, axes = run.summary(), run.parameters
        bounded = CROWD not in run.manifest["scenario"]
        session = axes.get("churn.session", "")
        found[bounded, session][summary["nodes"]].append(summary)
    return found


def means(found: Found) -> list[dict[str, Any]]:
    """Return the means of each point as a row."""
    return [
        {"lottery": bounded, "session": session, "nodes": nodes, **{
            name: round(statistics.mean(run[name] for run in runs), 3) for name in METRICS
        }}
        for (bounded, session), sizes in sorted(found.items())
        for nodes, runs in sorted(sizes.items())
    ]  # fmt: skip


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
        middles = [statistics.mean(run[name] for run in runs) for _, runs in points]
        style = {"color": f"C{color}", "linestyle": "-" if bounded else "--"}
        axes.plot([size for size, _ in points], middles, label=label, **style)
        dots = [(size, run[name]) for size, runs in points for run in runs]
        axes.scatter(*zip(*dots, strict=True), s=9, color=f"C{color}")
    axes.set_xscale("log")
    axes.set_yscale("log" if name == "messages_per_job" else "linear")
    if name != "messages_per_job":
        axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)


if __name__ == "__main__":
    sys.exit(main())
