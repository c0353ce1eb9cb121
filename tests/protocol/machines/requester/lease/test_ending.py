"""The end of a lease at its requester: nothing stays saved, and the provider is told.

Spec: specs/lease.md#requester.
"""

from protocol.machines.effects import Save, Send
from protocol.machines.requester.lease import Broken
from protocol.machines.requester.lease.ending import break_off, paid, save
from protocol.values.limits import MESSAGE_MS
from protocol.values.reasons import Failure, Release
from protocol.wire.messages import LeaseRelease
from tests.driven_requester_lease import LEASE, PROVIDER, TERMS, after


def test_a_state_is_saved_until_the_lease_has_ended() -> None:
    running = after(2).state
    assert save(running) == Save("requester-lease", LEASE, running)
    assert save(Broken(TERMS, Failure.CANCELLED, "why")) == Save("requester-lease", LEASE, None)


def test_what_was_paid_is_what_the_vouchers_cover() -> None:
    assert [paid(after(steps).state) for steps in range(5)] == [
        (0, 0), (0, 0), (0, 0), (1, 12_000), (1, 12_000),
    ]  # fmt: skip


def test_a_lease_that_is_broken_off_is_deleted_and_then_released() -> None:
    machine = after(3)
    broken, (saved, said) = break_off(machine.state, Release.OVERRUN, "why", machine.context)
    assert broken == Broken(TERMS, Failure.OVERRUN, "why", 12_000)
    assert saved == Save("requester-lease", LEASE, None)
    assert isinstance(said, Send)
    assert (said.peer, said.until_ms) == (PROVIDER.peer_id, machine.now_ms + 10 * MESSAGE_MS)
    assert machine.message_of(said) == LeaseRelease(LEASE, Release.OVERRUN)
