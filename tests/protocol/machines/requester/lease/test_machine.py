"""A requester and its one lease: money follows time, and after a fence nothing follows.

Spec: specs/lease.md#requester.
"""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import settings

from protocol.machines.effects import ProbePeer, Progress, Report
from protocol.machines.events import Cancelling
from protocol.machines.inputs import MembersReady
from protocol.machines.requester import lease
from protocol.machines.requester.lease import Broken, Closed, Deploying, Executing, Releasing
from protocol.rules.metering import amount_of, payable, usage_seen_max
from protocol.values.limits import HEARTBEAT_MS, OVERRUN_MS, PREPARE_MS
from protocol.values.reasons import Failure, Release
from protocol.wire.job import Member
from protocol.wire.messages import (
    PREPARING,
    RUNNING,
    Completed,
    Deploy,
    Heartbeat,
    LeaseRelease,
    Receipt,
    Start,
    Voucher,
)
from tests.driven_requester_lease import (
    LEASE,
    OUTPUTS,
    PROVIDER,
    RATE,
    TERMS,
    TIMEOUT_MS,
    LeaseMachine,
    after,
    receipt,
)

TestLease = LeaseMachine.TestCase
TestLease.settings = settings(max_examples=120, stateful_step_count=30)


# The same machine, step by step.


def test_the_undisturbed_way() -> None:
    way = [Deploying, lease.Launching, Executing, Executing, lease.Fetched]
    assert [type(after(steps).state) for steps in range(5)] == way
    machine = after(4)
    machine.outputs(here=True)
    assert isinstance(machine.state, Closed)
    assert [type(message) for _, message in machine.sent] == [
        Deploy, Start, Voucher, Voucher, Receipt,
    ]  # fmt: skip


def test_a_member_of_a_gang_starts_when_all_are_ready() -> None:
    machine = after(0)
    workload = replace(TERMS.workload, members=(Member(PROVIDER.peer_id),) * 2)
    machine.state = replace(machine.state, lease=replace(TERMS, workload=workload))
    machine.ready()
    assert machine.state.ready
    assert not machine.sent_of(Start)
    machine.take(MembersReady(LEASE))
    assert len(machine.sent_of(Start)) == 1


def test_no_more_is_paid_than_the_job_may_use() -> None:
    machine = after(2)
    for _ in range(12):
        machine.time_passes(20_000)
        machine.heartbeat(RUNNING, 200_000, 1)
    assert machine.sent_of(Voucher)[-1].usage_ms <= payable(TIMEOUT_MS), "the rest at the end"
    machine.completed(TIMEOUT_MS + 1, {})
    machine.outputs(here=True)
    assert not machine.sent_of(Receipt)
    assert machine.sent_of(Voucher)[-1].usage_ms == TIMEOUT_MS


def test_a_bill_below_what_was_promised_is_signed_without_another_voucher() -> None:
    machine = after(3)
    machine.completed(11_000, {})
    machine.outputs(here=True)
    assert [voucher.usage_ms for voucher in machine.sent_of(Voucher)] == [12_000]
    assert [bill.usage_ms for bill in machine.sent_of(Receipt)] == [11_000]


def test_a_provider_that_reports_progress_gets_its_time_and_no_more() -> None:
    machine = after(0)
    begun_ms = machine.now_ms
    while not machine.over:
        machine.time_passes(20_000)
        machine.hear(Heartbeat(LEASE, 1, PREPARING, 0, 5, 9))
        assert machine.effects[-1] == Progress(TERMS.job_id, 5, 9)
        if machine.state.deadline_ms == begun_ms + PREPARE_MS:
            machine.deadline_is_reached(0)
    assert machine.now_ms == begun_ms + PREPARE_MS
    assert machine.state.why == "the provider did not fetch image and inputs in 30 minutes"


@pytest.mark.parametrize(
    "reason, failure",
    [(Release.PREPARE_FAILED, Failure.PREPARE_FAILED),
     (Release.SANDBOX_FAILED, Failure.SANDBOX_FAILED),
     (Release.GPU_LOST, Failure.GPU_LOST),
     (Release.STOPPING, Failure.PROVIDER_STOPPED), (Release.EXPIRED, Failure.EXPIRED),
     (Release.CONTRACT, Failure.CONTRACT), (200, Failure.PROVIDER_STOPPED),
     (Release.CANCELLED, Failure.PROVIDER_STOPPED), (Release.SILENT, Failure.PROVIDER_STOPPED)],
)  # fmt: skip
@pytest.mark.parametrize("steps", [0, 1, 2])
def test_a_lease_that_its_provider_releases_ends_at_once(
    steps: int, reason: Release, failure: Failure
) -> None:
    machine = after(steps)
    machine.given_back(reason)
    assert isinstance(machine.state, Broken)
    assert machine.state.reason is failure
    assert not machine.sent_of(LeaseRelease), "it knows"


def test_a_job_may_be_over_before_we_hear_that_it_runs() -> None:
    machine = after(1)
    machine.completed(300, {})
    assert isinstance(machine.state, lease.Fetched)
    machine.started()
    machine.outputs(here=True)
    assert isinstance(machine.state, Closed)


def test_a_user_may_cancel_before_anything_runs() -> None:
    unstarted, starting = after(0), after(1)
    for machine in (unstarted, starting):
        machine.user_cancels()
        (said,) = machine.sent_of(LeaseRelease)
        assert said.reason == Release.CANCELLED
    assert isinstance(unstarted.state, Broken), "nothing has run"
    assert isinstance(starting.state, Releasing), "something may have run"
    starting.released(0, signed=False)
    assert isinstance(starting.state, Broken)


@pytest.mark.parametrize("steps", [1, 2])
def test_the_time_of_a_successor_is_counted_from_the_end_of_the_job_before_it(steps: int) -> None:
    machine = after(steps)
    machine.time_passes(6_000)
    machine.slot_is_freed(1_000)
    machine.time_passes(2_000)
    machine.completed(9_000, {})
    machine.outputs(here=True)
    assert not machine.sent_of(Receipt)
    assert machine.sent_of(Voucher)[-1].usage_ms == usage_seen_max(3_000)


def test_only_a_successor_may_find_its_slot_busy() -> None:
    first, second = after(1), LeaseMachine()
    first.given_back(Release.SLOT_BUSY)
    second.begin(*lease.begin(replace(TERMS, after=LEASE), second.context))
    second.started_ms = None
    second.given_back(Release.SLOT_BUSY)
    assert first.state.reason is Failure.PROVIDER_STOPPED
    assert second.state.reason is Failure.SLOT_BUSY


def test_unavailable_outputs_end_the_lease_with_a_reason() -> None:
    machine = after(4)
    machine.outputs(here=False)
    assert isinstance(machine.state, Broken)
    assert (machine.state.reason, machine.state.why) == (Failure.OUTPUTS_LOST, "gone")
    assert machine.state.usage_ms == 12_000, "what was promised before"
    assert machine.sent_of(LeaseRelease), "it need not keep them"


def test_outputs_that_do_not_arrive_end_the_lease_with_a_reason() -> None:
    machine = after(4)
    machine.deadline_is_reached(0)
    assert isinstance(machine.state, Broken)
    assert machine.state.why == "the outputs could not be fetched in 30 minutes"


def test_a_silent_provider_is_asked_and_then_fenced() -> None:
    machine = after(2)
    machine.deadline_is_reached(0)
    assert isinstance(machine.state, Executing)
    assert isinstance(machine.effects[-1], ProbePeer)
    machine.deadline_is_reached(0)
    assert isinstance(machine.state, Broken)
    assert [said.reason for said in machine.sent_of(LeaseRelease)] == [Release.SILENT]


def test_a_provider_that_reports_a_running_container_for_ever_is_fenced() -> None:
    machine = after(3)
    over_ms = machine.state.since_ms + TIMEOUT_MS + OVERRUN_MS
    for _ in range(over_ms // HEARTBEAT_MS):
        machine.heartbeat(RUNNING, TIMEOUT_MS, 1)
        if machine.over:
            break
        assert machine.state.deadline_ms <= over_ms
        machine.now_ms += HEARTBEAT_MS
    assert isinstance(machine.state, Broken)
    assert over_ms <= machine.now_ms <= over_ms + HEARTBEAT_MS
    assert machine.state.reason is Failure.OVERRUN
    assert machine.state.why == "the job was not over 10 minutes after its time limit"
    assert machine.state.usage_ms <= TIMEOUT_MS
    assert machine.sent_of(LeaseRelease)


def test_a_job_is_not_late_by_the_time_in_which_we_were_away() -> None:
    """Its provider may have paused it meanwhile."""
    machine = after(3)
    machine.now_ms = machine.state.since_ms + TIMEOUT_MS + 2 * OVERRUN_MS
    machine.state, _ = lease.resume(machine.state, machine.context)
    machine.heartbeat(RUNNING, 1_000, 1)
    assert isinstance(machine.state, Executing)
    away_ms = machine.state.away_ms
    machine.now_ms = machine.state.since_ms + away_ms + TIMEOUT_MS + OVERRUN_MS
    machine.heartbeat(RUNNING, 1_000, 1)
    assert isinstance(machine.state, Broken)


def test_what_ran_before_the_user_cancelled_is_paid() -> None:
    machine = after(3)
    machine.user_cancels()
    machine.released(14_000, signed=True)
    assert isinstance(machine.state, Broken)
    assert [voucher.usage_ms for voucher in machine.sent_of(Voucher)] == [12_000, 14_000]
    assert [bill.usage_ms for bill in machine.sent_of(Receipt)] == [14_000]
    assert machine.state.usage_ms == 14_000


def test_what_was_paid_for_a_broken_lease_is_known() -> None:
    fenced, silent, unbilled, early, given_back = (after(steps) for steps in (3, 3, 3, 2, 3))
    fenced.fall_silent()
    silent.user_cancels()
    silent.deadline_is_reached(0)
    unbilled.user_cancels()
    unbilled.released(0, signed=False)
    early.fall_silent()
    given_back.given_back(4)
    broken = (fenced, silent, unbilled, early, given_back)
    assert [machine.state.usage_ms for machine in broken] == [12_000, 12_000, 12_000, 0, 12_000]


def test_a_bill_that_we_do_not_sign_does_not_undo_what_we_promised() -> None:
    done, cancelled = after(3), after(3)
    done.completed(5_000, {"rate": 1})
    done.outputs(here=True)
    cancelled.user_cancels()
    cancelled.completed(5_000, {"rate": 1})
    assert not done.sent_of(Receipt) + cancelled.sent_of(Receipt)
    told = [effect.event for effect in done.effects if isinstance(effect, Report)][-1]
    assert (told.usage_ms, told.amount) == (12_000, amount_of(RATE, 12_000))
    assert cancelled.state.usage_ms == 12_000


def test_a_clock_that_went_back_before_a_restart_breaks_nothing() -> None:
    done, cancelled, beating = after(3), after(3), after(3)
    for machine in (done, cancelled, beating):
        machine.now_ms -= 100_000
        machine.node_restarts()
    done.completed(15_000, {})
    done.outputs(here=True)
    cancelled.user_cancels()
    cancelled.released(15_000, signed=True)
    beating.heartbeat(RUNNING, 30_000, 2)
    assert isinstance(done.state, Closed)
    most_ms = usage_seen_max(12_000)
    assert cancelled.state.usage_ms == most_ms, "we promised 12 s, and saw no more pass"
    for machine in (done, cancelled, beating):
        assert {voucher.usage_ms for voucher in machine.sent_of(Voucher)} <= {12_000, most_ms}


def test_a_cancellation_that_crosses_a_release_ends_at_once() -> None:
    machine = after(3)
    machine.user_cancels()
    machine.given_back(4)
    assert isinstance(machine.state, Broken)
    assert machine.state.reason is Failure.CANCELLED
    assert machine.state.usage_ms == 12_000


def test_the_user_hears_that_a_cancellation_is_on_its_way() -> None:
    machine = after(3)
    machine.user_cancels()
    machine.user_cancels()
    told = [effect.event for effect in machine.effects if isinstance(effect, Report)]
    assert [event for event in told if isinstance(event, Cancelling)] == [
        Cancelling(PROVIDER.peer_id)
    ]


def ended(machine: LeaseMachine, code: int, reason: str, seen: tuple[str, ...]) -> Any:
    """Return the state after a job ended so, whose user lets two errors run elsewhere."""
    terms = replace(TERMS, retry_on_exit=2, exits_seen=seen)
    machine.state = replace(machine.state, lease=terms)
    bill = PROVIDER.sign(receipt(15_000, exit_code=code)).envelope
    machine.hear(Completed(LEASE, code, reason, "", 15_000, OUTPUTS, bill))
    machine.outputs(here=True)
    return machine.state


@pytest.mark.parametrize("code, reason", [(3, "exited"), (137, "memory"), (137, "timeout")])
def test_an_error_of_the_job_is_tried_elsewhere_if_its_user_wants(code: int, reason: str) -> None:
    state = ended(after(3), code, reason, ())
    assert isinstance(state, Broken)
    kind = "exit code 3" if reason == "exited" else reason
    assert (state.reason, state.exit_class) == (Failure.EXITED, kind)
    assert state.why == f"the job ended with {kind}"
    assert state.usage_ms == 15_000, "it is paid"


@pytest.mark.parametrize(
    "code, seen", [(0, ()), (3, ("exit code 3",)), (3, ("memory", "exit code 4"))]
)
def test_a_job_is_done_without_an_error_with_the_same_one_or_when_its_budget_is_spent(
    code: int, seen: tuple[str, ...]
) -> None:
    assert isinstance(ended(after(3), code, "exited", seen), Closed)
