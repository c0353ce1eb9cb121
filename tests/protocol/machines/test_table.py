"""Stepping through a table.

Spec: specs/core.md#machines.
"""

from dataclasses import dataclass

from protocol.machines.context import Context
from protocol.machines.effects import Kill
from protocol.machines.inputs import DeadlineReached, Prepared
from protocol.machines.table import NOTHING, count_illegal, input_class, pairs, step
from protocol.values.ids import LeaseId
from protocol.wire.messages import Ready
from tests.driven import POLICY, START_MS
from tests.strategies import SIGNERS

LEASE = LeaseId(bytes(32))
CONTEXT = Context(START_MS, SIGNERS[0], POLICY)


@dataclass(frozen=True, slots=True)
class Off:
    """One state."""


@dataclass(frozen=True, slots=True)
class On:
    """Another."""


TABLE = {(Off, Ready): lambda state, event, context: (On(), (Kill(event.message.lease_id),))}


def test_a_signed_message_is_known_by_its_class() -> None:
    assert input_class(SIGNERS[0].sign(Ready(LEASE))) is Ready
    assert input_class(Prepared(LEASE)) is Prepared


def test_a_transition_gives_the_next_state_and_its_effects() -> None:
    ready = SIGNERS[0].sign(Ready(LEASE))
    assert step(TABLE, Off(), ready, CONTEXT) == (On(), (Kill(LEASE),))


def test_what_has_no_transition_changes_nothing() -> None:
    ready = SIGNERS[0].sign(Ready(LEASE))
    assert step(TABLE, On(), ready, CONTEXT) == (On(), NOTHING)
    assert step(TABLE, Off(), DeadlineReached(), CONTEXT) == (Off(), NOTHING)


def test_an_illegal_input_is_counted_by_machine_state_and_input() -> None:
    counts: dict[str, int] = {}
    illegal = {"why": pairs({On}, {Ready, Prepared})}
    ready = SIGNERS[0].sign(Ready(LEASE))
    for state, event in ((On(), ready), (Off(), ready), (On(), Prepared(LEASE)), (On(), ready)):
        count_illegal(counts, "switch", illegal, state, event)
    count_illegal(counts, "switch", {}, On(), ready)
    assert counts == {"switch On Ready": 2, "switch On Prepared": 1}


def test_pairs_are_all_of_the_two_sets() -> None:
    assert pairs({Off, On}, {Ready}) == {(Off, Ready), (On, Ready)}
    assert pairs({On}, (Ready, Prepared)) == {(On, Ready), (On, Prepared)}
    assert pairs({On}, ()) == set()
