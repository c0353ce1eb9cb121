"""Gangs of which a member fails, or whose requester crashes or is cut off.

Spec: specs/gangs.md#failure.
"""

import pytest

from protocol.core.jobs import Ending
from protocol.machines.events import (
    Announced,
    Failed,
    Fetching,
    Retrying,
    Returning,
    Running,
)
from protocol.machines.inputs import PeerDisconnected
from protocol.rules import standing
from protocol.values.limits import CONFIRM_MS, LEASE_ABSENCE_MS, SUSPECT_MS
from protocol.values.reasons import Failure
from protocol.wire.messages import (
    AwardAccept,
    AwardDecline,
    LeaseActive,
    LeaseConfirm,
    Ready,
)
from tests.simulated_gang import JOB_MS, Gang, launched
from tests.simulated_network import SimulatedNetwork, job_spec, provider_policy


def test_a_member_that_vanishes_between_hold_and_confirmation() -> None:
    gang = Gang(providers=4)
    lost = gang.providers[2]
    gang.network.drop = lambda sender, receiver, message: (
        lost.name in {sender, receiver} and isinstance(message, LeaseConfirm | LeaseActive)
    )
    gang.run()
    assert gang.endings() == {Ending.DONE}
    assert launched([lost]) == 0
    assert launched(gang.providers) == 3


def test_a_member_that_fails_stops_the_others_and_all_start_again() -> None:
    gang = Gang(providers=4)
    gang.until(Running)
    victim = next(node for node in gang.providers if node.containers)
    gang.network.crash(victim, machine=True)
    gang.run()
    assert gang.endings() == {Ending.DONE}
    retries = [gang.events(rank, Retrying) for rank in range(3)]
    assert [len(each) for each in retries] == [1, 1, 1]
    reasons = sorted(each[0].reason for each in retries)
    assert reasons == [Failure.MEMBER_FAILED, Failure.MEMBER_FAILED, Failure.PROVIDER_LOST]
    assert all(gang.ann.job(member).attempt == 1 for member in gang.members)


def test_without_retries_the_failure_of_one_is_the_failure_of_all() -> None:
    gang = Gang(providers=4, retries=0)
    gang.until(Running)
    victim = next(node for node in gang.providers if node.containers)
    gang.network.crash(victim, machine=True)
    gang.run()
    failures = [gang.events(rank, Failed)[0] for rank in range(3)]
    reasons = sorted(each.reason for each in failures)
    assert reasons == [Failure.MEMBER_FAILED, Failure.MEMBER_FAILED, Failure.PROVIDER_LOST]
    assert all("silent" in each.why or "member" in each.why for each in failures)


def test_a_gang_of_which_one_has_finished_cannot_start_again() -> None:
    gang = Gang(providers=4)
    gang.until(Running)
    victim = next(node for node in gang.providers if node.containers)
    gang.network.run(JOB_MS - 1_000)
    gang.network.crash(victim, machine=True)
    gang.run()
    assert gang.endings() == {Ending.DONE, Ending.FAILED}
    (failed,) = (one for rank in range(3) for one in gang.events(rank, Failed))
    assert failed.reason is Failure.PROVIDER_LOST
    assert "another member has finished" in failed.why
    assert not any(gang.events(rank, Retrying) for rank in range(3))


@pytest.mark.parametrize("after_ms", range(0, 2_600, 130))
def test_a_requester_that_crashes_at_any_time_runs_its_gang_once(after_ms: int) -> None:
    gang = Gang()
    gang.network.run(after_ms)
    gang.network.crash(gang.ann)
    gang.network.run(1_500)
    gang.network.restart(gang.ann)
    gang.run(300_000)
    assert gang.endings() == {Ending.DONE}


def test_the_bill_of_a_lost_provider_is_not_waited_for() -> None:
    network = SimulatedNetwork(job_ms=JOB_MS)
    providers = [network.add(name, provider_policy(cpus=2)) for name in ("ben", "cleo", "dan")]
    ann = network.add("ann")
    network.meet()
    members = network.submit_gang(ann, job_spec(nodes=4))
    assert network.run_until(lambda: launched(providers) == 4)
    victim = next(node for node in providers if len(node.containers) == 2)
    network.drop = lambda sender, receiver, message: victim.name in {sender, receiver}
    at_ms = network.now_ms
    assert network.run_until(lambda: launched(providers) == 8)
    assert network.now_ms - at_ms < SUSPECT_MS + CONFIRM_MS + 3_000
    assert network.run_until(lambda: all(network.ended(ann, member) for member in members))


def test_all_members_continue_from_their_checkpoints() -> None:
    gang = Gang(providers=4, checkpoint_ms=5_000)
    gang.until(Running)
    gang.network.run(12_000)
    victim = next(node for node in gang.providers if node.containers)
    gang.network.crash(victim, machine=True)
    gang.until(Retrying)
    assert gang.network.run_until(lambda: len(gang.events(0, Running)) == 2)
    leases = gang.ann.core.requester.leases.states.values()
    assert [bool(held.lease.workload.resume) for held in leases] == [True] * 3
    assert all(len(held.lease.workload.members) == 3 for held in leases)
    gang.run()
    assert gang.endings() == {Ending.DONE}


def test_a_provider_that_failed_a_gang_is_blamed_once() -> None:
    gang = Gang(providers=4)
    gang.network.prepare_fails.add("p0")
    gang.until(Retrying)
    gang.network.prepare_fails.clear()
    gang.run()
    assert gang.endings() == {Ending.DONE}
    blamed = gang.ann.core.standings.of(gang.providers[0].peer_id)
    assert blamed.failed <= standing.FAILURE


def test_a_cancelled_gang_is_cancelled_after_a_restart() -> None:
    gang = Gang()
    gang.network.stop_ms = 5_000
    gang.until(Running, 2)
    gang.network.cancel(gang.ann, gang.members[1])
    gang.network.run(500)
    gang.network.crash(gang.ann)
    gang.network.restart(gang.ann)
    gang.run()
    ends = [gang.events(rank, Failed)[-1] for rank in range(3)]
    assert {end.reason for end in ends} == {Failure.CANCELLED}


def test_the_end_of_a_member_does_not_undo_a_cancellation() -> None:
    gang = Gang()
    gang.network.stop_ms = 5_000
    gang.network.exit_codes["p1"] = 3
    gang.until(Running, 2)
    gang.network.run(JOB_MS - 500)
    assert gang.network.run_until(lambda: bool(gang.events(1, Returning)))
    gang.network.cancel(gang.ann, gang.members[0])
    gang.run()
    others = [end for rank in range(3) for end in gang.events(rank, Failed)]
    assert {end.reason for end in others} <= {Failure.CANCELLED}


def test_a_requester_that_is_cut_off_for_too_long_gives_its_gang_up() -> None:
    gang = Gang()
    gang.network.drop = lambda sender, receiver, message: isinstance(message, Ready)
    gang.until(Fetching, 2)
    gang.network.drop = lambda sender, receiver, message: True
    for node in gang.providers:
        gang.network.give(gang.ann, PeerDisconnected(node.peer_id))
    gang.network.run(2 * LEASE_ABSENCE_MS)
    assert not gang.ann.core.requester.leases.states


def test_a_gang_that_finds_no_slot_again_and_again_pauses_longer() -> None:
    gang = Gang(queue_ms=600_000)
    gang.network.drop = lambda sender, receiver, message: (
        sender == "p0" and isinstance(message, AwardAccept | AwardDecline)
    )
    gang.network.run(500_000)
    assert len(gang.events(0, Announced)) < 30
    gang.network.drop = lambda sender, receiver, message: False
    gang.run(300_000)
    assert gang.endings() == {Ending.DONE}
