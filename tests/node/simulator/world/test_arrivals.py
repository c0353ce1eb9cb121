"""Jobs from a file, and what is wrong with its lines. Spec: specs/simulation-world.md#demand."""

import pytest

from node.simulator.containers import work_of
from node.simulator.runs import simulate
from node.simulator.scenario import Scenario
from node.simulator.world.arrivals import ArrivalTrace
from node.simulator.world.demand import TIMEOUT_FACTOR
from protocol.values.errors import InvalidRequest
from protocol.wire.job import faults_of_workload

CSV = (
    "at_ms, work_ms, cpus, gpu_class, gpus, requester\n5,1000,2,,,\n5,3000,,a100,1,1\n9,7000,,,,0\n"
)
JSON = (
    '{"at_ms": 5, "work_ms": 1000, "cpus": 2}\n'
    '{"at_ms": 5, "work_ms": 3000, "gpus": 1, "gpu_class": "a100", "requester": 1}\n'
    '{"at_ms": 9, "work_ms": 7000, "requester": 0}\n'
)


def arrivals(tmp_path, text, name="jobs.csv", horizon_ms=1_000, **more):
    path = tmp_path / name
    path.write_text(text)
    return list(ArrivalTrace(file=path, **more).arrivals(horizon_ms, 2, 1))


def test_jobs_are_as_their_lines_say_and_otherwise_as_the_model_says(tmp_path):
    first, second, third = arrivals(tmp_path, CSV, memory_mib=64, image_mib=3)
    assert [each.at_ms for each in (first, second, third)] == [5, 5, 9]
    assert [each.requester for each in (first, second, third)] == [0, 1, 0]
    assert [work_of(each.spec.workload) for each in (first, second, third)] == [1000, 3000, 7000]
    workload = first.spec.workload
    assert (workload.resources.cpus, workload.resources.memory_mib) == (2, 64)
    assert workload.timeout_ms == TIMEOUT_FACTOR * 1000
    assert workload.image_bytes == 3 * 1024**2
    assert second.spec.workload.resources.gpu_class == "a100"
    assert second.spec.workload.resources.cpus == 1
    assert not any(faults_of_workload(each.spec.workload) for each in (first, second, third))


def test_both_formats_say_the_same(tmp_path):
    assert arrivals(tmp_path, CSV) == arrivals(tmp_path, JSON, "jobs.jsonl")


def test_what_comes_after_the_horizon_is_left_out(tmp_path):
    assert len(arrivals(tmp_path, CSV, horizon_ms=9)) == 2


@pytest.mark.parametrize("text, why", [
    ("", "line 1: the head names no at_ms, work_ms"),
    ("at_ms,cpus\n", "line 1: the head names no work_ms"),
    ("at_ms,work_ms\n5\n", "line 2: 1 cells, and the head has 2"),
    ("at_ms,work_ms\n5,\n", "line 2: work_ms is missing"),
    ("at_ms,work_ms,cpu\n5,7,1\n", "line 2: a job has no 'cpu'"),
    ("at_ms,work_ms,cpu\n5,7,1\n", "did you mean 'cpus'"),
    ("at_ms,work_ms,name\n5,7,x\n", "a job has no 'name': there are at_ms"),
    ("at_ms,work_ms\n5,7\n4,7\n", "line 3: times only grow"),
    ("at_ms,work_ms\n5,0\n", "line 2: work_ms should be a whole number from 1 to"),
    ("at_ms,work_ms\n5,1.5\n", "line 2: work_ms should be a whole number"),
    ("at_ms,work_ms,requester\n5,7,2\n", "line 2: requester 2 of 2: from 0"),
])  # fmt: skip
def test_a_wrong_line_is_named(tmp_path, text, why):
    with pytest.raises(InvalidRequest, match=why):
        arrivals(tmp_path, text)


@pytest.mark.parametrize("text, why", [
    ("{\n", "line 1: it is no JSON object"), ("3\n", "line 1: it is no JSON object"),
    ('{"at_ms": 5, "work_ms": true}\n', "line 1: work_ms should be a whole number"),
    ('{"at_ms": 5.0, "work_ms": 3}\n', "line 1: at_ms should be a whole number"),
    ('{"at_ms": 5, "work_ms": null}\n', "line 1: work_ms should be a whole number"),
    ('{"at_ms": 5, "work_ms": 3, "gpu_class": 4}\n', "a job has no 'gpu_class'"),
    ('{"at_ms": 5}\n', "line 1: work_ms is missing"),
])  # fmt: skip
def test_a_wrong_line_of_json_is_named(tmp_path, text, why):
    with pytest.raises(InvalidRequest, match=why):
        arrivals(tmp_path, text, "jobs.jsonl")


def test_a_file_that_is_not_there_or_no_text_is_refused(tmp_path):
    with pytest.raises(InvalidRequest, match="No such file"):
        list(ArrivalTrace(file=tmp_path / "none").arrivals(9, 1, 1))
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(InvalidRequest, match="not UTF-8"):
        list(ArrivalTrace(file=tmp_path / "binary").arrivals(9, 1, 1))


def test_a_scenario_runs_them_and_needs_the_file(tmp_path):
    (tmp_path / "jobs.csv").write_text(CSV.replace("a100,1", ","))
    values = {"nodes": 20, "requesters": 2, "demand.model": "trace"}
    with pytest.raises(InvalidRequest, match="the model needs file"):
        Scenario.of(values)
    scenario = Scenario.of(values | {"demand.file": str(tmp_path / "jobs.csv"), "horizon": "1m"})
    tables, _ = simulate(scenario)
    assert tables["jobs"]["requester"] == [0, 1, 0]
    assert tables["jobs"]["work_ms"] == [1000, 3000, 7000]
    assert tables["jobs"]["outcome"] == ["done"] * 3
