"""The open awards of a requester, and the barrier of a gang.

Spec: specs/auction.md#awards.
"""

from dataclasses import replace
from typing import Any

from protocol.core.awards import Awards
from protocol.core.distances import Distances
from protocol.core.jobs import Job, call_for, class_of
from protocol.machines.context import Context, Policy
from protocol.machines.effects import Send
from protocol.machines.inputs import JobCancelled
from protocol.machines.requester import award
from protocol.machines.requester.auction import Auction, Decided, SoldSlot
from protocol.rules.selection import Price
from protocol.values.ids import CallId, JobId
from protocol.values.limits import GANG_HOLD_MS
from protocol.wire.envelope import open_envelope
from protocol.wire.job import gang_of, member_id
from protocol.wire.messages import (
    NO_ID,
    AwardAccept,
    LeaseConfirm,
    LeaseRelease,
    RoundTrips,
)
from tests.driven import START_MS
from tests.simulated_network import job_spec
from tests.strategies import SIGNERS

CONTEXT = Context(START_MS, SIGNERS[0], Policy())
CALL_ID = CallId(bytes(32))
CALL = call_for(class_of(Job(JobId(bytes(16)), job_spec(), START_MS)), 2, 100, 0, CONTEXT)
GANG = bytes(12)
MEMBERS = [
    Job(member_id(GANG, spec.index), spec, START_MS) for spec in gang_of(job_spec(nodes=2), GANG)
]


class Placing:
    """Awards of slots of one auction."""

    def __init__(self) -> None:
        called = Auction(MEMBERS[0].job_id, MEMBERS[0].spec, CALL_ID, CALL, b"")
        self.decided = Decided(called, START_MS + 600_000, b"outcome", (), ())
        self.awards = Awards(Distances(), {})

    def begin(self, job: Job, who: int) -> award.Placement:
        slot = SoldSlot(CALL_ID, SIGNERS[who].peer_id, 10, 10_000, 0, Price(20), 20, 0, 0, NO_ID)
        self.decided, effects = self.awards.begin(job, self.decided, slot, CONTEXT)
        assert any(isinstance(effect, Send) for effect in effects)
        return self.awards.states[self.awards.of_job(job.job_id)].placement

    def accept(self, placement: award.Placement, who: int) -> list[LeaseConfirm]:
        said = SIGNERS[who].sign(AwardAccept(placement.lease_id, placement.award))
        ended, effects = self.awards.step(placement.lease_id, said, CONTEXT)
        assert ended is None
        sent = [effect.envelope for effect in effects if isinstance(effect, Send)]
        opened = [open_envelope(one, CONTEXT.signer.network_id, SIGNERS[0].peer_id) for one in sent]
        return [one.message for one in opened]


def test_an_award_of_a_job_alone_is_confirmed_when_it_is_accepted() -> None:
    placing = Placing()
    job = Job(JobId(bytes(16)), job_spec(), START_MS)
    placement = placing.begin(job, 1)
    assert job.job_id in placing.awards
    assert placing.awards.providers() == {SIGNERS[1].peer_id}
    assert [one.lease_id for one in placing.accept(placement, 1)] == [placement.lease_id]


def test_the_awards_of_a_gang_are_confirmed_together() -> None:
    placing = Placing()
    first, second = (placing.begin(job, who) for who, job in enumerate(MEMBERS, 1))
    assert placing.accept(second, 2) == []
    assert isinstance(placing.awards.states[second.lease_id], award.Accepted)
    confirmed = placing.accept(first, 1)
    assert [one.lease_id for one in confirmed] == [first.lease_id, second.lease_id]
    members = {state.placement.members for state in placing.awards.states.values()}
    assert members == {(SIGNERS[1].peer_id, SIGNERS[2].peer_id)}, "by rank"


def test_a_gang_is_not_confirmed_while_a_member_has_no_award() -> None:
    placing = Placing()
    first, second = (placing.begin(job, who) for who, job in enumerate(MEMBERS, 1))
    ended, _ = placing.awards.step(second.lease_id, JobCancelled(MEMBERS[1].job_id), CONTEXT)
    assert ended is not None
    assert isinstance(ended.state, award.Missed)
    assert placing.accept(first, 1) == []
    again = placing.begin(MEMBERS[1], 3)
    assert len(placing.accept(again, 3)) == 2


def test_a_gang_whose_members_must_be_near_is_confirmed_when_all_have_measured() -> None:
    for took_us, confirmed in ((20_000, True), (20_001, False), (0, False)):
        placing = Placing()
        call = replace(CALL, max_round_trip_us=20_000)
        called = replace(placing.decided.auction, call=call)
        placing.decided = replace(placing.decided, auction=called)
        first, second = (placing.begin(job, who) for who, job in enumerate(MEMBERS, 1))
        placing.accept(first, 1)
        queries: list[Any] = placing.accept(second, 2)
        others = [query.others for query in queries]
        assert others == [(SIGNERS[2].peer_id,), (SIGNERS[1].peer_id,)]
        said = SIGNERS[2].sign(RoundTrips(second.lease_id, (took_us,)))
        assert placing.awards.step(second.lease_id, said, CONTEXT)[0] is None
        said = SIGNERS[1].sign(RoundTrips(first.lease_id, (7_000,)))
        ended, effects = placing.awards.step(first.lease_id, said, CONTEXT)
        sent = [effect.envelope for effect in effects if isinstance(effect, Send)]
        opened = [open_envelope(one, CONTEXT.signer.network_id, SIGNERS[0].peer_id) for one in sent]
        kinds = {type(one.message) for one in opened}
        assert kinds == ({LeaseConfirm} if confirmed else {LeaseRelease})
        assert (len(sent), ended is None) == ((2, True) if confirmed else (1, False))


def test_saved_awards_of_a_gang_are_continued() -> None:
    placing = Placing()
    first, second = (placing.begin(job, who) for who, job in enumerate(MEMBERS, 1))
    placing.accept(first, 1)
    saved = dict(placing.awards.states)
    placing.awards = Awards(Distances(), {})
    later = replace(CONTEXT, now_ms=START_MS - 3_600_000)  # Our clock was set back.
    for job, state in zip(MEMBERS, saved.values(), strict=True):
        placing.awards.recover(state, job, later)
    held = placing.awards.states[first.lease_id]
    assert isinstance(held, award.Accepted)
    assert held.deadline_ms <= later.now_ms + GANG_HOLD_MS
    assert len(placing.accept(second, 2)) == 2
