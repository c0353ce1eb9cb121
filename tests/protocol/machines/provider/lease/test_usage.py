"""How far a container may run, and what it has used. Spec: specs/lease.md#exposure."""

from dataclasses import replace

from protocol.machines.provider.lease.usage import (
    beyond_memory,
    budget_ms,
    note_pause,
    note_usage,
    shortest_left_ms,
    used_ms,
)
from protocol.values.limits import EXPOSURE_MS
from tests.driven_provider_lease import after


def test_usage_stops_at_the_budget() -> None:
    machine = after(5)
    start = machine.state
    assert budget_ms(start) == EXPOSURE_MS
    machine.now_ms = start.started_ms + EXPOSURE_MS - 1
    assert note_pause(start, machine.context) is start
    machine.now_ms += 1
    paused = note_pause(start, machine.context)
    assert paused.is_paused
    machine.now_ms += 50_000
    paid = replace(paused, paid_ms=20_000)
    assert used_ms(paused, machine.context) == used_ms(paid, machine.context) == EXPOSURE_MS
    assert note_pause(paid, machine.context) is paid
    again = note_usage(paid, EXPOSURE_MS, machine.context)
    assert not again.is_paused
    machine.now_ms += 1_000
    assert used_ms(again, machine.context) == EXPOSURE_MS + 1_000


def test_no_less_is_claimed_than_what_is_paid() -> None:
    machine = after(5)
    behind = replace(machine.state, paid_ms=9_000, started_ms=machine.now_ms + 1)
    assert used_ms(behind, machine.context) == 9_000


def test_the_first_job_that_ends_makes_room() -> None:
    machine = after(5)
    first = machine.state
    second = replace(first, hold=replace(first.hold, usage_ms_max=50_000))
    assert shortest_left_ms([first, second], machine.context) == 50_000
    assert shortest_left_ms([], machine.context) == 0
    machine.now_ms += 90_000
    assert shortest_left_ms([replace(second, paid_ms=60_000)], machine.context) == 1


def test_those_paused_longest_end_until_the_others_hold_little_enough() -> None:
    machine = after(5)
    state = replace(machine.state, paused_since_ms=5)
    longer = replace(state, hold=replace(state.hold, lease_id=bytes([9]) * 32), paused_since_ms=3)
    one_mib = state.hold.resources.memory_mib
    assert beyond_memory([state, longer], 2 * one_mib) == []
    assert beyond_memory([state, longer], one_mib) == [longer.hold.lease_id]
    assert beyond_memory([state, longer], 0) == [longer.hold.lease_id, state.hold.lease_id]
