"""Gangs in a simulated network: all members run, or none.

Spec: specs/gangs.md.
"""

import pytest

from protocol.core.jobs import Ending
from protocol.machines.events import (
    Announced,
    Awarded,
    Done,
    Failed,
    Queued,
    Retrying,
    Running,
)
from protocol.machines.requester import award, lease
from protocol.values.ids import JobId
from protocol.values.limits import ACCEPT_MS, DISTANCE_MS, GANG_HOLD_MS, HELD_MS, MEASURE_MS
from protocol.values.reasons import Failure
from protocol.wire.messages import (
    AwardAccept,
    AwardDecline,
    Ready,
    RoundTrips,
)
from tests.simulated_gang import JOB_MS, Gang, launched
from tests.simulated_network import SimulatedNetwork, job_spec, provider_policy
from tests.simulated_node import Node


def test_all_members_run_at_the_same_time_each_on_its_slot() -> None:
    gang = Gang()
    gang.run()
    assert gang.endings() == {Ending.DONE}
    assert [len(node.launched) for node in gang.providers] == [1, 1, 1]
    assert len(gang.events(0, Announced)) == 1, "one call for all"
    assert [len(gang.events(rank, Awarded)) for rank in range(3)] == [1, 1, 1]


def test_members_know_each_other_by_rank() -> None:
    gang = Gang()
    gang.until(Running)
    leases = {
        held.lease.job_id: held.lease for held in gang.ann.core.requester.leases.states.values()
    }
    ranked = [leases[member] for member in gang.members]
    assert {held.workload.members for held in ranked} == {ranked[0].workload.members}
    assert [one.peer for one in ranked[0].workload.members] == [held.provider for held in ranked]
    names = {variable.name: variable.value for variable in ranked[2].workload.env}
    assert (names["MUTIRAO_NODES"], names["MUTIRAO_RANK"]) == ("3", "2")


def test_nobody_starts_before_all_are_ready() -> None:
    gang = Gang()
    slow = gang.providers[1]
    gang.network.drop = lambda sender, receiver, message: (
        isinstance(message, Ready) and sender == slow.name
    )
    gang.network.run(20_000)
    assert launched(gang.providers) == 0
    leases = gang.ann.core.requester.leases.states.values()
    assert all(isinstance(held, lease.Deploying) for held in leases)
    gang.network.drop = lambda sender, receiver, message: False
    gang.run()
    assert gang.endings() == {Ending.DONE}


def test_a_gang_larger_than_the_network_waits_and_says_so() -> None:
    gang = Gang(nodes=4, queue_ms=300_000)
    gang.network.run(10_000)
    places = {gang.ann.core.place_of(member) for member in gang.members}
    assert [place.place for place in places if place] == [1], "the first waits for all"
    for rank in range(4):
        (queued,) = gang.events(rank, Queued)
        assert queued.reason is Failure.NO_MATCH
        assert "have 3 of the 4 slots that it needs at once" in queued.why
    gang.providers.append(gang.network.add("late", provider_policy(cpus=1)))
    gang.network.meet()
    gang.run(300_000)
    assert gang.endings() == {Ending.DONE}


def test_a_gang_that_does_not_wait_fails_as_a_whole() -> None:
    gang = Gang(nodes=4, queue_ms=0)
    gang.run()
    assert gang.endings() == {Ending.FAILED}
    assert launched(gang.providers) == 0


def test_a_member_that_declines_is_replaced_while_the_others_hold() -> None:
    gang = Gang(providers=4)
    lost = gang.providers[0]
    gang.network.drop = lambda sender, receiver, message: (
        sender == lost.name and isinstance(message, AwardAccept | AwardDecline)
    )
    gang.run()
    assert gang.endings() == {Ending.DONE}
    assert len(gang.events(0, Announced)) == 1
    assert launched([lost]) == 0


def test_without_a_replacement_all_holds_are_released_within_their_time() -> None:
    gang = Gang(queue_ms=300_000)
    lost = gang.providers[0]
    gang.network.drop = lambda sender, receiver, message: (
        sender == lost.name and isinstance(message, AwardAccept | AwardDecline)
    )
    gang.until(Awarded)
    others = gang.providers[1:]
    assert gang.network.run_until(lambda: all(node.core.provider.leases for node in others), 1_000)
    assert gang.network.run_until(
        lambda: not any(node.core.provider.leases for node in others), HELD_MS
    )
    gang.network.run(20_000)
    assert launched(gang.providers) == 0
    gang.network.drop = lambda sender, receiver, message: False
    gang.run(300_000)
    assert gang.endings() == {Ending.DONE}
    assert not gang.events(0, Retrying), "no attempt has failed"


def test_a_gang_that_does_not_wait_asks_again_in_each_attempt() -> None:
    gang = Gang(queue_ms=0, retries=1)
    lost = gang.providers[0]
    gang.network.drop = lambda sender, receiver, message: (
        sender == lost.name and isinstance(message, AwardAccept | AwardDecline)
    )
    gang.run()
    assert gang.endings() == {Ending.FAILED}
    assert [len(gang.events(rank, Retrying)) for rank in range(3)] == [1, 1, 1]
    assert launched(gang.providers) == 0


def test_a_member_that_ends_with_an_error_ends_the_gang() -> None:
    gang = Gang()
    gang.network.exit_codes["p1"] = 3
    gang.run()
    ends = [ended for rank in range(3) for ended in gang.events(rank, Done | Failed)]
    assert any(isinstance(ended, Done) and ended.exit_code == 3 for ended in ends)
    assert len(ends) == 3


@pytest.mark.parametrize("rank", [0, 2])
@pytest.mark.parametrize("when", [Awarded, Running])
def test_a_cancelled_member_cancels_the_gang(rank: int, when: type) -> None:
    gang = Gang()
    gang.until(when)
    gang.network.cancel(gang.ann, gang.members[rank])
    gang.run()
    assert gang.endings() == {Ending.CANCELLED}


def test_a_waiting_gang_is_cancelled() -> None:
    gang = Gang(nodes=4)
    gang.until(Queued)
    gang.network.cancel(gang.ann, gang.members[3])
    gang.run()
    assert gang.endings() == {Ending.CANCELLED}


def test_two_gangs_that_want_the_same_nodes_both_run() -> None:
    network = SimulatedNetwork(seed=4, delay_ms=(5, 60))
    providers = [network.add(f"p{n}", provider_policy(cpus=1)) for n in range(4)]
    owners = [network.add(name) for name in ("ann", "amy", "ada")]
    network.meet()
    gangs = [(owner, network.submit_gang(owner, job_spec(nodes=4))) for owner in owners]
    everybody: list[tuple[Node, JobId]] = [(who, one) for who, gang in gangs for one in gang]
    assert network.run_until(lambda: all(network.ended(*one) for one in everybody), 600_000)
    assert {who.job(one).ending for who, one in everybody} == {Ending.DONE}
    assert launched(providers) == 12


def test_a_gang_holds_for_less_time_than_its_providers() -> None:
    assert 0 < GANG_HOLD_MS < HELD_MS
    assert award.LONGEST_MS[award.Accepted] == GANG_HOLD_MS


def test_all_members_are_in_the_cheapest_region_that_has_room() -> None:
    network = SimulatedNetwork()
    places = [("asia", 100), ("europe", 500), ("europe", 900), ("africa", 700), ("africa", 800)]
    providers = [
        network.add(f"p{number}", provider_policy(cpu=cpu, cpus=1, region=region))
        for number, (region, cpu) in enumerate(places)
    ]
    ann = network.add("ann")
    network.meet()
    members = network.submit_gang(ann, job_spec(nodes=2, same_region=True))
    assert network.run_until(lambda: all(network.ended(ann, member) for member in members))
    assert [len(node.launched) for node in providers] == [0, 1, 1, 0, 0]
    large = network.submit_gang(ann, job_spec(nodes=3, same_region=True, queue_ms=0))
    assert network.run_until(lambda: all(network.ended(ann, member) for member in large))
    (failed,) = (one for one in ann.disk.events[large[0]] if isinstance(one, Failed))
    assert failed.reason is Failure.NO_MATCH
    assert "no known region has enough slots" in failed.why


class Measured(Gang):
    """A gang whose members must be near each other; "far" nodes are far from all others."""

    def __init__(self, nodes: int = 3, providers: int = 4, far: str = "", **terms: int) -> None:
        super().__init__(nodes, providers, **({"max_round_trip_us": 20_000} | terms))
        self.asked = 0
        self.network.round_trip_us = self._measure
        self.far = set(far.split())

    def _measure(self, one: str, other: str) -> int:
        self.asked += 1
        return 83_000 if self.far & {one, other} else 7_000


def test_members_near_each_other_run() -> None:
    gang = Measured()
    gang.run()
    assert gang.endings() == {Ending.DONE}
    assert gang.asked == 6, "each of three measured both others"
    assert len(gang.events(0, Announced)) == 1


def test_without_a_limit_nobody_measures() -> None:
    gang = Measured(max_round_trip_us=0)
    gang.run()
    assert gang.endings() == {Ending.DONE}
    assert gang.asked == 0


def test_who_is_too_far_from_the_others_is_left_out_of_the_next_call() -> None:
    gang = Measured(far="p0")
    gang.run()
    assert gang.endings() == {Ending.DONE}
    assert [len(node.launched) for node in gang.providers] == [0, 1, 1, 1]
    (queued,) = gang.events(0, Queued)
    assert queued.reason is Failure.TOO_FAR
    assert "is 83.000 ms; the job wants at most 20 ms (2 pairs are too far)" in queued.why
    assert not gang.events(0, Retrying), "no attempt has failed"
    assert len(gang.events(0, Awarded)) == 2, "the second time they are near"


@pytest.mark.parametrize(
    "measured_us, saying", [(83_000, "is 83.000 ms"), (0, "could not be measured")]
)
def test_one_end_of_a_pair_is_enough_to_be_too_far(measured_us: int, saying: str) -> None:
    """A member that lies about its distance does not make the other's measurement shorter."""
    gang = Measured(nodes=2, providers=2, queue_ms=0, retries=0)
    gang.network.round_trip_us = lambda one, other: measured_us if one == "p0" else 1
    gang.run()
    (failed,) = gang.events(0, Failed)
    assert failed.reason is Failure.TOO_FAR
    assert saying in failed.why


def test_members_on_one_node_have_nothing_to_measure() -> None:
    network = SimulatedNetwork()
    network.add("big", provider_policy(cpus=3))
    ann = network.add("ann")
    network.meet()
    network.round_trip_us = lambda one, other: 0
    members = network.submit_gang(ann, job_spec(nodes=3, max_round_trip_us=1))
    assert network.run_until(lambda: all(network.ended(ann, member) for member in members))
    assert {ann.job(member).ending for member in members} == {Ending.DONE}


def test_a_gang_that_nobody_is_near_enough_for_waits_and_tries_again_in_minutes() -> None:
    gang = Measured(far="p0 p1", queue_ms=3_600_000)
    gang.network.run(60_000)
    assert launched(gang.providers) == 0
    asked = gang.asked
    gang.network.run(DISTANCE_MS // 2)
    assert gang.asked == asked, "remembered"
    assert gang.endings() == {Ending.OPEN}
    gang.far.clear()
    gang.run(DISTANCE_MS)
    assert gang.endings() == {Ending.DONE}


def test_a_gang_finds_the_cluster_that_is_large_enough() -> None:
    """Four clusters; the first nodes, one of each, are the cheapest."""
    gang = Measured(nodes=4, providers=13, queue_ms=300_000)
    cluster = {node.name: number % 4 for number, node in enumerate(gang.providers)}
    gang.network.round_trip_us = lambda one, other: (
        7_000 if cluster[one] == cluster[other] else 83_000
    )
    gang.run(60_000)
    assert gang.endings() == {Ending.DONE}
    assert {cluster[node.name] for node in gang.providers if node.launched} == {0}


def test_a_member_that_never_says_what_it_measured_is_replaced() -> None:
    gang = Measured(queue_ms=300_000)
    silent = gang.providers[0]
    gang.network.drop = lambda sender, receiver, message: (
        sender == silent.name and isinstance(message, RoundTrips)
    )
    gang.until(Awarded)
    limit_ms = ACCEPT_MS + MEASURE_MS + 2 * ACCEPT_MS
    gang.network.run(limit_ms)
    assert not any(
        isinstance(state, award.Measuring)
        for state in gang.ann.core.requester.scheduler.awards.states.values()
        if state.placement.provider == silent.peer_id
    )
    gang.run(300_000)
    assert gang.endings() == {Ending.DONE}
    assert launched([silent]) == 0


def test_the_capacity_is_held_longer_for_a_measurement_and_then_released() -> None:
    gang = Measured(providers=3, queue_ms=300_000)
    gang.network.drop = lambda sender, receiver, message: isinstance(message, RoundTrips)
    held = lambda: [node for node in gang.providers if node.core.provider.leases]  # noqa: E731
    assert gang.network.run_until(lambda: len(held()) == 3)
    gang.network.drop = lambda sender, receiver, message: sender == "ann" or receiver == "ann"
    assert gang.network.run_until(lambda: not held(), MEASURE_MS + HELD_MS)


@pytest.mark.parametrize("node", ["p1", "ann"])
def test_a_node_that_restarts_while_it_measures_delays_the_gang_at_most(node: str) -> None:
    gang = Measured(providers=3, queue_ms=300_000)
    victim = next(one for one in gang.network.nodes.values() if one.name == node)
    states = gang.ann.core.requester.scheduler.awards.states
    assert gang.network.run_until(
        lambda: any(isinstance(state, award.Measuring) for state in states.values())
    )
    gang.network.crash(victim)
    gang.network.run(500)
    gang.network.restart(victim)
    gang.run(300_000)
    assert gang.endings() == {Ending.DONE}


PLACES = [("asia", 100), ("asia", 200), ("europe", 500), ("", 50), ("africa", 700), ("asia", 90)]


def spread_network(job_ms: int = 2_000) -> tuple[SimulatedNetwork, Node, list[Node]]:
    """Return nodes of one processor in three regions, and one that states none."""
    network = SimulatedNetwork(job_ms=job_ms)
    providers = [
        network.add(f"p{number}", provider_policy(cpu=cpu, cpus=1, region=region))
        for number, (region, cpu) in enumerate(PLACES)
    ]
    ann = network.add("ann")
    network.meet()
    return network, ann, providers


def test_each_member_is_in_a_region_of_its_own() -> None:
    network, ann, providers = spread_network()
    members = network.submit_gang(ann, job_spec(nodes=3, spread_regions=True))
    assert network.run_until(lambda: all(network.ended(ann, member) for member in members))
    assert {ann.job(member).ending for member in members} == {Ending.DONE}
    assert [len(node.launched) for node in providers] == [0, 0, 1, 0, 1, 1]


def test_fewer_regions_than_members_are_told_at_once() -> None:
    network, ann, _ = spread_network()
    large = network.submit_gang(ann, job_spec(nodes=4, spread_regions=True, queue_ms=0))
    assert network.run_until(lambda: all(network.ended(ann, member) for member in large), 10_000)
    (failed,) = (one for one in ann.disk.events[large[0]] if isinstance(one, Failed))
    assert failed.reason is Failure.NO_MATCH
    assert "they are in 3 of the 4 regions that it needs; 1 states no region" in failed.why


def test_a_member_that_declines_is_replaced_in_a_region_that_is_left() -> None:
    network, ann, providers = spread_network()
    lost = providers[5]
    network.drop = lambda sender, receiver, message: (
        sender == lost.name and isinstance(message, AwardAccept | AwardDecline)
    )
    members = network.submit_gang(ann, job_spec(nodes=3, spread_regions=True))
    assert network.run_until(lambda: all(network.ended(ann, member) for member in members))
    assert [len(node.launched) for node in providers] == [1, 0, 1, 0, 1, 0]
    assert sum(isinstance(one, Announced) for one in ann.disk.events[members[0]]) == 1


def test_a_region_that_is_busy_gives_way_to_the_next() -> None:
    network = SimulatedNetwork(job_ms=JOB_MS)
    places = [("europe", 500), ("europe", 500), ("africa", 700), ("africa", 800)]
    providers = [
        network.add(f"p{number}", provider_policy(cpu=cpu, cpus=1, region=region))
        for number, (region, cpu) in enumerate(places)
    ]
    ann = network.add("ann")
    network.meet()
    for _ in range(2):
        network.submit_gang(ann, job_spec(nodes=2, same_region=True))
    assert network.run_until(lambda: launched(providers) == 4, JOB_MS)
