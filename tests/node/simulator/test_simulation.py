"""Whole runs: all jobs end, money is conserved, and a seed decides everything.

Spec: specs/simulation.md#runs, specs/simulation.md#determinism.
"""

import os
import subprocess
import sys
from collections import Counter
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest

from node.simulator.simulation import FLOW, MESSAGE, Simulation, World
from node.simulator.world.churn import Steady, Trace, Weibull
from node.simulator.world.demand import Burst, JobModel, Poisson, spec_of
from node.simulator.world.quantities import Duration
from protocol.machines.events import Done, Failed
from protocol.values.ids import JobId, PeerId
from tests.node.simulator.small_world import MEAN, SmallWorld, equal_world

BURST = World(nodes=200, requesters=4, demand=Burst(jobs=50))
MARKET = World(
    nodes=60, requesters=3, demand=Poisson(per_minute=8.0),
    churn=Weibull(session=Duration(300_000), away=Duration(60_000)),
)  # fmt: skip
MINUTE_MS = 60_000
ROOT = Path(__file__).parents[3]
ONE_RUN = """
from tests.node.simulator.test_simulation import FLOW, MARKET, digest_of
print(digest_of(MARKET, FLOW, 1))
"""


@cache
def known_digest() -> str:
    """Return the digest of the market that several tests compare with."""
    return digest_of(MARKET, FLOW, 1)


def digest_of(world: World, tier: str, seed: int, duration_ms: int = 2 * MINUTE_MS) -> str:
    simulation = Simulation(world, tier, seed)
    simulation.run(duration_ms)
    assert simulation.network.digest.events > 200
    return simulation.network.digest.hex()


def paid_by_requesters(world: SmallWorld) -> Counter[PeerId]:
    """Return what each requester has paid for the jobs that are done, as it sees it."""
    paid: Counter[PeerId] = Counter()
    for node in world.network.nodes.values():
        for job in node.jobs():
            last = world.events[job.job_id][-1]
            if isinstance(last, Done):
                paid[node.peer_id] += last.amount
    return paid


def done_of(world: SmallWorld) -> list[JobId]:
    return [job_id for job_id, events in world.events.items() if isinstance(events[-1], Done)]


@pytest.mark.parametrize("tier", [FLOW, MESSAGE])
@pytest.mark.parametrize("crypto", [False, True])
def test_a_burst_is_done_and_each_job_is_paid_once(tier: str, crypto: bool) -> None:
    size = {"nodes": 30, "demand": Burst(jobs=4)} if crypto else {}
    world = SmallWorld(_with(BURST, crypto=crypto, **size), tier)
    world.run(1)
    assert len(world.jobs()) == (4 if crypto else 50)
    while not all(map(world.ended, world.jobs())):
        world.run(10_000)
        world.check()
        assert world.network.engine.now < 10 * 60 * MINUTE_MS
    world.run(5 * MINUTE_MS)
    assert set(done_of(world)) == set(world.jobs())
    assert len({settle.lease_id for settle in world.settled}) == len(world.settled)
    assert len(world.settled) == len(world.events)
    paid: Counter[PeerId] = Counter()
    for settle in world.settled:
        paid[settle.requester] += settle.amount
    assert paid == paid_by_requesters(world)
    assert min(settle.amount for settle in world.settled) >= 0
    assert sum(paid.values()) > 0


def _with(world: World, **more: object) -> World:
    given = {name: getattr(world, name) for name in World.__slots__} | more
    return World(**given)


def test_a_seed_decides_everything_and_both_tiers_do_the_same() -> None:
    same = [digest_of(MARKET, FLOW, 1), known_digest()]
    steady = _with(MARKET, churn=Steady())
    tiers = [digest_of(steady, tier, 1) for tier in (FLOW, MESSAGE)]
    others = [digest_of(MARKET, FLOW, seed) for seed in (2, 3)]
    assert same[0] == same[1]
    assert tiers[0] == tiers[1]
    assert len({same[0], tiers[0], *others}) == 4


def test_a_run_in_steps_is_the_same_run() -> None:
    simulation = Simulation(MARKET, FLOW, 1)
    simulation.start(2 * MINUTE_MS)
    for until_ms in (1, 7_003, 7_003, MINUTE_MS, 2 * MINUTE_MS):
        simulation.advance(until_ms)
    assert simulation.network.digest.hex() == known_digest()


def test_hash_seeds_of_python_change_nothing() -> None:
    def told(hash_seed: str) -> str:
        environment = os.environ | {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)}
        run = [sys.executable, "-c", ONE_RUN]
        return subprocess.run(
            run, env=environment, cwd=ROOT, check=True, capture_output=True, text=True
        ).stdout.strip()

    assert [told(seed) for seed in ("0", "1", "4242")] == [known_digest()] * 3


def test_keys_decide_as_a_seed_says_too() -> None:
    world = _with(MARKET, crypto=True, nodes=25, demand=Poisson(per_minute=6.0))
    one, other = (digest_of(world, FLOW, seed, 2 * MINUTE_MS) for seed in (1, 1))
    assert one == other != digest_of(world, FLOW, 2, 2 * MINUTE_MS)


def test_under_churn_jobs_end_or_say_why_they_do_not() -> None:
    churn = Weibull(session=Duration(120_000), away=Duration(120_000))
    demand = Burst(jobs=60, work=Duration(30_000), queue=Duration(600_000))
    world = SmallWorld(World(nodes=300, requesters=5, demand=demand, churn=churn))
    gone: set[int] = set()
    for _ in range(40):
        world.run(30_000)
        world.check()
        gone |= {number for number, node in world.network.nodes.items() if node.generation}
    assert len(gone) > 100
    assert all(map(world.ended, world.jobs()))
    assert len(done_of(world)) > 50
    for events in world.events.values():
        assert isinstance(events[-1], Done) or (
            isinstance(events[-1], Failed) and events[-1].reason and events[-1].why
        )
    retried = [job_id for job_id in world.events if "Retrying" in world.names(job_id)]
    assert len(retried) > 10
    # A provider may go for good before its bill is countersigned, but nobody is paid twice.
    assert len({settle.lease_id for settle in world.settled}) == len(world.settled)
    settled: Counter[PeerId] = Counter()
    for settle in world.settled:
        settled[settle.requester] += settle.amount
    paid = paid_by_requesters(world)
    assert all(settled[peer] <= paid[peer] for peer in settled)


def test_nodes_come_and_go_as_the_trace_says(tmp_path: Path) -> None:
    trace = tmp_path / "trace.csv"
    trace.write_text("2,1000,0\n3,1500,0\n2,3000,1\n")
    world = SmallWorld(equal_world(churn=Trace(trace)))
    online = world.simulation.population.online
    seen = []
    for _ in range(4):
        world.run(999)
        seen.append([bool(online[number]) for number in (2, 3)])
    assert seen == [[True, True], [False, False], [False, False], [True, False]]


def test_requesters_know_nodes_at_the_start_and_others_have_no_core_yet() -> None:
    simulation = Simulation(BURST, FLOW, 1)
    simulation.start(MINUTE_MS)
    assert list(simulation.network.nodes) == list(range(4))
    known = [set(node.core.connected) for node in simulation.network.nodes.values()]
    assert [len(each) for each in known] == [simulation.gossip.connections] * 4
    assert all(one != other for one, other in pairwise(known))


def test_a_world_without_jobs_has_no_events() -> None:
    simulation = Simulation(_with(BURST, demand=Poisson(per_minute=0.0)), FLOW, 1)
    simulation.run(60 * MINUTE_MS)
    assert simulation.network.digest.events == 0


def test_jobs_that_nobody_can_serve_fail_with_a_reason() -> None:
    world = SmallWorld(equal_world())
    job_id = world.submit(cpus=64, queue=Duration(60_000))
    assert world.run_until_all_ended()
    last = world.events[job_id][-1]
    assert isinstance(last, Failed)
    assert last.why


def test_the_members_of_a_gang_run_together() -> None:
    world = SmallWorld(equal_world(nodes=9))
    spec = spec_of(JobModel(nodes=3, cpus=3, work=Duration(20_000)), MEAN)
    world.simulation.submit(0, spec)
    assert world.run_until(lambda: len(done_of(world)) == 3)
    assert len({world.provider_of(job_id).number for job_id in world.jobs()}) == 3
    world.check()
