"""A job is told before its provider stops, and the lease ends when its last checkpoint is safe.

Spec: specs/checkpoints.md#notice.
"""

from dataclasses import replace

import pytest

from protocol.machines.effects import Drop, Extend, TakeCheckpoint, Terminate
from protocol.machines.provider.lease import Ended, Leaving
from protocol.values.reasons import Release
from protocol.wire.messages import Checkpoint, Heartbeat, LeaseRelease, PreemptNotice, Released
from tests.driven import POLICY
from tests.driven_provider_lease import ATTEMPT, LEASE, SAVING, ServingMachine, after


def told() -> ServingMachine:
    machine = after(5, saves=True)
    machine.owner_stops()
    return machine


def test_requester_and_job_are_told_and_the_job_may_run_on() -> None:
    machine = told()
    assert isinstance(machine.state, Leaving)
    (notice,) = machine.sent_of(PreemptNotice)
    assert (notice.notice_ms, notice.reason) == (POLICY.notice_ms, Release.STOPPING)
    assert Terminate(LEASE, SAVING) in machine.effects
    assert Extend(LEASE, 35_000 + POLICY.notice_ms) in machine.effects
    assert TakeCheckpoint(LEASE, SAVING, b"") in machine.effects


def test_the_lease_ends_as_soon_as_the_last_checkpoint_is_safe() -> None:
    machine = told()
    machine.time_passes(1_000)
    machine.checkpoint_is_taken(1)
    machine.container_exits(143, 4_000, "")
    assert isinstance(machine.state, Leaving), "it waits for the answer"
    machine.checkpoint_is_taken(2)
    machine.checkpoint_is_answered(1, kept=True)
    assert isinstance(machine.state, Leaving), "it waits for the newest"
    machine.checkpoint_is_answered(2, kept=True)
    assert isinstance(machine.state, Ended)
    assert machine.sent_of(LeaseRelease)[-1].reason == Release.STOPPING
    assert Drop(LEASE) in machine.effects


@pytest.mark.parametrize("failed", [True, False])
def test_a_job_that_ends_without_a_checkpoint_keeps_nobody_waiting(failed: bool) -> None:
    machine = told()
    if failed:
        machine.container_fails("lost")
    else:
        machine.container_exits(0, 4_000, "")
    assert isinstance(machine.state, Ended)


def test_a_job_that_does_not_end_runs_for_its_notice_and_no_longer() -> None:
    machine = told()
    begun_ms, beats = machine.now_ms, len(machine.sent_of(Heartbeat))
    while isinstance(machine.state, Leaving):
        machine.deadline_is_reached(0)
    assert machine.now_ms - begun_ms == POLICY.notice_ms
    assert len(machine.sent_of(Heartbeat)) > beats + 4, "its requester knows that it lives"
    assert len(machine.sent_of(Checkpoint)) == 0
    assert len(machine.effects_of(TakeCheckpoint)) > 4


def test_after_the_end_of_the_container_nothing_more_is_looked_for() -> None:
    machine = told()
    machine.checkpoint_is_taken(1)
    machine.container_exits(143, 4_000, "")
    looked = len(machine.effects_of(TakeCheckpoint))
    machine.deadline_is_reached(0)
    assert len(machine.effects_of(TakeCheckpoint)) == looked


def test_a_requester_that_releases_the_lease_meanwhile_is_not_billed() -> None:
    machine = told()
    machine.given_up()
    assert isinstance(machine.state, Ended)
    assert machine.sent_of(Released)[-1].receipt == b""


def test_a_node_that_dies_in_the_notice_releases_the_lease_when_it_is_back() -> None:
    machine = told()
    machine.node_restarts(0)
    machine.deadline_is_reached(0)
    assert isinstance(machine.state, Ended)
    assert machine.sent_of(LeaseRelease)[-1].reason == Release.STOPPING


@pytest.mark.parametrize("why", ["no checkpoint", "not started", "paused", "no notice"])
def test_a_job_that_could_save_nothing_is_not_told(why: str) -> None:
    machine = after(5 if why != "not started" else 3, saves=why != "no checkpoint")
    if why == "not started":
        machine.told_to_start(ATTEMPT)
    while why == "paused" and not machine.state.is_paused:
        machine.deadline_is_reached(0)
    if why == "no notice":
        machine.policy = replace(machine.policy, notice_ms=0)
    machine.owner_stops()
    assert isinstance(machine.state, Ended)
    assert machine.effects_of(Terminate) == []
    assert machine.sent_of(LeaseRelease)[-1].reason == Release.STOPPING


def test_an_owner_who_reclaims_the_machine_says_how_long_the_job_has() -> None:
    machine = after(5, saves=True)
    machine.owner_stops(5_000)
    assert machine.sent_of(PreemptNotice)[-1].notice_ms == 5_000
    machine.owner_stops(60_000)
    assert machine.state.until_ms == machine.now_ms + 5_000, "it only gets shorter"
    machine.owner_stops(1_000)
    assert machine.state.until_ms == machine.now_ms + 1_000
    machine.deadline_is_reached(0)
    assert isinstance(machine.state, Ended)


def test_without_time_to_save_its_state_a_job_ends_at_once() -> None:
    machine = after(5, saves=True)
    machine.owner_stops(0)
    assert isinstance(machine.state, Ended)
