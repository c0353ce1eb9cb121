"""A provider's lease driven by Hypothesis: all possible inputs, and the invariants.

Spec: specs/lease.md#provider.
"""

from dataclasses import replace
from itertools import pairwise
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from protocol.machines.effects import (
    Drop,
    Effect,
    Extend,
    Launch,
    Save,
    Settle,
    TakeCheckpoint,
    Terminate,
)
from protocol.machines.inputs import (
    CheckpointTaken,
    ContainerExited,
    ContainerExtended,
    ContainerFailed,
    ContainerStarted,
    FetchProgressed,
    PauseDenied,
    Prepared,
    PrepareFailed,
    RoundTripsMeasured,
    SlotFreed,
    StateHeard,
    StopRequested,
)
from protocol.machines.provider import lease
from protocol.machines.provider.lease import Ended, Hold, Leaving, Serving, Settling
from protocol.rules.capacity import Reservation
from protocol.rules.metering import amount_of, exposure_of
from protocol.values.ids import CallId, ContentId, LeaseId, digest_of
from protocol.values.limits import HEARTBEAT_MS
from protocol.values.reasons import Release
from protocol.wire.envelope import open_envelope
from protocol.wire.job import BlobRef, Resources, Workload
from protocol.wire.messages import (
    AwardAccept,
    Checkpoint,
    CheckpointAck,
    Completed,
    Deploy,
    Heartbeat,
    LeaseActive,
    LeaseConfirm,
    LeaseRelease,
    PreemptNotice,
    Ready,
    Receipt,
    Released,
    RoundTripQuery,
    Start,
    Voucher,
)
from protocol.wire.snapshot import from_snapshot, to_snapshot
from tests.driven import Driven
from tests.strategies import SIGNERS

REQUESTER = SIGNERS[1]
LEASE = LeaseId(digest_of(b"lease"))
BEFORE = LeaseId(digest_of(b"the lease before it on its slot"))
RATE = 3_333
USAGE_MS_MAX = 60_000
ATTEMPT = 2
HOLD = Hold(
    LEASE, CallId(bytes(32)), REQUESTER.peer_id, ATTEMPT, RATE, USAGE_MS_MAX, Resources(2),
    Reservation(Resources(2)),
)  # fmt: skip
WORKLOAD = Workload(bytes(32), ("a",), resources=Resources(2), timeout_ms=USAGE_MS_MAX)
OUTPUTS = BlobRef(digest_of(b"outputs"), 9)
SAVING = replace(WORKLOAD, checkpoint="state", checkpoint_ms=10_000)
WORDS = st.text(max_size=600)


class ServingMachine(Driven):
    """All inputs of a provider's lease; the core admits messages of its requester only."""

    table = lease.TRANSITIONS
    union = lease.State
    written_first = (AwardAccept, LeaseActive, Ready, Checkpoint, PreemptNotice, Completed,
                     Released, LeaseRelease)  # fmt: skip

    silent_steps_max = 600  # 40 minutes of heartbeats while it is paused.

    @initialize(ahead=st.integers(0, 7), saves=st.booleans(), follows=st.booleans())
    def hold(self, ahead: int, saves: bool = False, follows: bool = False) -> None:
        """Take some steps of an undisturbed lease, so that all of its states are explored.

        `saves`: the job has checkpoints. `follows`: another lease uses its slot at first.
        """
        self.workload = SAVING if saves else WORKLOAD
        self.launches = self.said_before = 0
        self.unpaid_since_ms: int | None = None
        award = ContentId(digest_of(b"award"))
        hold = replace(HOLD, after=BEFORE) if follows else HOLD
        self.begin(*lease.hold_award(hold, award, 6_000, self.context))
        undisturbed = [
            lambda: self.confirmed(True), lambda: self.deployed(2, 0),
            lambda: self.prepared(False, ""), lambda: self.told_to_start(ATTEMPT),
            self.container_starts, lambda: self.container_exits(0, 9_000, ""),
        ]  # fmt: skip
        if follows:
            undisturbed.insert(4, self.slot_is_freed)
        for step in undisturbed[:ahead]:
            self.time_passes(1_000)
            step()

    @property
    def contract(self) -> ContentId:
        known = getattr(self.state, "receipt", self.state)
        return getattr(known, "contract", ContentId(bytes(32)))

    def effects_of(self, *classes: type) -> list[Effect]:
        return [effect for effect in self.effects if isinstance(effect, classes)]

    def hear(self, message: Any) -> tuple[Any, ...]:
        return self.take(REQUESTER.sign(message))

    @rule(right=st.sampled_from([True, True, False]), more=st.sampled_from([0, 0, 0, 1, -1]))
    def confirmed(self, right: bool, more: int = 0) -> None:
        accept = getattr(self.state, "accept", bytes(32)) if right else bytes(32)
        self.hear(LeaseConfirm(LEASE, accept, amount_of(RATE, USAGE_MS_MAX) + more))

    @rule()
    def asked_for_round_trips(self) -> None:
        before = self.state
        effects = self.hear(RoundTripQuery(LEASE, (SIGNERS[2].peer_id, SIGNERS[3].peer_id)))
        is_news = isinstance(before, lease.Held) and not before.others
        assert bool(effects) == is_news, "it is held longer only once"

    @precondition(lambda self: getattr(self.state, "others", ()))
    @rule(took_us=st.integers(0, 90_000))
    def round_trips_are_measured(self, took_us: int) -> None:
        before = self.state
        self.take(RoundTripsMeasured(LEASE, (took_us, took_us)))
        assert self.state == before

    @rule(cpus=st.sampled_from([2, 2, 2, 3]), longer_ms=st.sampled_from([0, 0, 1]))
    def deployed(self, cpus: int, longer_ms: int) -> None:
        timeout_ms = USAGE_MS_MAX + longer_ms
        wanted = replace(self.workload, resources=Resources(cpus), timeout_ms=timeout_ms)
        self.hear(Deploy(LEASE, wanted))
        if wanted != self.workload:
            assert getattr(self.state, "workload", self.workload) == self.workload

    @rule(attempt=st.sampled_from([ATTEMPT, ATTEMPT, ATTEMPT + 1]))
    def told_to_start(self, attempt: int) -> None:
        effects = self.hear(Start(LEASE, attempt))
        for effect in effects:
            if isinstance(effect, Launch):
                assert attempt == ATTEMPT
                assert isinstance(effects[0], Save), "launched before written"
                assert isinstance(effects[0].state, Serving)

    @rule(paid_ms=st.integers(0, 80_000), sequence=st.integers(1, 6), short=st.booleans())
    def vouched(self, paid_ms: int, sequence: int, short: bool) -> None:
        amount = max(0, amount_of(RATE, paid_ms) - short)
        before = self.state
        self.hear(Voucher(LEASE, self.contract, sequence, paid_ms, amount))
        if isinstance(before, Serving):
            assert self.state.paid_ms >= before.paid_ms
            assert self.state.paid_ms in {before.paid_ms, paid_ms}
            assert not short or amount_of(RATE, paid_ms) == 0 or self.state == before

    @rule()
    def vouched_for_another_contract(self) -> None:
        before = self.state
        self.hear(Voucher(LEASE, ContentId(digest_of(b"other")), 9, 1, 10**9))
        assert self.state == before

    @rule()
    def given_up(self) -> None:
        self.hear(LeaseRelease(LEASE, 2))

    @rule(own=st.booleans())
    def countersigned(self, own: bool) -> None:
        proposed = getattr(self.state, "receipt", None)
        if proposed is not None:
            lie = Receipt(LEASE, self.contract, *[SIGNERS[1].peer_id] * 2, 0, 0, 0, 0, b"")
            self.hear(proposed if own else lie)
            assert isinstance(self.state, Ended) == own

    @rule()
    def slot_is_freed(self) -> None:
        if self.state.hold.after:
            started = getattr(self.state, "told_to_start", False)
            self.take(SlotFreed(LEASE))
            assert isinstance(self.state, Serving) == started

    # Inputs of its own sandbox and owner, at any time.

    @rule(failed=st.booleans(), why=WORDS)
    def prepared(self, failed: bool, why: str) -> None:
        self.take(PrepareFailed(LEASE, why) if failed else Prepared(LEASE))

    @rule(done=st.integers(0, 10**12))
    def fetched(self, done: int) -> None:
        self.take(FetchProgressed(LEASE, done, 10**12))

    @rule(usage_ms=st.sampled_from([0, 3, 9_000]))
    def container_starts(self, usage_ms: int = 0) -> None:
        self.take(ContainerStarted(LEASE, usage_ms))

    @rule(code=st.integers(0, 255), usage_ms=st.integers(0, 100_000), detail=WORDS)
    def container_exits(self, code: int, usage_ms: int, detail: str) -> None:
        self.take(ContainerExited(LEASE, code, "exited", detail, usage_ms, OUTPUTS))

    @rule(why=WORDS, reason=st.sampled_from([Release.SANDBOX_FAILED, Release.GPU_LOST]))
    def container_fails(self, why: str, reason: Release = Release.SANDBOX_FAILED) -> None:
        self.take(ContainerFailed(LEASE, why, reason))

    @rule()
    def container_is_extended(self) -> None:
        usage_ms = getattr(self.state, "paused_at_ms", 0)
        self.take(ContainerExtended(LEASE, usage_ms))

    @rule(state=st.integers(0, 7), vouchers=st.integers(0, 6))
    def compared(self, state: int, vouchers: int) -> None:
        before = self.state
        self.take(StateHeard(LEASE, state, vouchers))
        assert self.state == before, "a comparison only repeats"

    @rule(number=st.integers(1, 5))
    def checkpoint_is_taken(self, number: int) -> None:
        self.take(CheckpointTaken(LEASE, b"mark %d" % number, listing_of(number), number))

    @rule(sequence=st.integers(1, 5), kept=st.booleans())
    def checkpoint_is_answered(self, sequence: int, kept: bool) -> None:
        self.hear(CheckpointAck(LEASE, sequence, kept))

    @rule()
    def memory_is_short(self) -> None:
        self.take(PauseDenied(LEASE))

    @rule(notice_ms=st.sampled_from([None, None, 0, 5_000]))
    def owner_stops(self, notice_ms: int | None = None) -> None:
        self.take(StopRequested(notice_ms))

    @precondition(lambda self: not self.over)
    @rule(back_ms=st.sampled_from([0, 0, 0, 5_000, 100_000]))
    def node_restarts(self, back_ms: int) -> None:
        """Restart the node; its clock may have been set back meanwhile."""
        self.now_ms -= back_ms
        saves = [effect for effect in self.effects if isinstance(effect, Save)]
        written = from_snapshot(lease.State, to_snapshot(saves[-1].state))
        assert type(written) is type(self.state), "a state that a restart loses"
        self.launches, self.said_before = 0, len(self.sent)
        state, effects = lease.resume(written, self.context)
        self.mark, self.state = len(self.effects), state
        self.effects += effects

    # Invariants.

    @invariant()
    def announces_checkpoints_in_order_and_one_at_a_time(self) -> None:
        said = [message.sequence for message in self.sent_of(Checkpoint)]
        assert said == list(range(1, len(said) + 1))
        assert self.workload.checkpoint or not self.effects_of(TakeCheckpoint, Terminate)

    @invariant()
    def tells_the_job_only_after_its_requester(self) -> None:
        told = self.effects_of(Terminate)
        assert len(told) == len(self.sent_of(PreemptNotice)) <= 1
        if isinstance(self.state, Leaving):
            assert told
            assert self.now_ms <= self.state.until_ms or self.state.deadline_ms <= self.now_ms
            assert self.state.deadline_ms <= self.state.until_ms

    def begin(self, state: Any, effects: tuple[Any, ...]) -> None:
        super().begin(state, effects)
        self.launches += sum(isinstance(effect, Launch) for effect in effects)
        assert self.launches <= 1, "launched twice without a restart"

    @invariant()
    def speaks_to_its_requester_only(self) -> None:
        assert {peer for peer, _ in self.sent} <= {REQUESTER.peer_id}

    @invariant()
    def never_runs_further_than_paid_and_exposed(self) -> None:
        """The next check is a heartbeat after the limit, or after now if that was missed."""
        if isinstance(self.state, Serving) and not self.state.killed:
            edge_ms = self.state.started_ms + self.state.paid_ms + exposure_of(self.state.paid_ms)
            assert self.state.deadline_ms <= max(edge_ms, self.now_ms) + HEARTBEAT_MS

    @invariant()
    def claims_no_more_than_the_container_may_have_run(self) -> None:
        if isinstance(self.state, Serving) and self.sent and self.mark < len(self.effects):
            last = self.sent[-1][1]
            if isinstance(last, Heartbeat):
                assert last.usage_ms <= self.state.paid_ms + exposure_of(self.state.paid_ms)

    @invariant()
    def budgets_only_grow_within_one_launch(self) -> None:
        budgets: list[int] = []
        for effect in self.effects:
            if isinstance(effect, Launch):
                budgets = [effect.budget_ms]
            elif isinstance(effect, Extend):
                budgets.append(effect.budget_ms)
        assert all(before <= after for before, after in pairwise(budgets))

    @invariant()
    def launches_nothing_after_the_end(self) -> None:
        kinds = [type(effect) for effect in self.effects]
        if Drop in kinds:
            assert Launch not in kinds[kinds.index(Drop):]  # fmt: skip
            assert isinstance(self.state, Ended | Settling)

    @invariant()
    def bills_what_was_used_at_the_agreed_rate(self) -> None:
        bills = [message.receipt for message in self.sent_of(Completed, Released)]
        assert len(bills) <= 1
        for envelope in filter(None, bills):
            bill = open_envelope(envelope, self.signer.network_id, REQUESTER.peer_id).message
            assert isinstance(bill, Receipt)
            assert (bill.rate, bill.payer) == (RATE, REQUESTER.peer_id)
            assert bill.usage_ms <= USAGE_MS_MAX
            assert bill.amount == amount_of(RATE, bill.usage_ms)

    @invariant()
    def keeps_one_receipt_that_is_signed_at_most_once(self) -> None:
        kept = [effect for effect in self.effects if isinstance(effect, Settle)]
        assert len({effect.proposal for effect in kept}) <= 1
        assert len([effect for effect in kept if effect.countersign]) <= 1

    @invariant()
    def claims_no_usage_before_the_container_started(self) -> None:
        started = getattr(self.state, "started", True)
        for _, said in [] if started else self.sent[self.said_before :]:
            assert not isinstance(said, Heartbeat) or said.usage_ms <= self.state.paid_ms

    @invariant()
    def keeps_its_capacity_until_the_container_is_gone(self) -> None:
        if self.state is not None:
            free = isinstance(self.state, Settling | Ended)
            not_yet = bool(self.state.hold.after)
            assert (lease.reserved(self.state) is None) == (free or not_yet)
            assert not not_yet or isinstance(self.state, lease.Unstarted | Ended)


def listing_of(number: int) -> BlobRef:
    """Return the blob that lists a checkpoint."""
    return BlobRef(digest_of(b"checkpoint %d" % number), 64)


def after(steps: int, *, saves: bool = False, follows: bool = False) -> ServingMachine:
    machine = ServingMachine()
    machine.hold(ahead=steps, saves=saves, follows=follows)
    return machine
