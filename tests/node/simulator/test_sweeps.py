"""Many runs: all points and repetitions, wherever they run.

Spec: specs/simulation.md#sweeps.
"""

import shutil
import sys
from pathlib import Path

import pytest

from node.simulator import Scenario
from node.simulator.sweeps import load_all, sweep, tasks_of
from protocol.values.errors import InvalidRequest

SWEPT = Scenario.of({
    "nodes": 30, "requesters": 2, "horizon": "10s", "repetitions": 2, "demand.per_minute": 30,
    "sweep.degree": [4, 6],
})  # fmt: skip


def test_every_point_and_repetition_is_a_task_with_a_folder_of_its_own(tmp_path: Path) -> None:
    tasks = tasks_of(SWEPT, tmp_path)
    found = [(task.scenario.world.degree, task.repetition) for task in tasks]
    assert found == [(4, 0), (4, 1), (6, 0), (6, 1)]
    assert len({task.folder for task in tasks}) == 4
    assert not any(task.is_done() for task in tasks)


def test_results_do_not_depend_on_the_processes_and_only_what_lacks_is_run(tmp_path: Path) -> None:
    alone, beside = (tasks_of(SWEPT, tmp_path / name) for name in ("alone", "beside"))
    assert list(sweep(alone, 1)) == alone
    assert sorted(task.folder for task in sweep(beside, 2)) == sorted(t.folder for t in beside)
    digests = [
        [results.manifest["digest"] for results in load_all(tmp_path / name)]
        for name in ("alone", "beside")
    ]
    assert digests[0] == digests[1]
    assert len(set(digests[0])) == 4
    assert all(task.is_done() for task in beside)
    shutil.rmtree(beside[2].folder)
    assert [task.is_done() for task in beside] == [True, True, False, True]


def test_a_point_knows_where_it_is(tmp_path: Path) -> None:
    (task, *_) = tasks_of(SWEPT, tmp_path)
    list(sweep([task], 1))
    (results,) = load_all(tmp_path)
    assert results.parameters == {"degree": 4}


def test_an_unfinished_run_is_not_done(tmp_path: Path) -> None:
    (task, *_) = tasks_of(SWEPT, tmp_path)
    list(sweep([task], 1))
    manifest = task.folder / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"complete": true', '"complete": false'))
    assert not task.is_done()


def test_a_folder_without_results_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="there are no results"):
        load_all(tmp_path)


@pytest.mark.parametrize("backend, package", [("dask", "distributed"), ("ray", "ray")])
def test_a_back_end_that_is_not_installed_is_named(
    backend: str, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InvalidRequest, match=f"{backend} is not installed: pip install {package}"):
        list(sweep(tasks_of(SWEPT, tmp_path), 1, backend))
