"""The standard figures: what they show, of one run, of repetitions and of sweeps.

Spec: specs/simulation-results.md#plots.
"""

from itertools import pairwise

import matplotlib as mpl
import numpy as np
import pytest

from node.simulator.plots import figure, figures, interval, plot, sample_of
from node.simulator.results import RunResults
from protocol.values.errors import InvalidRequest, StorageFull
from tests.node.simulator.recorded import CALM, run_of, write_run
from tests.node.simulator.test_results import full

SEEDS = (1, 2, 4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def repeated(folder):
    return [write_run(folder / f"repeated-{seed}", seed, nodes=10) for seed in SEEDS]


@pytest.fixture(scope="module")
def swept(folder):
    places = [(nodes, seed) for nodes in (1000, 10) for seed in SEEDS]
    return [write_run(folder / f"{nodes}-{seed}", seed, nodes=nodes) for nodes, seed in places]


def axes_of(runs, name):
    return figure(runs, name).axes[0]


def legend_of(axes):
    return axes.get_legend_handles_labels()[1]


@pytest.mark.parametrize("name", figures())
def test_each_figure_can_be_drawn_of_one_run_and_more(repeated, swept, name, tmp_path):
    titles = []
    for runs in (repeated[:1], repeated, swept):
        axes = axes_of(runs, name)
        titles.append(axes.get_title().rpartition(" (")[2])
        assert axes.get_xlabel() or axes.get_xticklabels()
        assert axes.get_ylabel()
        assert axes.has_data()
    said = "runs, mean and 95% interval over seeds)"
    assert titles == ["one run)", f"3 {said}", f"6 {said}"]
    plot(swept, name, tmp_path / "x.png")
    assert (tmp_path / "x.png").stat().st_size > 10_000


def test_a_figure_is_png_or_svg_and_always_the_same(swept, tmp_path):
    for ending, begins in ((".png", b"\x89PNG"), (".svg", b"<?xml")):
        for name in ("one", "other"):
            plot(swept, "welfare", tmp_path / (name + ending))
        data = (tmp_path / f"one{ending}").read_bytes()
        assert data.startswith(begins)
        assert data == (tmp_path / f"other{ending}").read_bytes()
    assert b"<dc:date>" not in data


def test_what_cannot_be_drawn_is_told(repeated, tmp_path):
    with pytest.raises(InvalidRequest, match=r"a figure is .png or .svg"):
        plot(repeated, "price", tmp_path / "x.pdf")
    with pytest.raises(InvalidRequest, match="there is no figure prize: award-cdf, "):
        plot(repeated, "prize", tmp_path / "x.png")
    with pytest.raises(InvalidRequest, match="there is no run to draw"):
        plot([], "price", tmp_path / "x.png")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_no_figure(repeated, tmp_path, monkeypatch):
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", full)
    with pytest.raises(StorageFull):
        plot(repeated, "price", tmp_path / "x.png")
    assert list(tmp_path.iterdir()) == []


def test_nothing_global_changes(repeated, tmp_path):
    before = dict(mpl.rcParams)
    plot(repeated, "fairness", tmp_path / "x.svg")
    assert dict(mpl.rcParams) == before


def test_the_interval_is_that_of_student():
    middle, half = interval(np.array([[1.0, 5.0], [2.0, 5.0], [4.0, 5.0]]))
    assert middle.tolist() == pytest.approx([7 / 3, 5])
    deviation = np.sqrt(((1 - 7 / 3) ** 2 + (2 - 7 / 3) ** 2 + (4 - 7 / 3) ** 2) / 2)
    quantile = 4.302652729696  # t with 2 degrees of freedom at 0.975, from a printed table.
    assert half.tolist() == pytest.approx([quantile * deviation / np.sqrt(3), 0])
    assert interval(np.array([[3.0]]))[1].tolist() == [0]


def test_repetitions_are_bars_with_their_interval(repeated):
    axes = axes_of(repeated, "resilience")
    assert axes.patches[0].get_height() == pytest.approx((0.1 + 0.2 + 0.4) / 3)
    low, high = axes.containers[0].lines[2][0].get_segments()[0][:, 1]
    assert (high - low) / 2 == pytest.approx(interval(np.array([0.1, 0.2, 0.4]))[1])


def test_a_sweep_is_drawn_along_its_parameter(swept):
    axes = axes_of(swept, "resilience")
    assert axes.get_xlabel() == "nodes"
    assert axes.get_xscale() == "log"
    assert axes.lines[0].get_xdata().tolist() == [10, 1000]
    assert axes.lines[0].get_ydata().tolist() == pytest.approx([0.7 / 3, 0.7 / 3])
    assert legend_of(axes) == ["done", "failed", "open at the end"]


def test_the_parameter_with_most_values_is_the_axis_and_others_tell_lines_apart(tmp_path):
    times = ("1h", "10m", "90s")
    runs = [
        write_run(tmp_path / tier / at, **{"tier": tier, "churn.session": at})
        for tier in "ab" for at in times
    ]  # fmt: skip
    sample = sample_of(runs)
    assert sample.axis == "churn.session"
    assert [(group.series, group.place) for group in sample.groups] == [
        (f"tier = {tier}", at) for tier in "ab" for at in reversed(times)
    ]
    axes = axes_of(runs, "utilisation")
    assert [label.get_text() for label in axes.get_xticklabels()] == ["90s", "10m", "1h"]
    assert legend_of(axes)[:2] == ["tier = a, busy", "tier = a, used"]
    assert axes.get_title().endswith("(6 runs, one at each point)")


def test_numbers_come_before_durations_and_texts_and_a_missing_value_is_a_default(tmp_path):
    places = ["none", 10, "1h", 2.5, "90s", "all"]
    runs = [write_run(tmp_path / f"{each}", **{"churn.model": each}) for each in places]
    runs.append(write_run(tmp_path / "without"))
    found = [group.place for group in sample_of(runs).groups]
    assert found == [2.5, 10, "90s", "1h", "all", "default", "none"]


def test_the_share_of_jobs_counts_those_that_got_nowhere(repeated, monkeypatch):
    jobs = dict(run_of(CALM)[1]["jobs"])
    jobs["awarded_ms"] = [None] * 15 + [100] * 15
    jobs["running_ms"] = [None] * 30
    monkeypatch.setattr(RunResults, "columns", lambda _run, _name: jobs)
    awarded, running = axes_of(repeated[:1], "award-cdf").lines
    assert awarded.get_ydata()[-1] == 0.5
    assert running.get_ydata().max() == 0


def test_the_lorenz_curve_is_drawn_from_nothing_to_all(repeated):
    axes = axes_of(repeated, "fairness")
    curve = axes.lines[0].get_ydata()
    assert (curve[0], curve[-1]) == (0, pytest.approx(1))
    assert all(one <= other + 1e-12 for one, other in pairwise(curve))
    assert "Gini 0." in legend_of(axes)[0]


def test_each_award_is_a_point_above_the_lowest_cost(repeated):
    axes = axes_of(repeated[:1], "price")
    lowest, rate = axes.lines[0].get_data()
    assert len(rate) == sum(
        winner is not None for winner in repeated[0].columns("auctions")["winner"]
    )
    assert all(one <= other for one, other in zip(lowest, rate, strict=True))


def test_dht_hops_are_shares_of_lookups_that_failed_too(repeated, monkeypatch):
    monkeypatch.setattr(RunResults, "columns", lambda _run, _name: {"hops": [1, 3, 3, None]})
    axes = axes_of(repeated, "dht-hops")
    names = [label.get_text() for label in axes.get_xticklabels()]
    shares = [bar.get_height() for bar in axes.patches]
    expected = {"1": 0.25, "2": 0, "3": 0.5, "not found": 0.25}
    assert dict(zip(names, shares, strict=True)) == expected
