"""A lease goes on after a restart, also if the clock was set back meanwhile.

Spec: specs/core.md#recovery.
"""

from dataclasses import replace

import pytest

from protocol.machines.effects import FetchOutputs, FollowLog
from protocol.machines.inputs import DeadlineReached
from protocol.machines.requester import lease
from protocol.machines.requester.lease import Broken
from protocol.rules.metering import payable
from protocol.values.limits import HEARTBEAT_MS, PREPARE_MS, RELEASE_MS, RETURN_MS, SILENCE_MS
from protocol.wire.messages import RUNNING, Voucher
from tests.driven_requester_lease import LeaseMachine, after

HOUR_MS = 3_600_000


def restarted(machine: LeaseMachine, back_ms: int) -> LeaseMachine:
    machine.now_ms -= back_ms
    machine.node_restarts()
    return machine


@pytest.mark.parametrize("steps, wanted", [(0, []), (1, []), (2, [FollowLog]), (4, [FetchOutputs])])
def test_what_was_going_on_begins_again(steps: int, wanted: list[type]) -> None:
    machine = after(steps)
    _, effects = lease.resume(machine.state, machine.context)
    assert [type(effect) for effect in effects] == wanted


@pytest.mark.parametrize("back_ms", [0, HOUR_MS])
def test_nothing_lasts_longer_for_a_clock_that_was_set_back(back_ms: int) -> None:
    deploying, launching, executing, fetched = (
        restarted(after(steps), back_ms) for steps in (0, 1, 2, 4)
    )
    cancelled = after(2)
    cancelled.user_cancels()
    restarted(cancelled, back_ms)
    left = [machine.state.deadline_ms - machine.now_ms
            for machine in (deploying, launching, executing, fetched, cancelled)]  # fmt: skip
    assert left == [SILENCE_MS, SILENCE_MS, SILENCE_MS, RETURN_MS, RELEASE_MS]
    assert deploying.state.until_ms - deploying.now_ms <= PREPARE_MS


def test_a_job_is_paid_further_although_the_clock_was_set_back() -> None:
    machine = restarted(after(3), HOUR_MS)
    assert [voucher.usage_ms for voucher in machine.sent_of(Voucher)] == [12_000]
    for _ in range(4):
        machine.now_ms += HEARTBEAT_MS
        machine.heartbeat(RUNNING, 90_000, 2)
    assert [voucher.usage_ms for voucher in machine.sent_of(Voucher)][1:] == [payable(32_033)]


def asleep(machine: LeaseMachine, length_ms: int) -> LeaseMachine:
    """Let the machine sleep until long after its deadline, and wake up at it."""
    machine.now_ms = machine.state.deadline_ms + length_ms
    machine.take(DeadlineReached())
    return machine


@pytest.mark.parametrize("steps", [0, 1, 2])
def test_who_slept_does_not_blame_the_provider_for_it(steps: int) -> None:
    machine = asleep(after(steps), 6 * 60_000)
    assert type(machine.state) is type(after(steps).state)
    assert machine.state.deadline_ms == machine.now_ms + SILENCE_MS
    machine.fall_silent()
    assert isinstance(machine.state, Broken), "awake, we would have heard it"


def test_sleep_counts_as_absence_and_prolongs_no_other_bound() -> None:
    executing, deploying, fetched = (asleep(after(steps), HOUR_MS) for steps in (2, 0, 4))
    assert executing.state.away_ms == HOUR_MS
    assert isinstance(deploying.state, Broken), "preparing took too long in any case"
    assert fetched.state.deadline_ms == fetched.now_ms + RETURN_MS


def test_who_restarts_while_it_launches_sees_time_pass_from_then_on() -> None:
    machine = restarted(after(1), HOUR_MS)
    assert machine.state.since_ms == machine.now_ms
    again = replace(machine.state, since_ms=machine.now_ms - 5)
    assert lease.resume(again, machine.context)[0].since_ms == machine.now_ms - 5
