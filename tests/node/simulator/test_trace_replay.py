"""A recorded network is simulated again: what was true of it is found.

Spec: specs/trace.md#replay.
"""

from dataclasses import replace

import pytest

from node.simulator import trace_replay
from node.simulator.runs import simulate
from node.simulator.trace_replay import Measure, compare, fit, replay_trace, scenario_of
from node.simulator.traces import read_trace
from protocol.values.errors import InvalidRequest
from tests.node.simulator.small_trace import WORK_MS, write_trace

TRUE_US = 6_000


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return write_trace(tmp_path_factory.mktemp("traces") / "small.jsonl", TRUE_US)


@pytest.mark.parametrize("tier", ["flow", "message"])
def test_a_replay_finds_the_constant_and_the_times(file, tier):
    replayed = replay_trace(file, {"tier": tier}, None)
    assert abs(replayed.processing_us - TRUE_US) <= TRUE_US * 0.15
    assert (replayed.fitted, replayed.jobs) == (5, 5)
    assert (replayed.done_recorded, replayed.done_simulated) == (1, 1)
    assert [each.name for each in replayed.measures] == ["award_ms", "start_ms", "end_ms", "rate"]
    for measure in replayed.measures:
        assert measure.jobs == 5
        assert max(map(abs, measure.difference_percent)) < 15, measure
    assert replayed.run.tier == tier


def test_with_a_constant_nothing_is_fitted_and_all_jobs_are_compared(file):
    quick, slow = (replay_trace(file, {}, us) for us in (0, 4 * TRUE_US))
    assert (quick.fitted, quick.jobs, quick.processing_us) == (0, 10, 0)
    award, start, *_ = quick.measures
    assert award.difference_percent[0] < -50
    assert slow.measures[0].difference_percent[0] > 50
    assert start.jobs == 10


def test_the_summary_is_for_programs(file):
    summary = replay_trace(file, {}, TRUE_US).summary()
    assert set(summary) == {"processing_us", "fitted", "compared", "done", "measures"}
    end = summary["measures"]["end_ms"]
    assert end["recorded_p50"] > WORK_MS
    assert set(end) == {
        "jobs", "recorded_p50", "recorded_p90", "simulated_p50", "simulated_p90",
        "difference_percent_p50", "difference_percent_p90",
    }  # fmt: skip


def test_members_of_gangs_are_compared_one_by_one(tmp_path):
    replayed = replay_trace(write_trace(tmp_path / "t", TRUE_US, 4, 2), {}, TRUE_US)
    assert replayed.jobs == 8
    assert replayed.done_simulated == 1


def test_a_scenario_of_a_trace_can_be_changed(file):
    values = {"demand.model": "burst", "demand.jobs": 3, "nodes": 30, "horizon": "30s"}
    scenario = scenario_of(file, values)
    assert scenario.settings.nodes == 30
    assert scenario.settings.name == "small"
    assert len(list(scenario.world.demand.arrivals(1_000, 1, 1))) == 3
    with pytest.raises(InvalidRequest, match="did you mean"):
        scenario_of(file, {"ndes": 3})


def test_the_same_trace_gives_the_same_run(file):
    one, other = (replay_trace(file, {}, TRUE_US) for _ in range(2))
    assert one.run.digest == other.run.digest


def test_without_awards_there_is_nothing_to_fit(tmp_path):
    lines = write_trace(tmp_path / "t", jobs=4).read_bytes().splitlines(keepends=True)
    lines = [line for line in lines if b'"kind":"event"' not in line]
    (tmp_path / "t").write_bytes(b"".join(lines))
    recording = read_trace(tmp_path / "t")
    assert fit(recording, scenario_of(tmp_path / "t", {}), range(2)) == 0
    replayed = replay_trace(tmp_path / "t", {}, None)
    assert replayed.measures == ()
    assert (replayed.done_recorded, replayed.done_simulated) == (0, 1)


def test_differences():
    assert Measure("rate", (100, 0), (110, 5), 2).difference_percent == (10, None)
    assert list(compare([], {})) == []


def test_an_interruption_ends_the_fit(file, monkeypatch):
    def interrupted(scenario, *more):
        tables, run = simulate(scenario, *more)
        return tables, replace(run, complete=False)

    monkeypatch.setattr(trace_replay, "simulate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        replay_trace(file, {}, None)
    assert not replay_trace(file, {}, TRUE_US).run.complete, "what it has is shown"


def test_the_constant_can_be_a_value_of_the_scenario(file):
    replayed = replay_trace(file, {"processing_us": 3_000}, None)
    assert (replayed.processing_us, replayed.fitted) == (3_000, 0)
