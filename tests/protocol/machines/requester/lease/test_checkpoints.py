"""A requester fetches the newest checkpoint, and acknowledges it when it is here.

Spec: specs/checkpoints.md#while-it-runs.
"""

from protocol.machines.effects import FetchCheckpoint, KeepCheckpoint, Report
from protocol.machines.events import Checkpointed, Fetching, Preempted
from protocol.machines.requester.lease import Executing
from protocol.values.limits import CHECKPOINTS_MORE_MAX
from protocol.wire.messages import CheckpointAck
from tests.driven_requester_lease import LISTING, PROVIDER, TERMS, LeaseMachine, after


def fetches(machine: LeaseMachine) -> list[int]:
    found = [each for each in machine.effects if isinstance(each, FetchCheckpoint)]
    return [each.checkpoint.sequence for each in found]


def answers(machine: LeaseMachine) -> list[tuple[int, bool]]:
    return [(said.sequence, said.kept) for said in machine.sent_of(CheckpointAck)]


def told(machine: LeaseMachine) -> list[object]:
    return [each.event for each in machine.effects if isinstance(each, Report)]


def test_a_checkpoint_is_fetched_then_kept_and_acknowledged() -> None:
    machine = after(2)
    machine.checkpoint(1)
    assert (fetches(machine), answers(machine)) == ([1], [])
    machine.checkpoint_fetched(1, here=True)
    assert answers(machine) == [(1, True)]
    (kept,) = [each for each in machine.effects if isinstance(each, KeepCheckpoint)]
    number = TERMS.resumes_from + 1
    assert (kept.number, kept.checkpoint.listing) == (number, LISTING)
    assert told(machine)[-1] == Checkpointed(PROVIDER.peer_id, number, 1_000, LISTING.digest)


def test_the_same_announcement_is_fetched_once_and_answered_each_time() -> None:
    machine = after(2)
    machine.checkpoint(1)
    machine.checkpoint(1)
    assert fetches(machine) == [1]
    machine.checkpoint_fetched(1, here=True)
    before = len(machine.effects)
    machine.checkpoint(1)
    assert len(machine.effects) == before + 1
    assert answers(machine) == [(1, True)], "the same bytes again"


def test_a_newer_one_takes_the_place_of_one_that_is_being_fetched() -> None:
    machine = after(2)
    machine.checkpoint(1)
    machine.checkpoint(2)
    machine.checkpoint_fetched(1, here=True)
    assert answers(machine) == []
    machine.checkpoint_fetched(2, here=True)
    assert answers(machine) == [(2, True)]
    machine.checkpoint(1)
    assert fetches(machine) == [1, 2], "an old one comes late"


def test_one_that_cannot_be_fetched_is_refused_and_the_next_is_taken() -> None:
    machine = after(2)
    machine.checkpoint(1)
    machine.checkpoint_fetched(1, here=False)
    assert answers(machine) == [(1, False)]
    machine.checkpoint(2)
    assert fetches(machine) == [1, 2]


def test_a_provider_cannot_announce_without_end() -> None:
    machine = after(2)
    machine.checkpoint(CHECKPOINTS_MORE_MAX + 4)
    assert fetches(machine) == []
    machine.now_ms += 60_000
    machine.checkpoint(CHECKPOINTS_MORE_MAX + 4)
    assert fetches(machine) == [CHECKPOINTS_MORE_MAX + 4]


def test_a_restart_fetches_again() -> None:
    machine = after(2)
    machine.checkpoint(1)
    machine.node_restarts()
    assert fetches(machine) == [1, 1]


def test_the_user_hears_of_the_notice_and_of_the_resume_point() -> None:
    machine = after(2)
    machine.notice()
    assert isinstance(machine.state, Executing)
    assert told(machine)[-1] == Preempted(PROVIDER.peer_id, 30_000)
    assert told(machine)[0] == Fetching(PROVIDER.peer_id, TERMS.resumes_from)
