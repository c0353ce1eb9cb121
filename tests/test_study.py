"""The study and its figure. Spec: specs/validation.md#study."""

import math
from pathlib import Path

import pytest

from node.simulator import Scenario, sweep, tasks_of
from scripts import study

pytestmark = pytest.mark.slow

SMALL = {"horizon": "40s", "repetitions": 1, "requesters": 2, "demand.per_minute": 60,
         "demand.work": "5s", "demand.gpus": 1, "demand.gpu_class": "", "demand.queue": "5s",
         "sweep.nodes": [6, 60], "sweep.churn.session": ["1h"]}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A study of four small runs, with the lottery and without."""
    place = tmp_path_factory.mktemp("study")
    whole = Scenario.read(study.ROOT / "scripts/study.toml").changed(SMALL)
    list(sweep(tasks_of(whole, place) + tasks_of(whole.changed({study.CROWD: 100}), place), 1))
    return place


def test_its_runs_are_found_by_lottery_churn_and_size(folder):
    rows = study.means(study.read(folder))
    found = {(row["lottery"], row["session"], row["nodes"]) for row in rows}
    assert found == {(lottery, "1h", size) for lottery in (True, False) for size in (6, 60)}
    for row in rows:
        assert row["messages_per_job"] > 0
        assert row["call_to_award_ms"] > 0
        assert (row["unserved_of_ended"] > 0) == (row["nodes"] == 6)


def test_jobs_without_a_call_and_open_jobs_do_not_count():
    jobs = {
        "submitted_ms": [0, 10, 20, 30], "announced_ms": [5, None, 25, 40],
        "awarded_ms": [100, 10, None, 80],
    }  # fmt: skip

    class Run:
        def summary(self):
            return {"served": 0.3, "unserved": 0.1, "unfinished": 0.6}

        def columns(self, name):
            return jobs

    found = study.measure(Run())
    assert found["call_to_award_ms"] == (100 + 50) / 2
    assert found["unserved_of_ended"] == pytest.approx(0.25)


def test_a_run_without_a_metric_does_not_count_for_its_mean():
    assert study.mean_of([{"price": 1.0}, {"price": None}, {"price": 2.0}], "price") == 1.5
    assert math.isnan(study.mean_of([{"price": None}], "price"))


def test_its_figure_has_a_panel_for_each_metric_and_is_the_same_each_time(folder, tmp_path):
    found = study.read(folder)
    for name in ("one.svg", "other.svg"):
        study.draw(found, tmp_path / name)
    text = (tmp_path / "one.svg").read_text()
    assert text == (tmp_path / "other.svg").read_text()
    assert text.count('id="axes_') == len(study.PANELS)


def test_it_consists_of_all_points_and_a_crowd_of_up_to_ten_thousand(tmp_path):
    tasks = study.tasks(tmp_path)
    assert len(tasks) == len({task.folder for task in tasks}) == 72
    crowd = [task for task in tasks if study.CROWD in task.scenario.values]
    assert max(task.scenario.world.nodes for task in crowd) == 10_000
    assert max(task.scenario.world.nodes for task in tasks) == 1_000_000
