"""Transition tables: total, disjoint, and true to the functions that they name.

Spec: specs/core.md#machines.
"""

import dataclasses
import itertools
import types
from collections import defaultdict
from typing import Any, Union, get_args, get_origin, get_type_hints

import pytest

from protocol.machines import provider, requester
from protocol.machines.inputs import DeadlineReached
from protocol.wire.envelope import Signed

MACHINES = [requester.auction, requester.lease, provider.bidding, provider.lease]
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
def test_every_pair_is_a_transition_or_ignored_and_never_both(machine: Any) -> None:
    pairs = set(itertools.product(get_args(machine.State), machine.INPUTS))
    assert pairs == machine.TRANSITIONS.keys() | machine.IGNORED
    assert not machine.TRANSITIONS.keys() & machine.IGNORED


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
