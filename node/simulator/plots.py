"""The standard figures of one run, of repetitions, or of a sweep.

Runs that differ in their seed alone are repetitions: a figure shows their mean, and the interval
that Student's t gives over seeds. Figures are objects; nothing global changes, no window opens.
Spec: specs/simulation-results.md#plots.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.stats import t as student

from node.simulator.metrics import gini, jain, lorenz, provided, times
from node.simulator.results import RunResults, whole
from protocol.values.errors import InvalidRequest
from protocol.values.quantities import ms_of

CONFIDENCE: Final = 0.95
SHARES: Final = np.linspace(0, 1, 201)
"""Where curves of several runs are compared."""
POINTS_MAX: Final = 5_000
STEPS_OF_JOBS: Final = {"awarded_ms": "-", "running_ms": "--"}
DECADES: Final = 30
"""An axis is logarithmic if its largest value is so many times its smallest."""
FORMATS: Final = {".png": {"Software": None}, ".svg": {"Date": None}}
"""The endings that a figure may have, and the metadata that is left out."""
STYLE: Final[dict[Any, Any]] = {
    "svg.hashsalt": "mutirao", "svg.fonttype": "path", "axes.grid": True, "grid.alpha": 0.3,
    "savefig.dpi": 144,
}  # fmt: skip
Reals = NDArray[np.float64]
Draw = Callable[[Axes, "Sample"], None]


@dataclass(frozen=True, slots=True)
class Repetitions:
    """Runs that differ in their seed alone."""

    place: Any
    """Where they stand on the axis."""
    series: str
    """Where they stand in all else that differs; empty if nothing does."""
    runs: list[RunResults]


@dataclass(frozen=True, slots=True)
class Sample:
    """The runs of a figure."""

    axis: str
    """The parameter along which they are drawn; empty if they differ in none."""
    groups: list[Repetitions]

    @property
    def runs(self) -> list[RunResults]:
        return [run for group in self.groups for run in group.runs]

    def label(self, group: Repetitions, what: str) -> str:
        """Return what a legend says of one curve of a group."""
        place = f"{self.axis} = {group.place}" if self.axis else ""
        return ", ".join(filter(None, (place, group.series, what)))


@dataclass(frozen=True, slots=True)
class _Kind:
    """One standard figure."""

    title: str
    draw: Draw


class StandardFigure(Figure):
    """A figure that a notebook shows by itself."""

    def _repr_png_(self) -> bytes:
        shown = BytesIO()
        with mpl.rc_context(STYLE):
            self.savefig(shown, format="png", metadata=FORMATS[".png"])
        return shown.getvalue()


def figures() -> list[str]:
    """Return the names of the standard figures."""
    return list(KINDS)


def plot(results: Sequence[RunResults], name: str, path: Path) -> None:
    """Draw a standard figure of runs into a PNG or SVG file.

    InvalidRequest if there are no runs, no such figure or no such format; StorageFull and
    Unavailable as `whole`.
    """
    if path.suffix not in FORMATS:
        raise InvalidRequest(f"{path}: a figure is {' or '.join(FORMATS)}")
    drawn = figure(results, name)
    with mpl.rc_context(STYLE), whole(path) as partial:
        drawn.savefig(partial, format=path.suffix[1:], metadata=FORMATS[path.suffix])


def figure(results: Sequence[RunResults], name: str) -> StandardFigure:
    """Return a standard figure of runs; errors as `plot`."""
    if name not in KINDS:
        raise InvalidRequest(f"there is no figure {name}: {', '.join(KINDS)}")
    if not results:
        raise InvalidRequest("there is no run to draw")
    kind, sample = KINDS[name], sample_of(results)
    with mpl.rc_context(STYLE):
        drawn = StandardFigure(figsize=(6.4, 4.0), layout="constrained")
        axes = drawn.add_subplot()
        kind.draw(axes, sample)
        axes.set_title(f"{kind.title} ({_counted(sample)})", fontsize="medium")
        if axes.get_legend_handles_labels()[1]:
            axes.legend(fontsize="small")
    return drawn


def sample_of(results: Sequence[RunResults]) -> Sample:
    """Sort runs by the parameters in which they differ; the one with most values is the axis."""
    keys = {key: None for run in results for key in run.parameters}
    values = {key: list(dict.fromkeys(str(_said(run, key)) for run in results)) for key in keys}
    varied = sorted(
        (key for key in keys if len(values[key]) > 1), key=lambda key: -len(values[key])
    )
    axis, others = (varied[0] if varied else ""), varied[1:]
    groups: dict[tuple[str, str], Repetitions] = {}
    for run in results:
        place = _said(run, axis) if axis else ""
        series = ", ".join(f"{key} = {_said(run, key)}" for key in others)
        group = groups.setdefault((series, str(place)), Repetitions(place, series, []))
        group.runs.append(run)
    ordered = sorted(groups.values(), key=lambda group: (group.series, _position(group.place)))
    return Sample(axis, ordered)


def _said(run: RunResults, key: str) -> Any:
    """Return what the scenario of a run says; a model's default if it says nothing."""
    return run.parameters.get(key, "default")


def _position(place: Any) -> tuple[int, float, str]:
    """Return where a value stands among others: numbers, durations by length, then texts."""
    if isinstance(place, int | float) and not isinstance(place, bool):
        return 0, place, ""
    try:
        return 1, ms_of(str(place)), ""
    except ValueError:
        return 2, 0, str(place)


def interval(samples: Sequence[Reals] | Reals) -> tuple[Reals, Reals]:
    """Return the mean over runs, and the half-width of its confidence interval; 0 of one run.

    Student's t with n - 1 degrees of freedom: runs are independent, their seeds differ.
    """
    values = np.asarray(samples, np.float64)
    middle: Reals = values.mean(axis=0)
    count = len(values)
    if count < 2:
        return middle, np.zeros_like(middle)
    quantile = student.ppf((1 + CONFIDENCE) / 2, count - 1)
    return middle, quantile * values.std(axis=0, ddof=1) / np.sqrt(count)


# --- curves ---------------------------------------------------------------------------------


def _award_cdf(axes: Axes, sample: Sample) -> None:
    """Draw shares of all jobs: those that get nowhere keep the curves below 1."""
    jobs = [[run.columns("jobs") for run in group.runs] for group in sample.groups]
    ends = [times(each, until) for tables in jobs for each in tables for until in STEPS_OF_JOBS]
    instants = np.concatenate([[0.0], np.geomspace(1, max(10, *map(max, filter(None, ends))), 400)])
    for group, tables in zip(sample.groups, jobs, strict=True):
        for until, style in STEPS_OF_JOBS.items():
            curves = [_shares(times(each, until), len(each["job"]), instants) for each in tables]
            label = sample.label(group, until.removesuffix("_ms"))
            _band(axes, (instants / 1000, *interval(curves)), style, label)
    axes.set_xscale("symlog", linthresh=0.01)
    axes.set(xlabel="time since submission, s", ylabel="share of jobs", ylim=(0, 1.02))


def _shares(took: Sequence[int], jobs: int, instants: Reals) -> Reals:
    """Return which share of so many jobs took no longer than each instant."""
    return np.searchsorted(np.sort(took), instants, side="right") / max(1, jobs)


def _band(axes: Axes, curve: tuple[Reals, Reals, Reals], style: str, label: str) -> None:
    """Draw a curve with its interval: places, means and half-widths."""
    places, middle, half = curve
    (line,) = axes.plot(places, middle, style, label=label)
    if half.any():
        axes.fill_between(places, middle - half, middle + half, color=line.get_color(), alpha=0.2)


def _fairness(axes: Axes, sample: Sample) -> None:
    for group in sample.groups:
        earned = [provided(run.columns("nodes"), "earned") for run in group.runs]
        earned = [each for each in earned if sum(each)]
        if not earned:
            continue
        curves = [np.interp(SHARES, *lorenz(each)) for each in earned]
        indices = np.array([(gini(each) or 0.0, jain(each) or 0.0) for each in earned])
        said = "Gini {:.2f}, Jain {:.2f}".format(*indices.mean(axis=0))
        _band(axes, (SHARES, *interval(curves)), "-", sample.label(group, said))
    axes.plot([0, 1], [0, 1], ":", color="grey", label="all earn the same")
    axes.set(xlabel="share of providers, poorest first", ylabel="share of earnings", ylim=(0, 1.02))


def _hops(axes: Axes, sample: Sample) -> None:
    """Draw how many lookups ended at each depth if the runs are alike; otherwise the means."""
    if sample.axis:
        _measured("hops", {"lookup_hops": "mean of the nodes that were found"})(axes, sample)
        return
    found = [run.columns("lookups")["hops"] for run in sample.runs]
    depths = range(1, max((hops or 1 for each in found for hops in each), default=1) + 1)
    shares = {
        str(depth or "not found"): interval(np.array([
            [each.count(depth or None) / max(1, len(each))] for each in found
        ])) for depth in (*depths, 0)
    }  # fmt: skip
    _bars(axes, shares)
    axes.set(xlabel="hops", ylabel="share of lookups")


def _price(axes: Axes, sample: Sample) -> None:
    """Each award, if the runs are alike; otherwise the ratios along the axis."""
    if sample.axis:
        _measured("rate over cost", {
            "price_over_optimum": "the lowest cost", "price_ratio": "the winner's cost",
        })(axes, sample)  # fmt: skip
        return
    pairs = [
        (lowest, rate)
        for run in sample.runs
        for lowest, rate in zip(*_columns(run, "auctions", "lowest", "rate"), strict=True)
        if lowest and rate
    ]
    step = max(1, -(-len(pairs) // POINTS_MAX))
    points = np.array(pairs[::step] or [(1, 1)], np.float64) * 3600 / 1e9
    (middle,), (half,) = _along(sample.groups, "price_over_optimum", 1)
    label = f"an award; rate over lowest cost: {middle:.2f}" + (f" ± {half:.2f}" if half else "")
    axes.loglog(points[:, 0], points[:, 1], ".", alpha=0.4, label=label)
    ends = [points.min(), points.max()]
    axes.plot(ends, ends, ":", color="grey", label="rate = lowest cost")
    axes.set(xlabel="lowest cost, credits an hour", ylabel="rate, credits an hour")


# --- metrics --------------------------------------------------------------------------------


def _measured(quantity: str, names: Mapping[str, str], scale: float = 1.0) -> Draw:
    """Return what draws metrics of the summaries: along the axis, or next to each other."""

    def draw(axes: Axes, sample: Sample) -> None:
        axes.set_ylabel(quantity)
        if not sample.axis:
            _bars(axes, {names[name]: _along(sample.groups, name, scale) for name in names})
            return
        places = sorted({group.place for group in sample.groups}, key=_position)
        is_numeric = all(_position(place)[0] == 0 for place in places)
        if not is_numeric:
            axes.set_xticks(range(len(places)), [str(place) for place in places])
        elif min(places) > 0 and max(places) >= DECADES * min(places):
            axes.set_xscale("log")
        for series in dict.fromkeys(group.series for group in sample.groups):
            groups = [group for group in sample.groups if group.series == series]
            at = [group.place if is_numeric else places.index(group.place) for group in groups]
            for name, text in names.items():
                label = ", ".join(filter(None, (series, text)))
                axes.errorbar(at, *_along(groups, name, scale), marker="o", capsize=3, label=label)
        axes.set_xlabel(sample.axis)

    return draw


def _bars(axes: Axes, lines: Mapping[str, tuple[Reals, Reals]]) -> None:
    middles = [float(middle[0]) for middle, _ in lines.values()]
    halves = [float(half[0]) for _, half in lines.values()]
    drawn = axes.bar(list(lines), middles, yerr=halves if any(halves) else None, capsize=4)
    axes.bar_label(drawn, fmt="%.3g", fontsize="small")


def _along(groups: Sequence[Repetitions], name: str, scale: float) -> tuple[Reals, Reals]:
    """Return the mean of a metric and its half-width for each group; nan where none has it."""
    found = []
    for group in groups:
        values = [run.summary()[name] for run in group.runs]
        known = np.array([value * scale for value in values if value is not None], np.float64)
        found.append(interval(known) if known.size else (np.float64("nan"), np.float64(0)))
    return np.array([one for one, _ in found]), np.array([half for _, half in found])


def _columns(run: RunResults, table: str, *names: str) -> list[list[Any]]:
    columns = run.columns(table)
    return [columns[name] for name in names]


def _counted(sample: Sample) -> str:
    """Return how many runs a figure shows."""
    count = len(sample.runs)
    if count == 1:
        return "one run"
    if len(sample.groups) == count:
        return f"{count} runs, one at each point"
    return f"{count} runs, mean and {CONFIDENCE:.0%} interval over seeds"


KINDS: Final = {
    "award-cdf": _Kind("Jobs awarded and running", _award_cdf),
    "award-time": _Kind("Time to award", _measured("s", {
        "award_ms_p50": "median", "award_ms_p95": "p95", "award_ms_p99": "p99",
    }, 1e-3)),
    "price": _Kind("Price against optimum", _price),
    "utilisation": _Kind("Utilisation of providers", _measured("share of online time", {
        "utilisation": "busy", "load": "used",
    })),
    "welfare": _Kind("Welfare", _measured("credits", {
        "welfare": "all", "requester_surplus": "requesters", "provider_surplus": "providers",
    }, 1e-9)),
    "efficiency": _Kind("Allocation against optimum", _measured("ratio", {
        "efficiency": "allocative efficiency", "decentralisation": "price of decentralisation",
    })),
    "fairness": _Kind("Fairness of earnings", _fairness),
    "messages": _Kind("Messages per job", _measured("messages", {
        "messages_per_job": "over streams", "transmissions_per_job": "gossip",
    })),
    "dht-hops": _Kind("DHT hops", _hops),
    "dht-time": _Kind("Time of a DHT lookup", _measured("s", {
        "lookup_ms_p50": "median", "lookup_ms_p95": "p95",
    }, 1e-3)),
    "resilience": _Kind("What becomes of jobs", _measured("share of jobs", {
        "served": "done", "unserved": "failed", "unfinished": "open at the end",
    })),
}  # fmt: skip
"""The standard figures by name."""
