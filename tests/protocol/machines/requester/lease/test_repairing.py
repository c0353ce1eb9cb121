"""A requester repeats what its provider has missed, byte for byte.

Spec: specs/survival.md#comparison.
"""

import pytest

from protocol.machines.effects import Send
from protocol.machines.inputs import StateHeard
from protocol.machines.requester.lease import Broken
from protocol.machines.requester.lease.repairing import entry_of
from protocol.wire.messages import (
    ACTIVE,
    GONE,
    SERVING,
    WAITING,
    Deploy,
    LeaseRelease,
    Start,
    Voucher,
)
from tests.driven_requester_lease import LEASE, LeaseMachine, after


def envelopes(machine: LeaseMachine, kind: type) -> list[bytes]:
    sends = [effect for effect in machine.effects if isinstance(effect, Send)]
    return [send.envelope for send in sends if isinstance(machine.message_of(send), kind)]


@pytest.mark.parametrize(
    "steps, state, vouchers, message",
    [(0, ACTIVE, 0, Deploy), (1, WAITING, 0, Start), (3, SERVING, 0, Voucher)],
)
def test_what_the_provider_has_missed_is_said_again(
    steps: int, state: int, vouchers: int, message: type
) -> None:
    machine = after(steps)
    before = machine.state
    for number in (1, 2):
        machine.take(StateHeard(LEASE, state, vouchers))
        said = envelopes(machine, message)
        assert len(said) == 1 + number
        assert len(set(said)) == 1, "the same bytes"
    assert type(machine.state) is type(before)


@pytest.mark.parametrize(
    "steps, state, vouchers", [(0, WAITING, 0), (1, SERVING, 0), (2, SERVING, 0), (3, SERVING, 1)]
)
def test_who_has_missed_nothing_hears_nothing(steps: int, state: int, vouchers: int) -> None:
    machine = after(steps)
    effects = len(machine.effects)
    machine.take(StateHeard(LEASE, state, vouchers))
    assert len(machine.effects) == effects


def test_a_cancellation_is_said_again_until_the_provider_stops() -> None:
    machine = after(3)
    machine.user_cancels()
    machine.take(StateHeard(LEASE, SERVING, 1))
    assert len(set(envelopes(machine, LeaseRelease))) == 1
    assert len(envelopes(machine, LeaseRelease)) == 2
    machine.take(StateHeard(LEASE, SERVING + 1, 0))
    assert len(envelopes(machine, LeaseRelease)) == 2, "it stops"
    machine.take(StateHeard(LEASE, GONE, 0))
    assert isinstance(machine.state, Broken), "no bill will come"
    assert machine.state.usage_ms == 12_000


def test_an_entry_names_state_and_vouchers() -> None:
    seen = [entry_of(after(steps).state) for steps in range(5)]
    assert [(entry.state, entry.vouchers) for entry in seen] == [
        (1, 0), (2, 0), (3, 0), (3, 1), (4, 0),
    ]  # fmt: skip
