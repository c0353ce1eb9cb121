"""A silent provider is asked before it is fenced, and a requester that is cut off fences nobody.

Spec: specs/survival.md#suspicion.
"""

import pytest

from protocol.machines.effects import ProbePeer
from protocol.machines.inputs import Isolated, PeerAnswered, PeerDisconnected, StateHeard
from protocol.machines.requester.lease import Broken, Executing
from protocol.values.limits import (
    CONFIRM_MS,
    LEASE_ABSENCE_MS,
    PREPARE_MS,
    STARTED_MS,
    SUSPECT_MS,
)
from protocol.values.reasons import Failure
from protocol.wire.messages import GONE, PREPARING, RUNNING, Heartbeat, LeaseEntry, LeaseQuery
from tests.driven_requester_lease import LEASE, PROVIDER, LeaseMachine, after

watched = pytest.mark.parametrize("steps", [0, 1, 2])
DISCONNECTED = PeerDisconnected(PROVIDER.peer_id)
ANSWERED = PeerAnswered(PROVIDER.peer_id)


def probes(machine: LeaseMachine) -> list[ProbePeer]:
    return [effect for effect in machine.effects if isinstance(effect, ProbePeer)]


@watched
def test_a_silent_provider_is_asked_and_fenced_within_20_seconds(steps: int) -> None:
    machine = after(steps)
    heard_ms = machine.now_ms
    machine.deadline_is_reached(0)
    assert machine.now_ms == heard_ms + SUSPECT_MS
    (probe,) = probes(machine)
    assert (probe.peer, probe.until_ms) == (PROVIDER.peer_id, machine.now_ms + CONFIRM_MS)
    assert machine.message_of(probe) == LeaseQuery((LeaseEntry(LEASE, steps + 1),))  # type: ignore[arg-type]
    machine.deadline_is_reached(0)
    assert isinstance(machine.state, Broken)
    assert machine.state.reason is Failure.PROVIDER_LOST
    assert machine.state.why == "the provider was silent for 16 s and does not answer"
    assert machine.now_ms - heard_ms < 20_000


@watched
def test_a_provider_whose_connection_closed_is_fenced_within_5_seconds(steps: int) -> None:
    machine = after(steps)
    machine.now_ms += 100
    closed_ms = machine.now_ms
    machine.take(DISCONNECTED)
    machine.take(DISCONNECTED)
    assert len(probes(machine)) == 1
    machine.deadline_is_reached(0)
    assert isinstance(machine.state, Broken)
    assert machine.now_ms - closed_ms <= 5_000


@watched
@pytest.mark.parametrize("sign", [ANSWERED, StateHeard(LEASE, 6, 0)])
def test_a_provider_that_answers_is_not_fenced(steps: int, sign: object) -> None:
    machine = after(steps)
    machine.deadline_is_reached(0)
    machine.time_passes(CONFIRM_MS)
    machine.take(sign)
    assert not machine.state.liveness.asked
    machine.deadline_is_reached(0)
    assert type(machine.state) is type(after(steps).state)
    assert len(probes(machine)) == 2, "it is silent again"


@watched
def test_a_heartbeat_ends_the_suspicion(steps: int) -> None:
    machine = after(steps)
    machine.deadline_is_reached(0)
    machine.hear(Heartbeat(LEASE, 1, RUNNING if steps else PREPARING, 0))
    assert machine.state.deadline_ms == machine.now_ms + SUSPECT_MS


@watched
def test_a_lease_that_its_provider_does_not_have_is_fenced_at_once(steps: int) -> None:
    machine = after(steps)
    machine.take(StateHeard(LEASE, GONE, 0))
    assert isinstance(machine.state, Broken)
    assert machine.state.why == "the provider no longer has the lease"


@watched
def test_signs_of_life_prolong_no_other_bound(steps: int) -> None:
    machine = after(steps)
    most_ms = [PREPARE_MS, STARTED_MS, TIMEOUT][steps]
    begun_ms = machine.now_ms
    while not machine.over:
        machine.time_passes(10_000)
        machine.take(ANSWERED)
        if machine.now_ms >= machine.state.deadline_ms - 1:
            machine.deadline_is_reached(0)
    assert begun_ms + most_ms - SUSPECT_MS <= machine.now_ms <= begun_ms + most_ms


TIMEOUT = 90_000 + 10 * 60_000


def be_cut_off(machine: LeaseMachine) -> None:
    """Let the deadline pass while this node has no peer at all."""
    machine.now_ms = machine.state.deadline_ms
    machine.take(Isolated(LEASE))
    assert machine.over or machine.state.deadline_ms > machine.now_ms


@watched
def test_who_is_cut_off_waits_and_then_asks(steps: int) -> None:
    machine = after(steps)
    cut_off_ms = machine.now_ms
    while machine.now_ms < cut_off_ms + 10 * 60_000:
        be_cut_off(machine)
    assert type(machine.state) is type(after(steps).state)
    machine.take(ANSWERED)
    assert not machine.over, "the time in which we were cut off does not count"
    if steps:
        assert machine.state.away_ms >= 9 * 60_000
    machine.fall_silent()
    assert isinstance(machine.state, Broken)


@watched
def test_who_is_cut_off_for_ever_gives_up(steps: int) -> None:
    machine = after(steps)
    cut_off_ms = machine.now_ms
    while not machine.over:
        be_cut_off(machine)
    assert 0 <= machine.now_ms - cut_off_ms - LEASE_ABSENCE_MS <= CONFIRM_MS


def test_an_absence_before_the_container_was_seen_to_run_counts_too() -> None:
    machine = after(1)
    for _ in range(5):
        be_cut_off(machine)
    machine.started()
    assert isinstance(machine.state, Executing)
    assert machine.state.away_ms == 5 * CONFIRM_MS
