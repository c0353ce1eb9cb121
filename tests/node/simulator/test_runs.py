"""One run of a scenario, and the folder that it leaves.

Spec: specs/simulation.md#runs.
"""

import gc
import json
from pathlib import Path

import pytest

from node.simulator import Scenario, run
from protocol.values.errors import Conflict, InvalidRequest

TINY = {"nodes": 30, "requesters": 2, "horizon": "20s", "demand.per_minute": 30}


def test_a_run_leaves_its_tables_and_a_manifest_that_makes_it_again(tmp_path: Path) -> None:
    scenario = Scenario.of(TINY)
    told: list[tuple[int, int]] = []
    first = run(scenario, tmp_path / "first", progress=lambda *done: told.append(done))
    assert first.summary()["jobs"] == first.table("jobs").num_rows > 0
    assert told[-1] == (20_000, 20_000)
    assert sorted(told) == told
    manifest = first.manifest
    assert (manifest["repetition"], manifest["complete"]) == (0, True)
    again = run(Scenario.of(json.loads(manifest["scenario"])), tmp_path / "again")
    assert again.manifest["digest"] == manifest["digest"]
    for name in first.names:
        assert again.table(name).equals(first.table(name))


def test_repetitions_and_seeds_differ(tmp_path: Path) -> None:
    one, other = (run(Scenario.of(TINY), tmp_path / str(k), k) for k in (0, 1))
    assert one.manifest["digest"] != other.manifest["digest"]
    changed = run(Scenario.of({**TINY, "seed": 2}), tmp_path / "changed")
    assert changed.manifest["digest"] not in {one.manifest["digest"], other.manifest["digest"]}


def test_both_tiers_do_the_same_if_nothing_is_lost(tmp_path: Path) -> None:
    flow, message = (
        run(Scenario.of({**TINY, "tier": tier}), tmp_path / tier) for tier in ("flow", "message")
    )
    assert flow.manifest["digest"] == message.manifest["digest"]


def test_lost_gossip_and_silent_nodes_cost_copies_and_recovery_brings_the_rest(
    tmp_path: Path,
) -> None:
    values = {**TINY, "nodes": 400, "tier": "message", "scoring": False}
    whole = run(Scenario.of(values), tmp_path / "whole").summary()
    hurt = {"loss_percent": 20, "silent_percent": 20}
    found = run(Scenario.of(values | hurt), tmp_path / "hurt").summary()
    assert found["duplicates_per_node"] < whole["duplicates_per_node"]
    assert found["jobs"] == whole["jobs"]
    assert found["award_ms_p50"] is not None


def test_scores_count_only_where_a_message_can_be_missed(tmp_path: Path) -> None:
    values = {**TINY, "horizon": "60s", "nodes": 150, "tier": "message"}
    digests = {}
    for hurt in ("loss_percent", "silent_percent", "invalid_percent"):
        for percent in (0, 30):
            for scoring in (True, False):
                given = values | {hurt: percent, "scoring": scoring}
                folder = tmp_path / f"{hurt}-{percent}-{scoring}"
                summary = run(Scenario.of(given), folder).summary()
                digests[hurt, percent, scoring] = summary["digest"], summary["transmissions"]
    assert len({digests[key] for key in digests if key[1] == 0}) == 1
    assert len(set(digests.values())) == 7


def test_after_an_interruption_the_results_are_those_up_to_then(tmp_path: Path) -> None:
    def interrupt(done_ms: int, all_ms: int) -> None:
        if done_ms >= all_ms // 2:
            raise KeyboardInterrupt

    results = run(Scenario.of(TINY), tmp_path / "run", progress=interrupt)
    assert results.manifest["complete"] is False
    assert results.summary()["duration_ms"] == 10_000


def test_nothing_is_overwritten_and_the_collector_is_on_again(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with pytest.raises(Conflict):
        run(Scenario.of(TINY), tmp_path / "run")
    assert gc.isenabled()


def test_a_world_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    scenario = Scenario.of({"latency.model": "matrix", "latency.file": str(tmp_path / "no.csv")})
    with pytest.raises(InvalidRequest, match=r"no\.csv"):
        run(scenario, tmp_path / "run")
    assert not (tmp_path / "run").exists()
