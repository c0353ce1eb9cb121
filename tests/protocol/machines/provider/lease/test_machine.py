"""A provider and one lease: nothing runs that is not written down, nor further than is paid.

Spec: specs/lease.md#provider.
"""

from dataclasses import replace

import msgpack
import pytest
from hypothesis import settings

from protocol.machines.effects import Drop, Kill, MeasureRoundTrips, Settle
from protocol.machines.inputs import RoundTripsMeasured
from protocol.machines.provider import lease
from protocol.machines.provider.lease import Ended, Serving, Settling, Waiting
from protocol.rules.owner_rules import OwnerRules
from protocol.values.limits import (
    ACCEPT_MS,
    HEARTBEAT_MS,
    HELD_MS,
    MEASURE_MS,
    PREPARE_MS,
    STALL_MS,
    SUCCESSOR_MS,
)
from protocol.values.reasons import Release
from protocol.wire.messages import Completed, Heartbeat, LeaseRelease, Released, RoundTrips
from protocol.wire.snapshot import from_snapshot, to_snapshot
from tests.driven import POLICY
from tests.driven_provider_lease import (
    ATTEMPT,
    HOLD,
    LEASE,
    USAGE_MS_MAX,
    ServingMachine,
    after,
)

TestServing = ServingMachine.TestCase
TestServing.settings = settings(max_examples=120, stateful_step_count=30)


# The same machine, step by step.


def test_the_undisturbed_way() -> None:
    states = [type(after(steps).state) for steps in range(7)]
    way = [lease.Held, lease.Active, lease.Preparing, lease.Waiting, Serving, Serving]
    assert states == [*way, Settling]
    assert not after(4).state.started
    assert after(5).state.started


def test_a_hold_is_a_little_longer_once_while_it_measures() -> None:
    machine = after(0)
    machine.time_passes(HELD_MS - 1)
    machine.asked_for_round_trips()
    until_ms = machine.now_ms + MEASURE_MS + 2 * ACCEPT_MS
    assert machine.state.deadline_ms == until_ms
    (wanted,) = machine.effects_of(MeasureRoundTrips)
    assert isinstance(wanted, MeasureRoundTrips)
    assert (wanted.peers, wanted.until_ms) == (machine.state.others, machine.now_ms + MEASURE_MS)
    machine.time_passes(1_000)
    machine.asked_for_round_trips()
    assert machine.state.deadline_ms == until_ms
    machine.round_trips_are_measured(12_345)
    (said,) = machine.sent_of(RoundTrips)
    assert said.round_trips_us == (12_345, 12_345)
    machine.confirmed(True)
    assert isinstance(machine.state, lease.Active)


def test_a_node_that_restarts_measures_again() -> None:
    machine = after(0)
    machine.asked_for_round_trips()
    state, effects = lease.resume(machine.state, machine.context)
    assert state == machine.state
    assert effects == tuple(machine.effects_of(MeasureRoundTrips))
    machine.state, _ = lease.resume(after(1).state, machine.context)
    machine.take(RoundTripsMeasured(LEASE, (1, 2)))
    assert isinstance(machine.state, lease.Active), "confirmed by an answer before the restart"


def test_a_wrong_message_changes_nothing() -> None:
    held, waiting, running, settling = (after(steps) for steps in (0, 3, 5, 6))
    held.confirmed(False)
    assert isinstance(held.state, lease.Held)
    waiting.told_to_start(ATTEMPT + 1)
    assert isinstance(waiting.state, lease.Waiting)
    running.vouched(5_000, 1, short=True)
    assert running.state.paid_ms == 0
    settling.countersigned(own=False)
    assert isinstance(settling.state, Settling)


def test_an_old_voucher_changes_nothing() -> None:
    machine = after(5)
    machine.vouched(9_000, 2, short=False)
    before = machine.state
    machine.vouched(80_000, 2, short=False)
    machine.vouched(80_000, 1, short=False)
    assert machine.state == before
    machine.vouched(3_000, 3, short=False)
    assert machine.state.paid_ms == 9_000


def test_a_job_beyond_the_contract_releases_the_lease() -> None:
    for cpus, longer_ms in ((3, 0), (2, 1)):
        machine = after(1)
        machine.deployed(cpus, longer_ms)
        assert isinstance(machine.state, Ended)
        assert [said.reason for said in machine.sent_of(LeaseRelease)] == [Release.CONTRACT]


def test_an_image_that_the_owner_does_not_run_is_not_fetched() -> None:
    machine = after(1)
    rules = OwnerRules(denied_images=frozenset({machine.workload.image}))
    machine.policy = replace(POLICY, rules=rules)
    machine.deployed(2, 0)
    assert isinstance(machine.state, Ended)
    assert [said.reason for said in machine.sent_of(LeaseRelease)] == [Release.PREPARE_FAILED]


@pytest.mark.parametrize("more", [1, -1])
def test_a_confirmation_of_another_amount_is_refused(more: int) -> None:
    machine = after(0)
    machine.confirmed(True, more)
    assert isinstance(machine.state, Ended)
    assert [said.reason for said in machine.sent_of(LeaseRelease)] == [Release.CONTRACT]


def test_a_preparation_that_receives_nothing_is_released() -> None:
    machine = after(2)
    for _ in range(STALL_MS // HEARTBEAT_MS - 1):
        machine.deadline_is_reached(0)
    machine.fetched(5)
    begun_ms = machine.now_ms
    while isinstance(machine.state, lease.Preparing):
        machine.deadline_is_reached(0)
    assert machine.now_ms - begun_ms == STALL_MS
    (said,) = machine.sent_of(LeaseRelease)
    assert (said.reason, said.detail) == (Release.PREPARE_FAILED, "nothing arrived for 60 s")


def test_what_is_all_here_may_take_its_time_to_be_unpacked() -> None:
    machine = after(2)
    machine.fetched(10**12)
    begun_ms = machine.now_ms
    machine.node_restarts(0)
    machine.fetched(10**12)
    while isinstance(machine.state, lease.Preparing):
        machine.deadline_is_reached(0)
    assert PREPARE_MS - HEARTBEAT_MS <= machine.now_ms - begun_ms <= PREPARE_MS


UNSTARTED = range(4)


@pytest.mark.parametrize("steps", UNSTARTED)
def test_a_lease_that_is_released_before_it_runs_is_over_and_costs_nothing(steps: int) -> None:
    machine = after(steps)
    machine.given_up()
    assert isinstance(machine.state, Ended)
    (said,) = machine.sent_of(Released)
    assert (said.usage_ms, said.receipt) == (0, b"")
    assert machine.effects[-1] == Drop(LEASE)


@pytest.mark.parametrize("steps", [*UNSTARTED, 4, 5])
def test_a_lease_is_released_when_the_owner_stops_the_node(steps: int) -> None:
    machine = after(steps)
    machine.owner_stops()
    assert isinstance(machine.state, Ended)
    assert [said.reason for said in machine.sent_of(LeaseRelease)] == [Release.STOPPING]
    assert machine.effects[-1] == Drop(LEASE)


@pytest.mark.parametrize("steps", [0, 1, 3], ids=["held", "active", "waiting"])
def test_a_lease_whose_requester_falls_silent_is_released(steps: int) -> None:
    machine = after(steps)
    if isinstance(machine.state, Waiting):
        machine.deadline_is_reached(0)
        assert machine.sent_of(Heartbeat), "it is alive as long as it waits"
    machine.deadline_is_reached(0)
    assert isinstance(machine.state, Ended)
    assert [said.reason for said in machine.sent_of(LeaseRelease)] == [Release.EXPIRED]
    assert machine.effects[-1] == Drop(LEASE)


def test_a_bill_is_kept_whether_it_is_signed_or_not_and_the_outputs_are_not() -> None:
    signed, unsigned = after(6), after(6)
    signed.countersigned(own=True)
    unsigned.deadline_is_reached(0)
    for machine in (signed, unsigned):
        assert isinstance(machine.state, Ended)
        assert machine.effects[-1] == Drop(LEASE)
        kept = [effect for effect in machine.effects if isinstance(effect, Settle)]
        assert bool(kept[-1].countersign) == (machine is signed)
        assert kept[-1].usage_ms == 9_000
        assert not machine.sent_of(LeaseRelease)


def test_who_was_released_stops_and_bills_what_ran() -> None:
    machine = after(5)
    machine.time_passes(3_000)
    machine.given_up()
    assert isinstance(machine.state, lease.Stopping)
    _, effects = lease.resume(machine.state, machine.context)
    assert [type(effect) for effect in effects] == [Kill], "also after a restart"
    machine.container_exits(137, 12_000, "")
    assert [said.usage_ms for said in machine.sent_of(Released)] == [3_000], "not the stopping"


def test_a_clock_that_went_back_before_a_restart_breaks_nothing() -> None:
    beating, released = after(5), after(5)
    released.vouched(2_000, 1, short=False)
    for machine in (beating, released):
        machine.node_restarts(100_000)
    beating.deadline_is_reached(0)
    assert [beat.usage_ms for beat in beating.sent_of(Heartbeat)] == [0]
    released.given_up()
    released.node_restarts(0)
    released.container_exits(137, 12_000, "")
    assert [said.usage_ms for said in released.sent_of(Released)] == [2_000], "what vouchers cover"


@pytest.mark.parametrize("steps", range(7))
def test_a_clock_that_was_set_back_by_an_hour_keeps_no_capacity_for_it(steps: int) -> None:
    machine = after(steps)
    longest_ms = machine.state.deadline_ms - machine.now_ms
    until_ms = getattr(machine.state, "until_ms", machine.now_ms) - machine.now_ms
    machine.node_restarts(3_600_000)
    assert machine.state.deadline_ms - machine.now_ms <= max(longest_ms, HEARTBEAT_MS)
    assert getattr(machine.state, "until_ms", machine.now_ms) - machine.now_ms <= until_ms


def test_a_release_saved_by_an_older_version_bills_all_usage() -> None:
    machine = after(5)
    machine.given_up()
    name, fields = msgpack.unpackb(to_snapshot(machine.state))
    del fields["usage_ms_max"]
    machine.state = from_snapshot(lease.State, msgpack.packb([name, fields]))
    machine.container_exits(137, 9_000, "")
    assert [said.usage_ms for said in machine.sent_of(Released)] == [9_000]


def test_who_was_released_and_has_no_answer_of_its_sandbox_bills_nothing() -> None:
    for silent in (True, False):
        machine = after(5)
        machine.given_up()
        machine.deadline_is_reached(0) if silent else machine.container_fails("broken")
        assert isinstance(machine.state, Ended)
        assert [said.receipt for said in machine.sent_of(Released)] == [b""]


def test_usage_counts_from_the_start_of_the_container_and_not_again() -> None:
    machine = after(4)
    machine.time_passes(3_000)
    machine.container_starts()
    started_ms = machine.state.started_ms
    assert started_ms == machine.now_ms
    machine.time_passes(1_000)
    machine.container_starts(1_000)
    assert machine.state.started_ms == started_ms


def test_a_clock_that_was_wrong_when_the_container_started_claims_nothing_for_it() -> None:
    """Only the sandbox knows what was used, whatever our clock said before and says now."""
    for set_ms in (50_000, -50_000):
        machine = after(5)
        machine.now_ms += 4_000 + set_ms
        machine.node_restarts(0)
        machine.container_starts(4_000)
        machine.deadline_is_reached(0)
        assert [beat.usage_ms for beat in machine.sent_of(Heartbeat)] == [4_000 + HEARTBEAT_MS]


def test_after_a_restart_nothing_is_claimed_before_the_sandbox_has_answered() -> None:
    machine = after(5)
    machine.vouched(2_000, 1, short=False)
    machine.now_ms += 30_000
    machine.node_restarts(0)
    machine.deadline_is_reached(0)
    assert [beat.usage_ms for beat in machine.sent_of(Heartbeat)] == [2_000]
    machine.given_up()
    machine.container_exits(137, 31_000, "")
    assert [said.usage_ms for said in machine.sent_of(Released)] == [2_000]


def test_the_voucher_for_most_is_kept() -> None:
    machine = after(6)
    machine.vouched(8_999, 1, short=False)
    first = machine.state.voucher
    assert first
    machine.vouched(9_000, 2, short=False)
    second = machine.state.voucher
    assert second != first
    machine.vouched(8_000, 3, short=False)
    assert machine.state.voucher == second


def test_nothing_is_claimed_before_the_container_starts() -> None:
    machine = after(4)
    machine.deadline_is_reached(0)
    machine.container_starts()
    machine.deadline_is_reached(0)
    assert [beat.usage_ms for beat in machine.sent_of(Heartbeat)] == [0, HEARTBEAT_MS]


def test_a_successor_is_launched_when_the_lease_before_it_has_ended() -> None:
    machine = after(4, follows=True)
    assert isinstance(machine.state, lease.Waiting)
    machine.told_to_start(ATTEMPT)  # Repeated.
    machine.slot_is_freed()
    assert isinstance(machine.state, Serving)
    assert machine.launches == 1
    assert lease.reserved(machine.state) == HOLD.reservation


@pytest.mark.parametrize("steps", range(4))
def test_a_successor_that_is_not_started_yet_has_capacity_of_its_own_in_time(steps: int) -> None:
    machine = after(steps, follows=True)
    before = type(machine.state)
    assert lease.reserved(machine.state) is None
    machine.slot_is_freed()
    assert type(machine.state) is before
    assert lease.reserved(machine.state) == HOLD.reservation


def test_a_successor_does_not_wait_for_ever() -> None:
    machine = after(4, follows=True)
    for _ in range(SUCCESSOR_MS // HEARTBEAT_MS):
        assert isinstance(machine.state, lease.Waiting)
        machine.deadline_is_reached(0)
    assert isinstance(machine.state, Ended)
    assert machine.sent_of(LeaseRelease)[-1].reason == Release.SLOT_BUSY


def test_no_more_is_billed_than_the_contract_allows() -> None:
    machine = after(5)
    machine.container_exits(137, USAGE_MS_MAX + 1, "")
    assert machine.sent_of(Completed)[0].usage_ms == machine.state.receipt.usage_ms == USAGE_MS_MAX


@pytest.mark.parametrize("reason", [Release.SANDBOX_FAILED, Release.GPU_LOST])
def test_the_requester_is_told_what_failed_and_pays_nothing(reason: Release) -> None:
    machine = after(5)
    machine.container_fails("a part of this machine is gone", reason)
    assert machine.sent_of(LeaseRelease)[0].reason == reason
    assert not machine.sent_of(Completed)


@pytest.mark.parametrize("why", ["é" * 600, "one line\nand another\0", "\ud800", "x" * 10_000])
def test_whatever_a_sandbox_says_can_be_sent(why: str) -> None:
    exited, unprepared, failed = after(5), after(2), after(5)
    exited.container_exits(1, 5, why)
    unprepared.prepared(failed=True, why=why)
    failed.container_fails(why)
    assert exited.sent_of(Completed)
    assert unprepared.sent_of(LeaseRelease)
    assert failed.sent_of(LeaseRelease)
