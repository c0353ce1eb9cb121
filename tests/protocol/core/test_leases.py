"""The leases of a requester: who may speak for a provider, and what their ends mean for it.

Spec: specs/lease.md#requester.
"""

from dataclasses import replace

from protocol.machines.events import Done, Fetching, Retrying, Running
from protocol.machines.inputs import PreparationMeasured
from protocol.rules import standing
from protocol.rules.metering import amount_of
from protocol.rules.start_promise import LATE_MS, LATE_RATIO, LAUNCH_MS, Preparation
from protocol.values.limits import VOUCHER_MS
from protocol.wire.messages import LeaseRelease, Ready
from tests.simulated_network import SimulatedNetwork, job_spec, provider_policy
from tests.simulated_node import Node
from tests.strategies import SIGNERS


def network_of_two() -> tuple[SimulatedNetwork, Node, Node]:
    network = SimulatedNetwork()
    ann, ben = network.add("ann"), network.add("ben", provider_policy())
    network.meet()
    return network, ann, ben


def happened(node: Node, kind: type) -> bool:
    return any(isinstance(event, kind) for story in node.disk.events.values() for event in story)


def test_who_paid_for_what_failed_is_told_how_much() -> None:
    network, ann, ben = network_of_two()
    network.job_ms = 60_000
    job_id = network.submit(ann)
    network.run(30_000)
    network.crash(ben, machine=True)
    assert network.run_until(lambda: happened(ann, Retrying))
    (retrying,) = [event for event in ann.disk.events[job_id] if isinstance(event, Retrying)]
    assert retrying.provider == ben.peer_id
    assert retrying.usage_ms >= VOUCHER_MS, "a voucher was signed before it fell silent"
    assert retrying.amount == amount_of(job_spec().terms.rate_max, retrying.usage_ms)


def test_a_stranger_cannot_speak_for_the_provider() -> None:
    network, ann, _ = network_of_two()
    network.submit(ann)
    assert network.run_until(lambda: happened(ann, Fetching))
    (lease_id,) = ann.core.requester.leases.states
    before = dict(ann.core.requester.leases.states)
    stranger = SIGNERS[5]
    for message in (Ready(lease_id), LeaseRelease(lease_id, 1)):
        assert ann.core.handle(stranger.sign(message), network.now_ms) == []
    assert ann.core.requester.leases.states == before


def test_a_provider_that_finishes_a_job_and_one_that_stops_with_notice_are_remembered() -> None:
    network, ann, ben = network_of_two()
    network.submit(ann)
    assert network.run_until(lambda: happened(ann, Done))
    proven = ann.core.standings.of(ben.peer_id)
    assert (proven.done, proven.failed) == (standing.JOB, 0)
    network.submit(ann)
    assert network.run_until(lambda: len(ben.launched) == 2)
    network.stop(ben)
    assert network.run_until(lambda: happened(ann, Retrying))
    failed = ann.core.standings.of(ben.peer_id)
    assert failed.failed == standing.FAILURE
    assert failed.strikes == 0, "notice breaks no promise, but the work is lost"


def test_who_starts_later_than_promised_is_believed_less() -> None:
    network, ann, ben = network_of_two()
    ben.core.handle(PreparationMeasured(Preparation(1, 1)), network.now_ms)
    job_id = network.submit(ann)
    assert network.run_until(lambda: happened(ann, Fetching))
    leases = ann.core.requester.leases
    state = leases.of_job(job_id)
    assert state.lease.latest_start_ms == network.now_ms + LATE_RATIO * LAUNCH_MS + LATE_MS
    soon = replace(state.lease, latest_start_ms=network.now_ms - 7_000)
    leases.states[state.lease.lease_id] = replace(state, lease=soon)
    assert network.run_until(lambda: happened(ann, Running))
    (running,) = [event for event in ann.disk.events[job_id] if isinstance(event, Running)]
    assert running.late_ms > 7_000
    assert ann.core.standings.of(ben.peer_id).failed == standing.LATE


def test_who_has_a_lease_is_known_until_it_ends() -> None:
    network, ann, ben = network_of_two()
    job_id = network.submit(ann)
    assert network.run_until(lambda: happened(ann, Running))
    leases = ann.core.requester.leases
    assert job_id in leases
    assert leases.of_job(job_id).lease.provider == ben.peer_id
    assert leases.has_any_of(ben.peer_id)
    assert network.run_until(lambda: network.ended(ann, job_id))
    assert job_id not in leases
    assert not leases.has_any_of(ben.peer_id)
    assert leases.next_deadline_ms() is None
