"""The study and its figure. Spec: specs/validation.md#study."""

from pathlib import Path

import pytest

from node.simulator import Scenario, sweep, tasks_of
from scripts import study

pytestmark = pytest.mark.slow

SMALL = {"horizon": "20s", "repetitions": 1, "requesters": 2, "demand.per_minute": 60,
         "sweep.nodes": [20, 60], "sweep.churn.session": ["1h"]}  # fmt: skip


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
    assert found == {(lottery, "1h", size) for lottery in (True, False) for size in (20, 60)}
    assert all(row["messages_per_job"] > 0 for row in rows)


def test_its_figure_has_a_panel_for_each_metric_and_is_the_same_each_time(folder, tmp_path):
    found = study.read(folder)
    for name in ("one.svg", "other.svg"):
        study.draw(found, tmp_path / name)
    text = (tmp_path / "one.svg").read_text()
    assert text == (tmp_path / "other.svg").read_text()
    assert text.count('id="axes_') == len(study.PANELS)


def test_it_consists_of_all_points_and_a_crowd_of_up_to_ten_thousand(tmp_path):
    tasks = study.tasks(tmp_path)
    assert len(tasks) == len({task.folder for task in tasks}) == 48
    crowd = [task for task in tasks if study.CROWD in task.scenario.values]
    assert max(task.scenario.world.nodes for task in crowd) == 10_000
    assert max(task.scenario.world.nodes for task in tasks) == 1_000_000
