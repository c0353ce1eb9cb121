"""A container that runs, waits for vouchers, and goes on. Spec: specs/lease.md#exposure."""

from dataclasses import replace

from protocol.machines.effects import Extend, Save
from protocol.machines.provider.lease import Ended, Settling
from protocol.rules.metering import exposure_of
from protocol.values.limits import EXPOSURE_MS, HEARTBEAT_MS
from protocol.wire.messages import Heartbeat, LeaseRelease
from tests.driven import POLICY
from tests.driven_provider_lease import LEASE, ServingMachine, after


def exposed(machine: ServingMachine) -> None:
    """Let time pass without a voucher, until the container is told to stop."""
    while not machine.state.killed:
        machine.deadline_is_reached(0)


def test_nobody_pays_so_the_container_is_paused_then_stopped_and_billed() -> None:
    machine = after(5)
    while not machine.state.is_paused:
        machine.deadline_is_reached(0)
    # The sandbox pauses it at the very instant; we look when it is time for a heartbeat.
    assert 0 <= machine.now_ms - machine.state.started_ms - EXPOSURE_MS < HEARTBEAT_MS
    since_ms = machine.now_ms
    exposed(machine)
    assert 0 <= machine.now_ms - since_ms - POLICY.pause_ms < HEARTBEAT_MS
    assert machine.sent_of(Heartbeat)[-1].usage_ms == EXPOSURE_MS, "its time stands still"
    machine.container_exits(137, EXPOSURE_MS, "")
    assert isinstance(machine.state, Settling)


def test_a_paused_container_resumes_with_its_usage() -> None:
    machine = after(5)
    while not machine.state.is_paused:
        machine.deadline_is_reached(0)
    assert isinstance(machine.effects[-2], Save), "the log can say so"
    machine.time_passes(4_000)
    resumed_ms = machine.now_ms
    machine.vouched(20_000, 1, short=False)
    assert machine.state.is_paused, "until the sandbox says so"
    assert machine.effects[-1] == Extend(LEASE, 20_000 + exposure_of(20_000))
    machine.container_is_extended()
    assert not machine.state.is_paused
    machine.time_passes(3_000)
    machine.deadline_is_reached(0)
    usage_ms = machine.sent_of(Heartbeat)[-1].usage_ms
    assert usage_ms == EXPOSURE_MS + machine.now_ms - resumed_ms


def test_a_voucher_extends_the_budget_by_what_it_pays_and_no_further() -> None:
    machine = after(5)
    for sequence, paid_ms in ((1, 9_000), (2, 19_000)):
        machine.vouched(paid_ms, sequence, short=False)
        budgets = [effect.budget_ms for effect in machine.effects if isinstance(effect, Extend)]
        assert budgets[sequence - 1 :] == [paid_ms + exposure_of(paid_ms)]


def test_a_paused_container_is_not_stopped_because_our_restart_takes_a_while() -> None:
    machine = after(5)
    while not machine.state.is_paused:
        machine.deadline_is_reached(0)
    machine.node_restarts(0)
    machine.deadline_is_reached(0)
    assert not machine.state.killed
    machine.container_starts(EXPOSURE_MS)
    machine.deadline_is_reached(0)
    assert machine.state.is_paused


def test_a_container_that_does_not_start_is_not_paused_but_stopped() -> None:
    machine = after(4)
    exposed(machine)
    assert machine.now_ms - machine.state.started_ms < EXPOSURE_MS + HEARTBEAT_MS


def test_an_owner_may_allow_no_pause() -> None:
    machine = after(5)
    machine.policy = replace(POLICY, pause_ms=0)
    exposed(machine)
    assert machine.now_ms - machine.state.started_ms < EXPOSURE_MS + HEARTBEAT_MS


def test_a_sandbox_that_does_not_stop_is_given_up_unbilled() -> None:
    machine = after(5)
    exposed(machine)
    machine.deadline_is_reached(0)
    assert isinstance(machine.state, Ended)
    assert [said.reason for said in machine.sent_of(LeaseRelease)] == [4]


def test_memory_that_is_short_stops_a_container_before_its_time() -> None:
    machine = after(5)
    machine.memory_is_short()
    assert machine.state.killed
