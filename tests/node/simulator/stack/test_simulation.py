"""Runs of the tier stack: what is recorded of them, against the tier message on the same world.

Spec: specs/simulation.md#stack.
"""

import resource
from functools import cache

import pytest

from node.service.images import ImageService
from node.simulator.recorder import Recorder
from node.simulator.simulation import MESSAGE, Simulation, World
from node.simulator.stack import simulation as stack
from node.simulator.stack.simulation import StackSimulation
from node.simulator.tables import TABLES
from node.simulator.world.churn import PresenceChange
from node.simulator.world.demand import Burst, Poisson
from protocol.values.errors import StorageFull, Unavailable

HORIZON_MS = 60_000
STEPS = 4
WORLD = World(
    nodes=6, requesters=2, crypto=True, demand=Poisson(per_minute=6.0, work=5_000, image_mib=1)
)


class OneGoes:
    """The last node goes after ten seconds, and comes back after twenty."""

    def changes(self, number, seed):
        if number == WORLD.nodes - 1:
            yield PresenceChange(10_000, False)
            yield PresenceChange(10_000, True)


def ran(world, seed=1):
    simulation = StackSimulation(world, seed)
    recorder = Recorder(simulation)
    told = []
    simulation.run(HORIZON_MS, STEPS, lambda *progress: told.append(progress))
    return recorder.tables(), told


@cache
def calm():
    return ran(WORLD)


def test_it_has_all_tables_and_tells_its_progress():
    tables, told = calm()
    assert set(tables) == set(TABLES)
    assert told == [(HORIZON_MS * step // STEPS, HORIZON_MS) for step in range(1, STEPS + 1)]
    summary = {name: values[0] for name, values in tables["summary"].items()}
    assert summary["duration_ms"] == HORIZON_MS
    assert summary["jobs"] == len(tables["jobs"]["job"]) > 2
    assert summary["messages"] > 10 * summary["published"] > 0
    assert sum(tables["nodes"]["earned"]) == sum(tables["nodes"]["paid"]) > 0
    assert tables["auctions"]["winner"]


def test_the_jobs_and_the_first_auction_are_those_of_the_tier_message():
    simulation = Simulation(WORLD, MESSAGE, 1)
    recorder = Recorder(simulation)
    simulation.run(HORIZON_MS)
    message, (whole, _) = recorder.tables()["jobs"], calm()
    for name in ("job", "requester", "submitted_ms", "work_ms"):
        assert whole["jobs"][name] == message[name]
    for name in ("announced_ms", "bidders", "provider", "rate"):
        assert whole["jobs"][name][0] == message[name][0]
    for name in ("number", "region", "kind", "price_percent"):
        assert whole["nodes"][name] == simulation_nodes(recorder)[name]


def simulation_nodes(recorder):
    return recorder.tables()["nodes"]


def test_a_node_goes_and_comes_back():
    world = World(
        nodes=WORLD.nodes, requesters=2, crypto=True, churn=OneGoes(),
        demand=Burst(jobs=2, work=5_000, image_mib=1),
    )  # fmt: skip
    tables, _ = ran(world)
    assert tables["nodes"]["online_ms"] == [HORIZON_MS] * 5 + [HORIZON_MS - 10_000]
    assert tables["jobs"]["outcome"] == ["done"] * 2


def test_an_interruption_ends_a_run_with_what_it_has():
    def interrupt(done_ms, _all_ms):
        if done_ms >= HORIZON_MS // 2:
            raise KeyboardInterrupt

    simulation = StackSimulation(WORLD, 1)
    recorder = Recorder(simulation)
    with pytest.raises(KeyboardInterrupt):
        simulation.run(HORIZON_MS, STEPS, interrupt)
    assert recorder.tables()["summary"]["duration_ms"] == [HORIZON_MS // 2]


def test_a_full_disk_ends_a_run_with_one_error(monkeypatch):
    async def hold(_images, _jobs):
        raise StorageFull("full")

    monkeypatch.setattr(ImageService, "hold", hold)
    with pytest.raises(StorageFull, match="no room for what the nodes store"):
        StackSimulation(WORLD, 1).run(HORIZON_MS, STEPS, lambda *_: None)


def test_too_few_files_are_told_before_anything_starts(monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda _kind: (16, 64))
    with pytest.raises(Unavailable, match="120 open files, and 64"):
        StackSimulation(WORLD, 1).run(HORIZON_MS, STEPS, lambda *_: None)
    changed = []
    monkeypatch.setattr(resource, "setrlimit", lambda _kind, limits: changed.append(limits))
    monkeypatch.setattr(resource, "getrlimit", lambda _kind: (16, 4_096))
    stack._allow_files(120)
    assert changed == [(120, 4_096)]
