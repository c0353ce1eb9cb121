"""A network of simulated nodes: what their cores want happens, also when nodes go and come back.

Spec: specs/simulation.md#nodes. What becomes of a job is as in tests/transcripts.
"""

import gc
import subprocess
import sys
import weakref
from typing import Any

import pytest

from node.simulator.identities import NETWORK_ID
from node.simulator.network import START_MS, source_of
from node.simulator.node import SimulatedNode
from node.simulator.world.quantities import Duration
from protocol.core.jobs import Ending
from protocol.machines import effects, inputs
from protocol.machines.events import Done, Retrying
from protocol.rules.fraud import Finding, Fraud
from protocol.values.ids import CallId, JobId, LeaseId
from protocol.values.reasons import Failure
from protocol.wire.messages import NOT_MEASURED
from tests.node.simulator.small_world import SmallWorld, equal_world

UNEVENTFUL = ["Queued", "Checkpointed"]
RUNS = ["Awarded", "Fetching", "Starting", "Running"]
AT_ONCE = ["Announced", "BidsOpened", *RUNS, "Returning", "Done"]
ELSEWHERE = ["Announced", "BidsOpened", *RUNS, "Retrying", *RUNS, "Returning", "Done"]


def begun(world: SmallWorld, name: str, **more: Any) -> JobId:
    """Submit a job and let it come to an event."""
    job_id = world.submit(**more)
    assert world.run_until(lambda: world.is_at(job_id, name))
    return job_id


def told(names: list[str]) -> list[str]:
    """Return the events that say what became of a job, not how soon."""
    return [name for name in names if name not in UNEVENTFUL]


def test_a_job_runs_is_done_and_paid() -> None:
    world = SmallWorld(equal_world())
    job_id = begun(world, "Done")
    world.run(60_000)
    assert told(world.names(job_id)) == AT_ONCE
    done = world.events[job_id][-1]
    assert isinstance(done, Done)
    assert (done.exit_code, done.usage_ms) == (0, 20_000)
    (settle,) = world.settled
    assert (settle.amount, settle.usage_ms) == (done.amount, 20_000)
    provider, requester = world.provider_of(job_id), world.network.nodes[0]
    assert settle.provider == provider.peer_id
    assert provider.disk.settled == [(requester.peer_id, 20_000)]
    assert requester.disk.settled == [(provider.peer_id, 0)]
    assert requester.job(job_id).ending is Ending.DONE
    world.check()


def test_nothing_is_left_of_a_job_that_is_over() -> None:
    world = SmallWorld(equal_world())
    job_id = begun(world, "Done")
    world.run(120_000)
    for node in world.network.nodes.values():
        assert not node.containers
        assert not node.in_memory
        assert not node.disk.outbox
        assert not node.disk.launched
        assert [key for table, key in node.disk.saved if table != "job"] == []
    assert next(iter(world.network.nodes[0].jobs())).job_id == job_id
    assert world.network.engine.next_tick() > 10**6


def test_a_provider_that_goes_loses_the_container_and_its_peers_are_told() -> None:
    world = SmallWorld(equal_world())
    job_id = begun(world, "Running")
    world.run(5_000)
    provider, requester = world.provider_of(job_id), world.network.nodes[0]
    assert requester.peer_id in provider.core.connected
    assert provider.peer_id in requester.core.connected
    assert len(provider.containers) == 1
    world.change(provider.number, online=False)
    assert not provider.containers
    assert not provider.online
    world.run(100)
    assert provider.peer_id not in requester.core.connected
    assert world.run_until(lambda: world.ended(job_id))
    assert world.provider_of(job_id) is not provider
    assert told(world.names(job_id)) == ELSEWHERE
    (retrying,) = [each for each in world.events[job_id] if isinstance(each, Retrying)]
    assert retrying.reason is Failure.PROVIDER_LOST
    world.check()


def test_a_provider_that_comes_back_says_that_the_container_is_lost() -> None:
    world = SmallWorld(equal_world())
    job_id = begun(world, "Running")
    world.run(5_000)
    provider = world.provider_of(job_id)
    world.change(provider.number, online=False)
    world.run(1_000)
    world.change(provider.number, online=True)
    assert world.run_until(lambda: world.ended(job_id))
    (retrying,) = [each for each in world.events[job_id] if isinstance(each, Retrying)]
    assert retrying.reason is Failure.SANDBOX_FAILED
    names = told(world.names(job_id))
    assert names == [*ELSEWHERE[:7], *AT_ONCE], "what a stranger says of a job makes a new call"
    world.run(60_000)
    assert not provider.disk.launched
    assert not provider.core.provider.leases
    assert len(world.settled) == 1
    world.check()


@pytest.mark.parametrize("away_ms", [3_000, 60_000])
def test_a_requester_that_comes_back_continues_its_job(away_ms: int) -> None:
    world = SmallWorld(equal_world())
    job_id = begun(world, "Running")
    world.run(5_000)
    requester, core = world.network.nodes[0], world.network.nodes[0].core
    world.change(0, online=False)
    world.run(away_ms)
    world.change(0, online=True)
    assert requester.core is not core
    assert world.run_until(lambda: world.ended(job_id))
    world.run(60_000)
    assert told(world.names(job_id)) == AT_ONCE
    assert world.names(job_id).count("Announced") == 1
    assert len(world.settled) == 1
    world.check()


@pytest.mark.parametrize(
    "phase", ["Announced", "Awarded", "Fetching", "Starting", "Running", "Returning"]
)
@pytest.mark.parametrize("who", ["provider", "requester"])
@pytest.mark.parametrize("away_ms", [0, 40_000])
def test_whoever_goes_in_whatever_phase_the_job_ends_and_is_paid_once(
    phase: str, who: str, away_ms: int
) -> None:
    world = SmallWorld(equal_world())
    gone: list[SimulatedNode] = []

    def go(job_id: JobId, event: Any) -> None:
        if gone or type(event).__name__ != phase:
            return
        requester = world.network.nodes[0]
        gone.append(
            requester if who == "requester" or phase == "Announced" else world.provider_of(job_id)
        )
        world.network.engine.after(0, lambda: world.change(gone[0].number, online=False))

    world.reacts = go
    job_id = world.submit()
    assert world.run_until(lambda: bool(gone) and not gone[0].online)
    world.run(away_ms)
    world.change(gone[0].number, online=True)
    assert world.run_until(lambda: world.is_at(job_id, "Done"))
    world.run(120_000)
    assert len(world.settled) == 1
    assert [node for node in world.network.nodes.values() if node.disk.outbox] == []
    world.check()


def test_a_core_that_is_replaced_is_freed_without_the_garbage_collector() -> None:
    world = SmallWorld(equal_world())
    provider = world.provider_of(begun(world, "Running"))
    gc.collect()
    gc.disable()
    try:
        for node in (world.network.nodes[0], provider):
            core = node.core
            parts = [core.requester.scheduler, core.provider, core.candidates, core.requester]
            before = [weakref.ref(part) for part in (core, *parts)]
            del core, parts
            world.change(node.number, online=False)
            world.change(node.number, online=True)
            assert [each() for each in before] == [None] * len(before)
    finally:
        gc.enable()


def test_what_a_node_can_prove_it_remembers() -> None:
    world = SmallWorld(equal_world())
    node, culprit = world.network.node(1), world.network.nodes[0].peer_id
    assert node is not None
    finding = Finding(
        next(iter(Fraud)), culprit, None, CallId(bytes(32)), START_MS, NETWORK_ID, "it is one"
    )
    world.network._do_all(node, [effects.Accuse(finding, b"proof")])
    world.change(1, online=False)
    world.change(1, online=True)
    assert node.core.standings.of(culprit).barred_until_ms > START_MS


def test_wake_ups_do_not_pile_up() -> None:
    world = SmallWorld(equal_world())
    for _ in range(8):
        begun(world, "Done", work_ms=2_000)
    for node in world.network.nodes.values():
        assert node.wakes == sorted(set(node.wakes), reverse=True)
        assert len(node.wakes) <= 12
    world.run(10)
    assert sum(map(len, world.network.engine._at.values())) <= 60


def test_who_slept_through_its_deadlines_wakes_once_and_goes_on() -> None:
    world = SmallWorld(equal_world())
    for number in range(1, 5):  # So they renew their records once in a while.
        node = world.network.node(number)
        assert node is not None
        world.network.give(node, inputs.PolicyChanged(node.policy))
    job_id = begun(world, "Running")
    provider = world.provider_of(job_id)
    assert len(provider.wakes) > 1
    woken: list[int] = []
    give = world.network.give

    def watch(node: SimulatedNode, event: inputs.Input) -> None:
        if node is provider and isinstance(event, inputs.DeadlineReached):
            woken.append(world.network.now_ms)
        give(node, event)

    world.network.give = watch  # type: ignore[method-assign]
    world.network.engine.skip(600_000_000)
    begin_ms = world.network.now_ms
    world.run(60_000)
    assert woken.count(begin_ms) == 1
    assert world.run_until(lambda: world.ended(job_id))
    world.check()


def test_a_node_whose_wake_ups_are_cancelled_is_not_woken() -> None:
    world = SmallWorld(equal_world())
    node = world.network.node(1)
    assert node is not None
    world.network.give(node, inputs.PolicyChanged(node.policy))
    assert node.wakes
    node.wakes.clear()
    handled: list[Any] = []
    world.network.give = lambda _, event: handled.append(event)
    world.run(600_000)
    assert handled == []


def test_a_node_that_has_gone_hears_nothing() -> None:
    world = SmallWorld(equal_world())
    node = world.network.node(1)
    assert node is not None
    world.change(1, online=False)
    world.network.give(node, inputs.StopRequested())
    assert node.core.policy.providing
    with pytest.raises(AssertionError):
        world.network.come_back(world.network.nodes[0], node.core)


def test_a_node_that_has_gone_and_did_nothing_is_made_when_it_is_back() -> None:
    world = SmallWorld(equal_world())
    world.change(2, online=False)
    assert world.network.node(2) is None
    world.change(2, online=True)
    node = world.network.node(2)
    assert node is world.network.node(2)
    assert node is not None
    assert node.core.policy == world.simulation.population.policy(2)


def test_a_gang_is_measured() -> None:
    world = SmallWorld(equal_world())
    lease_id = LeaseId(bytes(32))
    node = world.network.node(1)
    assert node is not None
    given: list[Any] = []
    world.network.give = lambda _, event: given.append(event)
    peers = tuple(world.simulation.population.identities.peer_of(each) for each in (2, 3))
    world.change(3, online=False)
    world.network._do(node, effects.MeasureRoundTrips(lease_id, peers, START_MS + 6_000))
    world.run(6_000)
    (measured,) = given
    near, away = measured.round_trips_us
    assert away == NOT_MEASURED
    assert 2 * 4_900 <= near <= 2 * 6_100


def test_who_comes_back_in_time_is_measured() -> None:
    world = SmallWorld(equal_world())
    node = world.network.node(1)
    assert node is not None
    given: list[Any] = []
    world.network.give = lambda _, event: given.append(event)
    peers = tuple(world.simulation.population.identities.peer_of(each) for each in (2, 3))
    world.change(3, online=False)
    wanted = effects.MeasureRoundTrips(LeaseId(bytes(32)), peers, START_MS + 6_000)
    world.network._do(node, wanted)
    world.run(1_700)
    assert given == []
    world.simulation.population.online[3] = True
    world.run(600)
    (measured,) = given
    assert NOT_MEASURED not in measured.round_trips_us


def test_candidates_are_reached_and_both_sides_know_it() -> None:
    world = SmallWorld(equal_world())
    one, other = world.network.node(1), world.network.node(2)
    assert one is not None
    assert other is not None
    world.network._do(one, effects.Reach((other.peer_id,)))
    world.run(100)
    assert one.core.connected == {other.peer_id: source_of(2)}
    assert other.core.connected == {one.peer_id: source_of(1)}


def test_addresses_are_all_different() -> None:
    assert source_of(1) == "10.0.0.1"
    assert len({source_of(number) for number in range(0, 2**24, 9_973)}) == -(-(2**24) // 9_973)


def test_time_is_counted_in_ticks_from_the_start() -> None:
    world = SmallWorld(equal_world())
    assert world.network.now_ms == START_MS
    world.network.engine.run(12_349)
    assert world.network.now_ms == START_MS + 1_234


def test_a_long_image_does_not_look_like_a_stall() -> None:
    world = SmallWorld(equal_world())
    job_id = begun(world, "Done", image_mib=3_000, work_ms=Duration(1_000))
    assert "Retrying" not in world.names(job_id)


def test_a_container_goes_on_while_its_daemon_is_away() -> None:
    world = SmallWorld(equal_world())
    job_id = begun(world, "Running")
    world.run(5_000)
    provider = world.provider_of(job_id)
    (container,) = provider.containers.values()
    world.network.stop_daemon(provider)
    world.run(1_000)
    world.network.come_back(provider, world.simulation._core(provider.number))
    assert list(provider.containers.values()) == [container]
    assert world.run_until(lambda: world.ended(job_id))
    assert "Retrying" not in world.names(job_id)
    assert world.events[job_id][-1].usage_ms == 20_000  # type: ignore[union-attr]
    world.check()


@pytest.mark.parametrize("behind_ms", [-5_000, 0, 5_000])
def test_a_node_reads_its_own_clock(behind_ms: int) -> None:
    world = SmallWorld(equal_world())
    node, seen = world.network.node(1), []
    assert node is not None
    world.change(1, online=False)
    node.behind_ms = behind_ms
    world.change(1, online=True)
    handle = node.core.handle
    node.core.handle = lambda event, now_ms: (  # type: ignore[method-assign]
        seen.append((now_ms, world.network.now_ms, node.core.next_deadline_ms())),
        handle(event, now_ms),
    )[1]
    world.run(600_000)
    assert seen
    assert {theirs - its for its, theirs, _ in seen} == {behind_ms}
    assert all(due_ms is None or due_ms <= its for its, _, due_ms in seen), "it wakes in time"
    assert any(due_ms == its for its, _, due_ms in seen), "and not too late"


def test_a_network_of_nodes_needs_nothing_of_the_extra() -> None:
    code = (
        "import sys, node.simulator.network\n"
        "extra = {'numpy', 'scipy', 'pyarrow', 'joblib', 'matplotlib'}\n"
        "assert not extra & set(sys.modules), extra & set(sys.modules)\n"
        "import node.simulator\n"
        "assert all(callable(getattr(node.simulator, name)) for name in node.simulator.__all__)\n"
        "assert extra & set(sys.modules)\n"
        "assert not hasattr(node.simulator, 'anything')\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
