"""The study of real processes: what it records can be simulated, and what differs is seen.

Spec: specs/validation.md#devnet.
"""

from collections.abc import Callable
from pathlib import Path

import pytest

from node.simulator.traces import DONE, read_trace
from scripts import validate_devnet
from scripts.validate_devnet import ROUND, STUDIES, WARM_UPS, differences
from scripts.validate_studies import FULL, QUICK, Effort, Study, Target, evaluate
from tests.node.simulator.small_trace import write_trace

pytestmark = pytest.mark.slow
KEYS = {target.key for study in STUDIES for target in study.targets}
ROUNDS = 2


@pytest.fixture
def trace(tmp_path: Path) -> Callable[[int], Path]:
    """Return what writes a trace of simulated nodes that process messages for so long."""
    jobs = WARM_UPS + ROUNDS * len(ROUND)
    return lambda us: write_trace(tmp_path / f"{us}.jsonl", us, jobs)


def test_a_trace_of_the_simulator_itself_differs_in_nothing(trace):
    found = differences(trace(5_000), ROUNDS)
    assert found["V7 processing"] == pytest.approx(5, abs=0.8)
    assert max(abs(found[key]) for key in KEYS) < 10
    assert set(found) > KEYS


def test_nodes_that_do_something_else_than_the_simulated_are_seen(trace, monkeypatch):
    monkeypatch.setattr(validate_devnet, "fit", lambda *_: 20_000)
    found = differences(trace(5_000), ROUNDS)
    assert all(found[key] > 25 for key in ("V7 award", "V7 quick award"))


def test_it_runs_only_in_full_and_alone():
    (study,) = STUDIES
    assert study.is_live
    assert study.seeds(FULL) == FULL.devnets > 0
    assert study.seeds(QUICK) == 0


def test_real_processes_are_recorded_and_simulated(tmp_path):
    """How near they are is not asserted: this machine may be busy with other tests."""
    file = tmp_path / "trace.jsonl"
    validate_devnet.record(file, 1)
    recording = read_trace(file)
    assert [each.outcome for each in recording.jobs.values()] == [DONE] * (WARM_UPS + len(ROUND))
    assert len(recording.providers) == validate_devnet.PROVIDERS
    assert all(recording.pings_us[peer] for peer in recording.providers)
    assert set(differences(file, 1)) > KEYS


def test_the_study_gives_a_value_for_each_target(monkeypatch):
    (study,) = STUDIES
    monkeypatch.setattr(validate_devnet, "record", lambda file, rounds: write_trace(
        file, 5_000, WARM_UPS + rounds * len(ROUND)))  # fmt: skip
    assert set(study.measure(Effort(devnet_rounds=ROUNDS), 0)) >= KEYS


def test_real_processes_come_last_and_keep_their_values():
    def named(name: str, *, is_live: bool) -> Study:
        target = Target(name, "what", "1", 0, 9, "a book")
        return Study(name, lambda effort, seed: {name: len(name)}, (target,), is_live=is_live)

    studies = [named("live", is_live=True), named("a", is_live=False)]
    told = list(evaluate(studies, Effort(seeds=2, devnets=1), 1))
    assert [text for text, _ in told] == [
        "a: 1 of 2 seeds",
        "a: 2 of 2 seeds",
        "live: 1 of 1 seeds",
    ]
    assert [check.mean for _, checks in told for check in checks] == [1, 4]
