"""A provider repeats what its requester has missed, byte for byte.

Spec: specs/survival.md#comparison.
"""

import pytest

from protocol.machines.effects import Send
from protocol.machines.inputs import StateHeard
from protocol.machines.provider.lease.repairing import entry_of
from protocol.machines.provider.lease.states import Settling
from protocol.wire.messages import (
    DEPLOYING,
    FETCHED,
    LAUNCHING,
    Completed,
    Ready,
    Released,
    Started,
)
from tests.driven_provider_lease import LEASE, ServingMachine, after


def envelopes(machine: ServingMachine, kind: type) -> list[bytes]:
    sends = [effect for effect in machine.effects if isinstance(effect, Send)]
    return [send.envelope for send in sends if isinstance(machine.message_of(send), kind)]


@pytest.mark.parametrize(
    "steps, state, message",
    [(3, DEPLOYING, Ready), (5, LAUNCHING, Started), (6, LAUNCHING + 1, Completed)],
)
def test_what_the_requester_has_missed_is_said_again(steps: int, state: int, message: type) -> None:
    machine = after(steps)
    before = machine.state
    machine.take(StateHeard(LEASE, state, 0))
    said = envelopes(machine, message)
    assert len(said) == 2
    assert len(set(said)) == 1, "the same bytes"
    assert machine.state == before


@pytest.mark.parametrize("steps, state", [(3, LAUNCHING), (4, LAUNCHING), (5, 3), (6, FETCHED)])
def test_who_has_missed_nothing_hears_nothing(steps: int, state: int) -> None:
    machine = after(steps)
    effects = len(machine.effects)
    machine.take(StateHeard(LEASE, state, 0))
    assert len(machine.effects) == effects


def test_the_bill_of_a_released_lease_is_said_again() -> None:
    machine = after(5)
    machine.given_up()
    machine.container_exits(137, 3_000, "")
    assert isinstance(machine.state, Settling)
    machine.take(StateHeard(LEASE, 5, 0))
    assert len(envelopes(machine, Released)) == 2
    assert len(set(envelopes(machine, Released))) == 1


def test_an_entry_names_state_and_vouchers() -> None:
    machine = after(5)
    machine.vouched(9_000, 4, short=False)
    assert (entry_of(machine.state).state, entry_of(machine.state).vouchers) == (5, 4)
    assert [entry_of(after(steps).state).state for steps in range(7)] == [1, 2, 3, 4, 5, 5, 7]
