"""How far a container may run, and what it has used. Spec: specs/lease.md#exposure."""

from dataclasses import replace

from protocol.machines.provider.lease.usage import budget_ms, note_pause, note_usage, used_ms
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
