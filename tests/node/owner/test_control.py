"""What the owner said last holds, now and after a restart. Spec: specs/owner.md#modes."""

from node.owner.control import OwnerControl, OwnerMode
from node.storage.journal import Journal
from protocol.machines.context import Policy
from protocol.machines.inputs import Input, PolicyChanged, ReclaimRequested
from tests.driven import POLICY


class Inbox:
    """Keeps what the core would be told."""

    def __init__(self) -> None:
        self.taken: list[Input] = []

    def give(self, event: Input) -> bool:
        raise AssertionError("what the owner says must not be lost")

    async def take(self, event: Input) -> None:
        self.taken.append(event)


def begun(inbox: Inbox, journal: Journal, lent: Policy = POLICY) -> OwnerControl:
    control = OwnerControl(inbox, journal, Policy())
    assert control.begin(lent) == lent
    return control


async def test_the_last_word_counts_and_survives_a_restart(journal: Journal) -> None:
    inbox = Inbox()
    control = begun(inbox, journal)
    await control.set_mode(OwnerMode.PAUSED)
    assert inbox.taken == [PolicyChanged(control.policy)]
    assert not control.policy.providing
    assert control.policy.closed.startswith("paused by its owner")
    again = OwnerControl(Inbox(), journal, Policy())
    await again.recover()
    await again.note_unmet("too hot")
    assert again.begin(POLICY) == control.policy
    await control.set_mode(OwnerMode.OPEN)
    assert inbox.taken[1:] == [PolicyChanged(POLICY)]


async def test_to_reclaim_closes_first_and_then_ends_what_runs(journal: Journal) -> None:
    inbox = Inbox()
    control = begun(inbox, journal)
    await control.reclaim(5_000)
    assert inbox.taken == [PolicyChanged(control.policy), ReclaimRequested(5_000)]
    await control.reclaim(1_000)
    await control.preempt()
    assert inbox.taken[2:] == [ReclaimRequested(1_000), ReclaimRequested(POLICY.notice_ms)]


async def test_a_condition_closes_the_node_unless_the_owner_has(journal: Journal) -> None:
    inbox = Inbox()
    control = begun(inbox, journal)
    await control.note_unmet("too hot")
    assert control.policy.closed == "too hot"
    await control.note_unmet("too hot")
    await control.set_mode(OwnerMode.DRAINING)
    await control.note_unmet("")
    assert len(inbox.taken) == 2
    await control.set_mode(OwnerMode.OPEN)
    assert inbox.taken[-1] == PolicyChanged(POLICY)


async def test_what_is_lent_can_change_but_not_while_the_node_stops(journal: Journal) -> None:
    inbox = Inbox()
    control = begun(inbox, journal, Policy())
    await control.set_mode(OwnerMode.PAUSED)
    assert (control.closed, inbox.taken) == ("", []), "it lends nothing anyway"
    await control.set_mode(OwnerMode.OPEN)
    await control.lend(POLICY)
    await control.lend(POLICY)
    assert inbox.taken == [PolicyChanged(POLICY)]
    control.end()
    await control.lend(Policy())
    await control.note_unmet("too hot")
    await control.preempt()
    assert len(inbox.taken) == 1
