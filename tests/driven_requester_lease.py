"""A requester's lease driven by Hypothesis: all possible inputs, and the invariants.

Spec: specs/lease.md#requester.
"""

from itertools import pairwise
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from protocol.machines.effects import (
    FetchCheckpoint,
    FetchOutputs,
    KeepCheckpoint,
    Report,
    Settle,
)
from protocol.machines.events import Done, Running
from protocol.machines.inputs import (
    CheckpointFetched,
    CheckpointLost,
    Isolated,
    JobCancelled,
    OutputsFetched,
    OutputsLost,
    PeerAnswered,
    PeerDisconnected,
    SlotFreed,
    StateHeard,
)
from protocol.machines.requester import lease
from protocol.machines.requester.lease import Broken, Closed, Deploying, Executing, Releasing
from protocol.rules.metering import amount_of, usage_seen_max
from protocol.values.ids import ContentId, JobId, LeaseId, digest_of
from protocol.values.limits import CONFIRM_MS
from protocol.wire.job import BlobRef, Workload
from protocol.wire.messages import (
    GONE,
    PREPARING,
    RUNNING,
    Checkpoint,
    CheckpointAck,
    Completed,
    Deploy,
    Heartbeat,
    LeaseRelease,
    PreemptNotice,
    Ready,
    Receipt,
    Released,
    Start,
    Started,
    Voucher,
)
from protocol.wire.snapshot import from_snapshot, to_snapshot
from tests.driven import Driven
from tests.strategies import SIGNERS

PROVIDER = SIGNERS[1]
LEASE = LeaseId(digest_of(b"lease"))
CONTRACT = ContentId(digest_of(b"contract"))
RATE = 3_333
TIMEOUT_MS = 90_000
TERMS = lease.Lease(
    JobId(bytes(16)), LEASE, PROVIDER.peer_id, CONTRACT, RATE, 3,
    Workload(bytes(32), ("a",), timeout_ms=TIMEOUT_MS, checkpoint="state"), 10_000,
    resumes_from=7,
)  # fmt: skip
OUTPUTS = BlobRef(digest_of(b"outputs"), 9)
LISTING = BlobRef(digest_of(b"checkpoint"), 9)
USAGES = st.integers(0, 200_000)
LIES = st.sampled_from([{}, {}, {"rate": 1}, {"amount": 10**9}, {"usage_ms": 5}])


def receipt(used_ms: int, **more: Any) -> Receipt:
    fields = {
        "lease_id": LEASE, "contract": CONTRACT, "payer": SIGNERS[0].peer_id,
        "payee": PROVIDER.peer_id, "rate": RATE, "usage_ms": used_ms,
        "amount": amount_of(RATE, used_ms), "exit_code": 0, "outputs": OUTPUTS.digest,
    }  # fmt: skip
    return Receipt(**{**fields, **more})


class LeaseMachine(Driven):
    """All inputs of a requester's lease; the core admits messages of its provider only."""

    table = lease.TRANSITIONS
    union = lease.State
    written_first = (Deploy, Start, Voucher, LeaseRelease, Receipt)

    @initialize(ahead=st.integers(0, 4))
    def begin_lease(self, ahead: int) -> None:
        """Take some steps of an undisturbed lease, so that all of its states are explored."""
        self.started_ms: int | None = None
        self.begin(*lease.begin(TERMS, self.context))
        undisturbed = [self.ready, self.started, lambda: self.heartbeat(RUNNING, 17_894, 1),
                       lambda: self.completed(15_000, {})]  # fmt: skip
        for step in undisturbed[:ahead]:
            self.time_passes(13_000)
            step()

    def hear(self, message: Any) -> None:
        quiet = self.over
        effects = self.take(PROVIDER.sign(message))
        assert not (quiet and effects)
        if self.started_ms is None and self.sent_of(Start):
            self.started_ms = self.now_ms

    @rule(state=st.integers(PREPARING, RUNNING), usage_ms=USAGES, number=st.integers(0, 9))
    def heartbeat(self, state: int, usage_ms: int, number: int) -> None:
        self.hear(Heartbeat(LEASE, number, state, usage_ms))

    @rule()
    def ready(self) -> None:
        self.hear(Ready(LEASE))

    @rule()
    def started(self) -> None:
        self.hear(Started(LEASE))

    @rule(usage_ms=USAGES, lie=LIES)
    def completed(self, usage_ms: int, lie: dict[str, int]) -> None:
        bill = PROVIDER.sign(receipt(usage_ms, **lie)).envelope
        self.hear(Completed(LEASE, 0, "exited", "", usage_ms, OUTPUTS, bill))

    @rule(reason=st.integers(1, 20))
    def given_back(self, reason: int) -> None:
        self.hear(LeaseRelease(LEASE, reason, ""))

    @rule(ago_ms=st.integers(-5_000, 20_000))
    def slot_is_freed(self, ago_ms: int) -> None:
        before = getattr(self.state, "since_ms", 0)
        self.take(SlotFreed(LEASE, self.now_ms - ago_ms))
        after_ms = getattr(self.state, "since_ms", 0)
        assert before <= after_ms <= max(before, self.now_ms)

    @rule(usage_ms=USAGES, signed=st.booleans())
    def released(self, usage_ms: int, signed: bool) -> None:
        bill = PROVIDER.sign(receipt(usage_ms)).envelope if signed else b""
        self.hear(Released(LEASE, usage_ms, bill))

    @rule(here=st.booleans())
    def outputs(self, here: bool) -> None:
        self.take(OutputsFetched(LEASE) if here else OutputsLost(LEASE, "gone"))

    @rule(sequence=st.integers(1, 12))
    def checkpoint(self, sequence: int) -> None:
        self.hear(Checkpoint(LEASE, sequence, LISTING, 1_000))

    @rule(sequence=st.integers(1, 12), here=st.booleans())
    def checkpoint_fetched(self, sequence: int, here: bool) -> None:
        self.take((CheckpointFetched if here else CheckpointLost)(LEASE, sequence))

    @rule()
    def notice(self) -> None:
        self.hear(PreemptNotice(LEASE, 30_000, 6))

    @rule()
    def user_cancels(self) -> None:
        could = isinstance(self.state, Deploying | lease.Launching | Executing)
        self.take(JobCancelled(TERMS.job_id))
        if could:
            last = self.sent[-1][1]
            assert isinstance(last, LeaseRelease)
            assert isinstance(self.state, Broken | Releasing)

    @rule(how=st.sampled_from(["answers", "disconnects", "isolated"]))
    def network_tells(self, how: str) -> None:
        """Process what the network says of the provider, or of ourselves."""
        before = self.state
        told = {
            "answers": PeerAnswered(PROVIDER.peer_id),
            "disconnects": PeerDisconnected(PROVIDER.peer_id),
            "isolated": Isolated(LEASE),
        }
        self.take(told[how])
        if how == "disconnects" and isinstance(before, lease.Watched):
            assert type(self.state) is type(before), "it is asked before it is fenced"
            assert self.state.deadline_ms <= self.now_ms + CONFIRM_MS or before.liveness.asked

    @rule(state=st.integers(0, 9), vouchers=st.integers(0, 9))
    def compared(self, state: int, vouchers: int) -> None:
        watched = isinstance(self.state, lease.Watched)
        self.take(StateHeard(LEASE, state, vouchers))
        assert not watched or state != GONE or isinstance(self.state, Broken)

    @precondition(lambda self: not self.over)
    @rule()
    def node_restarts(self) -> None:
        """Resume from the last saved state; no message is sent again."""
        written = from_snapshot(lease.State, to_snapshot(self.state))
        self.begin(*lease.resume(written, self.context))

    # Invariants.

    @invariant()
    def vouchers_only_grow_and_never_beyond_the_time_that_passed(self) -> None:
        vouchers = self.sent_of(Voucher)
        for before, after in pairwise(vouchers):
            assert before.sequence < after.sequence
            assert before.usage_ms < after.usage_ms
            assert before.amount <= after.amount
        for voucher in vouchers:
            assert self.started_ms is not None
            assert voucher.usage_ms <= usage_seen_max(self.now_ms - self.started_ms)
            assert voucher.usage_ms <= TIMEOUT_MS, "no more than the job may use"
            assert voucher.amount == amount_of(RATE, voucher.usage_ms)
            assert voucher.contract == CONTRACT

    @invariant()
    def starts_once_and_only_what_is_ready(self) -> None:
        starts = self.sent_of(Start)
        assert len(starts) <= 1
        assert all(start.attempt == TERMS.attempt for start in starts)

    @invariant()
    def says_nothing_after_a_fence_but_what_settles(self) -> None:
        order = [type(message) for _, message in self.sent]
        if LeaseRelease in order:
            after = order[order.index(LeaseRelease) + 1:]  # fmt: skip
            # Once, after the provider's last message: the undisputed amount is paid.
            assert after in ([], [Voucher], [Receipt], [Voucher, Receipt])
            assert isinstance(self.state, Broken if after else Broken | Releasing)

    @invariant()
    def signs_only_what_is_right(self) -> None:
        for signed in self.sent_of(Receipt):
            assert signed.rate == RATE
            assert signed.amount == amount_of(RATE, signed.usage_ms)
            assert self.started_ms is not None
            assert signed.usage_ms <= usage_seen_max(self.now_ms - self.started_ms)
            assert signed.usage_ms <= TIMEOUT_MS

    @invariant()
    def is_done_once_with_outputs_here(self) -> None:
        told = [effect.event for effect in self.effects if isinstance(effect, Report)]
        done = [event for event in told if isinstance(event, Done)]
        assert len(done) == isinstance(self.state, Closed)
        assert len([event for event in told if isinstance(event, Running)]) <= 1
        for event in done:
            assert bool(event.countersign) != bool(event.dispute)
            assert any(isinstance(effect, FetchOutputs) for effect in self.effects)

    @invariant()
    def keeps_receipts_that_agree_with_what_it_told(self) -> None:
        settled = [effect for effect in self.effects if isinstance(effect, Settle)]
        assert len(settled) <= 1
        for effect in settled:
            assert effect.amount == amount_of(RATE, effect.usage_ms)

    @invariant()
    def keeps_checkpoints_in_order_and_only_what_it_has_fetched(self) -> None:
        kept = [each for each in self.effects if isinstance(each, KeepCheckpoint)]
        numbers = [each.number for each in kept]
        assert numbers == sorted(set(numbers)), "a checkpoint goes back"
        wanted = [each.checkpoint for each in self.effects if isinstance(each, FetchCheckpoint)]
        assert all(each.checkpoint in wanted for each in kept)
        said = {each.sequence for each in self.sent_of(CheckpointAck) if each.kept}
        assert said == {each.checkpoint.sequence for each in kept}

    @invariant()
    def says_why_it_broke(self) -> None:
        if isinstance(self.state, Broken):
            assert self.state.why

    def fall_silent(self) -> None:
        """Let a provider be silent, also when it is asked."""
        self.deadline_is_reached(0)
        if not self.over:
            self.deadline_is_reached(0)


def after(steps: int) -> LeaseMachine:
    machine = LeaseMachine()
    machine.begin_lease(ahead=steps)
    return machine
