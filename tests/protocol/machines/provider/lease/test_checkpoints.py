"""A provider takes a job's checkpoints one by one, and repeats what is not answered.

Spec: specs/checkpoints.md#while-it-runs.
"""

from dataclasses import replace

from protocol.machines.effects import Send, TakeCheckpoint
from protocol.machines.provider import lease
from protocol.wire.messages import Checkpoint
from tests.driven_provider_lease import ATTEMPT, LEASE, SAVING, ServingMachine, after, listing_of


def looked(machine: ServingMachine) -> list[bytes]:
    """Let an interval pass; return the marks with which it was looked for a checkpoint."""
    due_ms, begun = machine.now_ms + SAVING.checkpoint_ms, len(machine.effects)
    while machine.now_ms < due_ms:
        machine.deadline_is_reached(0)
    new = machine.effects[begun:]
    return [effect.mark for effect in new if isinstance(effect, TakeCheckpoint)]


def test_a_new_checkpoint_is_announced_and_the_next_one_after_the_answer() -> None:
    machine = after(5, saves=True)
    assert looked(machine) == [b""]
    machine.checkpoint_is_taken(1)
    (said,) = machine.sent_of(Checkpoint)
    assert (said.sequence, said.size) == (1, 1)
    assert looked(machine) == [], "it waits for the answer"
    machine.checkpoint_is_answered(1, kept=True)
    assert looked(machine) == [b"mark 1"]


def test_an_announcement_is_repeated_until_it_is_answered() -> None:
    machine = after(5, saves=True)
    machine.checkpoint_is_taken(1)
    said = machine.effects[-1]
    assert isinstance(said, Send)
    looked(machine)
    assert Send(said.peer, said.envelope, 0) in machine.effects
    machine.checkpoint_is_answered(2, kept=True)  # Of another lease, or a lie.
    assert machine.state.checkpoints.unacknowledged == said.envelope
    assert lease.offered(machine.state) == machine.sent_of(Checkpoint)[0]
    machine.checkpoint_is_answered(1, kept=True)
    assert lease.offered(machine.state) is None


def test_what_the_requester_could_not_fetch_is_taken_again() -> None:
    machine = after(5, saves=True)
    machine.checkpoint_is_taken(1)
    machine.checkpoint_is_answered(1, kept=False)
    assert looked(machine) == [b""]
    machine.checkpoint_is_taken(1)
    assert [said.sequence for said in machine.sent_of(Checkpoint)] == [1, 2]


def test_what_the_job_continued_from_is_no_new_checkpoint() -> None:
    machine = after(3, saves=True)
    machine.state = replace(machine.state, workload=replace(SAVING, resume=(listing_of(1),)))
    machine.told_to_start(ATTEMPT)
    machine.container_starts()
    machine.checkpoint_is_taken(1)
    assert machine.sent_of(Checkpoint) == []
    assert machine.state.checkpoints.mark == b"mark 1"
    machine.checkpoint_is_taken(2)
    assert len(machine.sent_of(Checkpoint)) == 1


def test_the_count_survives_a_restart() -> None:
    machine = after(5, saves=True)
    machine.checkpoint_is_taken(1)
    machine.checkpoint_is_answered(1, kept=True)
    machine.node_restarts(0)
    machine.container_starts()
    machine.checkpoint_is_taken(2)
    assert machine.sent_of(Checkpoint)[-1].sequence == 2
    assert machine.sent_of(Checkpoint)[-1].lease_id == LEASE


def test_a_clock_that_was_set_back_delays_no_checkpoint_for_long() -> None:
    machine = after(5, saves=True)
    machine.node_restarts(100_000)
    machine.container_starts()
    assert looked(machine) == [b""]


def test_a_job_without_checkpoint_is_left_alone() -> None:
    machine = after(5)
    assert looked(machine) == []
