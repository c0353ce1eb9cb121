"""An award on a network that keeps no promise: one provider, at most one lease.

Spec: specs/auction.md#awards.
"""

from dataclasses import replace
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from protocol.core.jobs import Job
from protocol.machines.inputs import JobCancelled, MembersFar, MembersHeld, MembersNear
from protocol.machines.requester import award
from protocol.machines.requester.auction import Decided
from protocol.machines.requester.auction.deciding import decide
from protocol.rules.standing import BROKEN, DECLINED
from protocol.values.ids import JobId, lease_id_of
from protocol.values.limits import ACCEPT_MS, ACTIVE_MS, GANG_HOLD_MS, MEASURE_MS
from protocol.values.reasons import Release
from protocol.wire.messages import (
    Award,
    AwardAccept,
    AwardDecline,
    LeaseActive,
    LeaseConfirm,
    LeaseRelease,
    RoundTripQuery,
    RoundTrips,
)
from tests.driven import START_MS, Driven, signed_by
from tests.protocol.machines.requester.auction.test_deciding import CONTEXT, opening
from tests.simulated_network import job_spec
from tests.strategies import SIGNERS

PROVIDER, STRANGER = 1, 7
JOB = Job(JobId(bytes(16)), job_spec(rate_max=100), START_MS, attempt=2)


class AwardMachine(Driven):
    """All that may happen to an award, in any order, from anybody."""

    table = award.TRANSITIONS
    union = award.State
    written_first = (Award, RoundTripQuery, LeaseConfirm)

    @initialize(
        ahead=st.integers(0, 1), binding=st.booleans(), gang=st.booleans(),
        limit_us=st.sampled_from([0, 20_000]),
    )  # fmt: skip
    def begin_award(
        self, ahead: int = 0, binding: bool = True, gang: bool = False, limit_us: int = 0
    ) -> None:
        decided, _ = decide(opening(10, 20, 30), CONTEXT)
        assert isinstance(decided, Decided)
        if gang and limit_us:
            call = replace(decided.auction.call, max_round_trip_us=limit_us)
            decided = replace(decided, auction=replace(decided.auction, call=call))
        self.binding, self.gang, self.may_start = binding, gang, False
        slot = replace(decided.sold[0], binding=binding)
        place = (JOB.job_id, JOB.attempt)
        self.decided, state, effects = award.begin(decided, slot, place, self.context, gang=gang)
        self.begin(state, effects)
        self.may_start = True
        if ahead:
            self.accepts(honest=True, award=True)

    def take(self, event: Any) -> tuple[Any, ...]:
        effects = super().take(event)
        if any(isinstance(self.message_of(e), LeaseRelease) for e in effects
               if hasattr(e, "envelope")):  # fmt: skip
            self.may_start = False
        return effects

    @precondition(lambda self: isinstance(self.state, award.Awarding))
    @rule(honest=st.booleans(), award=st.booleans())
    def accepts(self, honest: bool, award: bool) -> None:
        placement = self.state.placement
        accept = AwardAccept(placement.lease_id, placement.award if award else bytes(32))
        self.take(signed_by(PROVIDER if honest else STRANGER, accept))
        following = "accept" if self.gang else "contract"
        assert hasattr(self.state, following) == (honest and award)

    @precondition(lambda self: isinstance(self.state, award.Accepted))
    @rule()
    def all_are_held(self) -> None:
        peers = (SIGNERS[PROVIDER].peer_id, SIGNERS[STRANGER].peer_id)
        self.take(MembersHeld(self.state.placement.lease_id, peers))
        has_limit = self.state.placement.max_round_trip_us > 0
        assert isinstance(self.state, award.Measuring if has_limit else award.Confirming)
        assert self.state.placement.members == peers

    @precondition(lambda self: isinstance(self.state, award.Measuring))
    @rule(honest=st.booleans(), count=st.integers(1, 2), took_us=st.integers(0, 50_000))
    def measures(self, honest: bool = True, count: int = 1, took_us: int = 7_000) -> None:
        before = self.state
        said = RoundTrips(before.placement.lease_id, (took_us,) * count)
        self.take(signed_by(PROVIDER if honest else STRANGER, said))
        is_news = honest and count == 1 and not before.round_trips_us
        assert (self.state is not before) == is_news
        assert not is_news or self.state.round_trips_us == (took_us,)

    @precondition(lambda self: getattr(self.state, "round_trips_us", ()))
    @rule(near=st.booleans())
    def all_have_measured(self, near: bool = True) -> None:
        lease_id = self.state.placement.lease_id
        self.take(MembersNear(lease_id) if near else MembersFar(lease_id, "far"))
        assert isinstance(self.state, award.Confirming if near else award.Missed)

    @rule(honest=st.booleans(), award=st.booleans())
    def declines(self, honest: bool, award: bool) -> None:
        before, placement = self.state, self.state.placement
        decline = AwardDecline(placement.lease_id, placement.award if award else bytes(32), 1)
        self.take(signed_by(PROVIDER if honest else STRANGER, decline))
        if type(before).__name__ == "Awarding" and honest and award:
            self.may_start = False
            assert self.state.fault == (DECLINED if self.binding else 0)
        else:
            assert self.state is before

    @precondition(lambda self: isinstance(self.state, award.Confirming))
    @rule(honest=st.booleans(), contract=st.booleans())
    def activates(self, honest: bool, contract: bool) -> None:
        lease_id = self.state.placement.lease_id
        active = LeaseActive(lease_id, self.state.contract if contract else bytes(32))
        self.take(signed_by(PROVIDER if honest else STRANGER, active))
        assert isinstance(self.state, award.Won) == (honest and contract)

    @rule(honest=st.booleans())
    def gives_back(self, honest: bool) -> None:
        before = self.state
        was_open = not self.over
        release = LeaseRelease(self.state.placement.lease_id, Release.EXPIRED)
        self.take(signed_by(PROVIDER if honest else STRANGER, release))
        assert (self.state is not before) == (honest and was_open)
        if honest and was_open:
            self.may_start = False

    @rule()
    def user_cancels(self) -> None:
        self.take(JobCancelled(JOB.job_id))
        assert self.over

    @invariant()
    def who_missed_its_award_cannot_start(self) -> None:
        if self.state is not None and isinstance(self.state, award.Missed):
            assert not self.may_start, "neither fenced, nor by its own word"

    @invariant()
    def speaks_to_one_provider(self) -> None:
        assert {peer for peer, _ in self.sent} <= {SIGNERS[PROVIDER].peer_id}
        assert len(self.sent_of(Award)) <= 1
        assert len(self.sent_of(LeaseConfirm)) <= 1


TestAward = AwardMachine.TestCase
TestAward.settings = settings(max_examples=60, stateful_step_count=12)


def after(steps: int) -> AwardMachine:
    machine = AwardMachine()
    machine.begin_award(steps)
    return machine


def test_the_undisturbed_way() -> None:
    machine = after(0)
    ((_, said),) = machine.sent
    placement = machine.state.placement
    assert (said.slot, said.attempt, said.offer, said.rate, said.unit) == (0, 2, 0, 20, 0)
    assert placement.lease_id == lease_id_of(said.call_id, 0, 2, 0, placement.provider)
    assert machine.decided.awards == 1
    assert machine.state.deadline_ms == machine.now_ms + ACCEPT_MS
    machine.accepts(honest=True, award=True)
    assert machine.state.deadline_ms == machine.now_ms + ACTIVE_MS
    machine.activates(honest=True, contract=True)
    assert isinstance(machine.state, award.Won)
    assert machine.state.placement == placement


def test_a_provider_that_declines_is_passed_over() -> None:
    machine = after(0)
    machine.declines(honest=True, award=True)
    assert machine.state == award.Missed(machine.state.placement, DECLINED)


def accepted() -> AwardMachine:
    """Return the award of a member of a gang that its provider holds."""
    machine = AwardMachine()
    machine.begin_award(gang=True)
    machine.accepts(honest=True, award=True)
    assert not machine.sent_of(LeaseConfirm)
    return machine


def test_a_member_of_a_gang_is_confirmed_with_all_others() -> None:
    machine = accepted()
    assert machine.state.deadline_ms == machine.now_ms + GANG_HOLD_MS
    machine.all_are_held()
    machine.activates(honest=True, contract=True)
    assert isinstance(machine.state, award.Won)


def measuring() -> AwardMachine:
    """Return the award of a member of a gang whose provider was asked how far the others are."""
    machine = AwardMachine()
    machine.begin_award(gang=True, limit_us=20_000)
    machine.accepts(honest=True, award=True)
    machine.all_are_held()
    (query,) = machine.sent_of(RoundTripQuery)
    assert query.others == (SIGNERS[STRANGER].peer_id,)
    assert not machine.sent_of(LeaseConfirm)
    return machine


def test_a_member_of_a_gang_is_confirmed_when_all_have_measured_and_are_near() -> None:
    machine = measuring()
    assert machine.state.deadline_ms == machine.now_ms + MEASURE_MS + ACCEPT_MS
    machine.measures()
    assert not machine.sent_of(LeaseConfirm)
    machine.all_have_measured()
    machine.activates(honest=True, contract=True)
    assert isinstance(machine.state, award.Won)


def test_a_member_that_is_too_far_is_released_without_fault() -> None:
    machine = measuring()
    machine.measures()
    machine.all_have_measured(near=False)
    assert machine.state == award.Missed(machine.state.placement, is_final=True, far="far")
    (release,) = machine.sent_of(LeaseRelease)
    assert release.reason == Release.FENCED


def test_only_who_does_not_say_what_it_measured_has_broken_its_promise() -> None:
    silent, other = measuring(), measuring()
    other.measures()
    assert other.state.deadline_ms > silent.state.deadline_ms, "the silent one ends the gang"
    for machine, fault in ((silent, BROKEN), (other, 0)):
        machine.deadline_is_reached(0)
        assert machine.state == award.Missed(machine.state.placement, fault, is_final=True)


def test_a_provider_whose_hold_ends_while_it_measures_is_not_at_fault() -> None:
    machine = measuring()
    machine.gives_back(honest=True)
    assert machine.state == award.Missed(machine.state.placement, is_final=True)


def test_a_job_that_is_cancelled_meanwhile_releases_who_measures() -> None:
    machine = measuring()
    machine.take(JobCancelled(JOB.job_id))
    assert machine.state == award.Missed(machine.state.placement)
    assert len(machine.sent_of(LeaseRelease)) == 1


def test_a_gang_on_one_node_has_nothing_to_measure() -> None:
    machine = AwardMachine()
    machine.begin_award(gang=True, limit_us=20_000)
    machine.accepts(honest=True, award=True)
    peers = (SIGNERS[PROVIDER].peer_id,) * 2
    machine.take(MembersHeld(machine.state.placement.lease_id, peers))
    assert isinstance(machine.state, award.Confirming)


def test_a_hold_for_a_gang_that_is_not_complete_is_given_back() -> None:
    machine = accepted()
    machine.deadline_is_reached(0)
    assert machine.state == award.Missed(machine.state.placement, 0, is_final=True)
    (release,) = machine.sent_of(LeaseRelease)
    assert release.reason == Release.FENCED


def test_a_hold_ends_with_its_gang_or_by_its_provider() -> None:
    machine, other = accepted(), accepted()
    machine.take(JobCancelled(JOB.job_id, Release.MEMBER_FAILED))
    assert machine.state == award.Missed(machine.state.placement)
    (release,) = machine.sent_of(LeaseRelease)
    assert release.reason == Release.MEMBER_FAILED
    other.gives_back(honest=True)
    assert other.state == award.Missed(other.state.placement), "it held its slot long enough"
    other = accepted()
    stopping = LeaseRelease(other.state.placement.lease_id, Release.STOPPING)
    other.take(signed_by(PROVIDER, stopping))
    assert other.state == award.Missed(other.state.placement, DECLINED)


def test_a_confirmed_member_that_fails_leaves_no_time_for_another() -> None:
    for fails in (lambda one: one.deadline_is_reached(0), lambda one: one.gives_back(honest=True)):
        machine = accepted()
        machine.all_are_held()
        fails(machine)
        assert machine.state.is_final


def test_in_a_slow_network_an_award_waits_as_long_as_its_auction_waited() -> None:
    machine = after(0)
    placement = replace(machine.state.placement, answer_ms=4_000)
    slow = replace(machine.state, placement=placement)
    assert award.resume(slow, machine.context).deadline_ms == machine.state.deadline_ms
    machine.state = slow
    machine.accepts(honest=True, award=True)
    assert machine.state.deadline_ms == machine.now_ms + 4_000
    state = opening(10, 20)
    call = replace(state.auction.call, commit_ms=4_000)
    decided, _ = decide(replace(state, auction=replace(state.auction, call=call)), CONTEXT)
    assert isinstance(decided, Decided)
    place = (JOB.job_id, JOB.attempt)
    _, awarding, _ = award.begin(decided, decided.sold[0], place, CONTEXT)
    assert awarding.deadline_ms == START_MS + 4_000


def test_a_provider_that_falls_silent_is_fenced_and_has_broken_its_promise() -> None:
    for steps in (0, 1):
        machine = after(steps)
        machine.deadline_is_reached(0)
        assert machine.state == award.Missed(machine.state.placement, BROKEN)
        (release,) = machine.sent_of(LeaseRelease)
        assert release.reason == Release.FENCED


def test_a_provider_that_gives_its_lease_back_loses_the_award_at_once() -> None:
    for steps in (0, 1):
        machine = after(steps)
        machine.gives_back(honest=False)
        assert not machine.over
        machine.gives_back(honest=True)
        assert machine.state == award.Missed(machine.state.placement, DECLINED)
        assert not machine.sent_of(LeaseRelease), "it needs no fence"


def test_a_user_that_cancels_releases_the_provider() -> None:
    for steps in (0, 1):
        machine = after(steps)
        machine.user_cancels()
        assert machine.state.fault == 0
        (release,) = machine.sent_of(LeaseRelease)
        assert release.reason == Release.CANCELLED


def test_an_award_waits_no_longer_for_a_clock_that_was_set_back() -> None:
    for steps, longest_ms in ((0, ACCEPT_MS), (1, ACTIVE_MS)):
        machine = after(steps)
        back = replace(machine.context, now_ms=machine.now_ms - 3_600_000)
        assert award.resume(machine.state, back).deadline_ms == back.now_ms + longest_ms
        assert award.resume(machine.state, machine.context) == machine.state
