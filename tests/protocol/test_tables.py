"""Transition tables: total, disjoint, and true to the functions that they name.

Spec: specs/core.md#machines. `scripts/mutants` shows that each row is needed.
"""

import dataclasses
import itertools
import types
from collections import Counter, defaultdict
from typing import Any, Union, get_args, get_origin, get_type_hints

import pytest

from protocol.machines import inputs, provider, requester
from protocol.machines.inputs import (
    ArraySubmitted,
    DeadlineReached,
    DevicesWithheld,
    JobSubmitted,
    NetworkLost,
    PeerConnected,
    PolicyChanged,
    PreparationMeasured,
    ReclaimRequested,
    RecordReceived,
)
from protocol.wire.envelope import Signed
from protocol.wire.messages import (
    Award,
    Call,
    CapabilityRecord,
    CapacityFree,
    LeaseQuery,
    LeaseStates,
)

MACHINES = [requester.auction, requester.award, requester.lease, provider.bidding, provider.lease]
CORE_ALONE = {
    JobSubmitted, ArraySubmitted, Call, Award,  # They begin a machine.
    CapabilityRecord, RecordReceived, PeerConnected, PolicyChanged, DevicesWithheld,
    PreparationMeasured,
    CapacityFree, NetworkLost, LeaseQuery, LeaseStates,
    ReclaimRequested,  # It becomes a StopRequested of each lease.
}  # fmt: skip
named = pytest.mark.parametrize(
    "machine", MACHINES, ids=lambda each: each.__name__.removeprefix("protocol.machines.")
)


def members(annotation: Any) -> list[Any]:
    """Return the members of a union; of a signed message, the message."""
    if get_origin(annotation) in {Union, types.UnionType}:
        return [each for member in get_args(annotation) for each in members(member)]
    if get_origin(annotation) is Signed:
        return members(get_args(annotation)[0])
    return [annotation]


@named
def test_every_pair_is_written_once(machine: Any) -> None:
    groups = [machine.TRANSITIONS.keys(), *machine.IGNORED.values(), *machine.ILLEGAL.values()]
    written = Counter(pair for group in groups for pair in group)
    pairs = set(itertools.product(get_args(machine.State), machine.INPUTS))
    assert pairs - written.keys() == set(), "nobody has said what becomes of these"
    assert written.keys() - pairs == set(), "there are no such states or inputs"
    assert {pair for pair, times in written.items() if times > 1} == set()


def test_every_input_belongs_to_a_machine_or_to_the_core_alone() -> None:
    taken = {event for machine in MACHINES for event in machine.INPUTS}
    assert set(members(inputs.Input)) - taken == CORE_ALONE
    assert taken <= set(members(inputs.Input))


@named
def test_the_table_agrees_with_the_signatures(machine: Any) -> None:
    keys = defaultdict(set)
    for pair, transition in machine.TRANSITIONS.items():
        keys[transition].add(pair)
    for transition, pairs in keys.items():
        hints = get_type_hints(transition)
        assert list(hints) == ["state", "event", "context", "return"], transition.__name__
        declared = itertools.product(members(hints["state"]), members(hints["event"]))
        assert pairs == set(declared), transition.__name__


@named
def test_transitions_lead_to_states_of_the_machine(machine: Any) -> None:
    for transition in machine.TRANSITIONS.values():
        step = get_type_hints(transition)["return"]
        assert set(members(get_args(step)[0])) == set(get_args(machine.State))


@named
def test_exactly_what_has_a_deadline_waits_for_it(machine: Any) -> None:
    for state in get_args(machine.State):
        waits = (state, DeadlineReached) in machine.TRANSITIONS
        assert waits == ("deadline_ms" in {field.name for field in dataclasses.fields(state)})


@named
def test_states_are_frozen(machine: Any) -> None:
    for state in get_args(machine.State):
        assert state.__dataclass_params__.frozen
        assert hasattr(state, "__slots__")
