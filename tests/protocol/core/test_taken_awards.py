"""Awards that come twice, or after their release. Spec: specs/core.md#provider."""

from dataclasses import replace

from protocol.core.taken_awards import TakenAwards
from protocol.values.ids import CallId, LeaseId
from protocol.values.limits import BIDDINGS_MAX
from protocol.wire.messages import Award
from tests.protocol.core.test_provider import ANN, EVE, award_of, call

AWARD: Award = award_of(call()).message
LEASE = LeaseId(bytes(32))


def test_an_award_is_taken_once() -> None:
    taken = TakenAwards()
    assert not taken.has(AWARD)
    taken.note(AWARD, ())
    assert taken.has(AWARD)
    assert AWARD.call_id in taken
    assert not taken.has(replace(AWARD, slot=AWARD.slot + 1))


def test_old_calls_are_forgotten_unless_their_bids_are_open() -> None:
    taken = TakenAwards()
    taken.note(AWARD, ())
    for number in range(BIDDINGS_MAX):
        taken.note(replace(AWARD, call_id=CallId(number.to_bytes(32))), {AWARD.call_id})
    assert taken.has(AWARD)
    assert CallId(bytes(32)) not in taken


def test_a_release_before_its_award_fences_it() -> None:
    taken = TakenAwards()
    taken.fence(LEASE, ANN.peer_id)
    assert taken.is_fenced(LEASE, ANN.peer_id)
    assert not taken.is_fenced(LEASE, EVE.peer_id)
