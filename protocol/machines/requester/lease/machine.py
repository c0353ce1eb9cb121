"""The requester's side of one lease: from the active contract to the countersigned receipt.

Spec: specs/lease.md#requester. A lease that may have started is fenced before another attempt
begins. Vouchers cover the usage that the provider claims, at most the time that we measured.
"""

from dataclasses import replace
from typing import Final

from protocol.machines.context import Context
from protocol.machines.effects import (
    Effect,
    FollowLog,
    Progress,
    Report,
    Send,
    Settle,
)
from protocol.machines.events import (
    CANCELLED,
    Cancelling,
    Done,
    Fetching,
    Returning,
    Running,
    Starting,
)
from protocol.machines.inputs import (
    DeadlineReached,
    JobCancelled,
    MembersReady,
    OutputsFetched,
    OutputsLost,
    SlotFreed,
    StateHeard,
)
from protocol.machines.requester.lease.ending import break_off, paid, save
from protocol.machines.requester.lease.repairing import repeat, voucher_of
from protocol.machines.requester.lease.resuming import fetch_of, woken
from protocol.machines.requester.lease.states import (
    Broken,
    Closed,
    Deploying,
    Executing,
    Fetched,
    Launching,
    Lease,
    Liveness,
    MayRun,
    Releasing,
    Step,
)
from protocol.machines.requester.lease.watching import alive, bound_ms, lose
from protocol.machines.requester.receipts import Bill, countersign
from protocol.machines.table import NOTHING
from protocol.rules.metering import amount_of, payable, usage_seen_max
from protocol.values.limits import (
    MESSAGE_MS,
    PREPARE_MS,
    RELEASE_MS,
    RETURN_MS,
    SETTLEMENT_MS,
    STARTED_MS,
    SUSPECT_MS,
)
from protocol.values.reasons import FAILURE_OF, Failure, Release, failure_told
from protocol.wire.envelope import Signed
from protocol.wire.messages import (
    GONE,
    Completed,
    Deploy,
    Heartbeat,
    LeaseRelease,
    Ready,
    Released,
    Start,
    Started,
)

Claim = tuple[int, tuple[int, bytes] | None, bytes]
"""Usage in milliseconds, exit code and outputs (if any), and the provider's receipt."""
WHY_STOPPED: Final = {
    Release.CANCELLED: CANCELLED, Release.MEMBER_FAILED: "another member of the gang failed",
    Release.SILENT: "its provider has lost another member of the gang",
}  # fmt: skip
"""Why we release a job that may run, in words."""
STOPPED_UNPAID: Final = frozenset({"budget", "killed"})
"""Exit reasons of a container that the provider stopped for lack of payment."""


def begin(lease: Lease, context: Context) -> Step:
    """Send the workload to the provider that holds the active lease."""
    until_ms = context.now_ms + PREPARE_MS
    liveness = Liveness(context.now_ms)
    state = Deploying(lease, context.now_ms + SUSPECT_MS, until_ms, liveness)
    deploy = context.signer.sign(Deploy(lease.lease_id, lease.workload))
    return state, (
        save(state),
        Report(lease.job_id, Fetching(lease.provider, lease.resumes_from)),
        Send(lease.provider, deploy.envelope, context.now_ms + MESSAGE_MS),
    )


def hear_preparing(state: Deploying, event: Signed[Heartbeat], context: Context) -> Step:
    """Extend the deadline of a provider that is alive, up to a bound."""
    heartbeat = event.message
    progress = Progress(state.lease.job_id, heartbeat.fetched, heartbeat.fetch_total)
    return alive(state, context), NOTHING if state.ready else (progress,)


def hear_ready(state: Deploying, event: Signed[Ready], context: Context) -> Step:
    """Start the job; a member of a gang waits until all are ready."""
    if not state.lease.workload.members:
        return _launch(state, context)
    if state.ready:
        return alive(state, context), NOTHING
    ready = replace(alive(state, context), ready=True)
    return ready, (save(ready),)


def launch(state: Deploying, event: MembersReady, context: Context) -> Step:
    """Start a member of a gang of which all are ready."""
    return _launch(state, context)


def _launch(state: Deploying, context: Context) -> Step:
    """Start the one execution of this attempt. The intent is saved before it is sent."""
    lease = state.lease
    now_ms = context.now_ms
    following = Launching(lease, now_ms + SUSPECT_MS, now_ms, Liveness(now_ms))
    start = context.signer.sign(Start(lease.lease_id, lease.attempt))
    return following, (
        save(following),
        Report(lease.job_id, Starting(lease.provider)),
        Send(lease.provider, start.envelope, now_ms + STARTED_MS),
    )


def run(state: Launching, event: Signed[Started], context: Context) -> Step:
    """Follow the log of the container that runs now."""
    lease = state.lease
    following = Executing(
        lease, context.now_ms + SUSPECT_MS, state.since_ms, 0, 0, state.away_ms,
        Liveness(context.now_ms),
    )  # fmt: skip
    return following, (
        save(following),
        Report(lease.job_id, Running(lease.provider, late_ms(lease, context.now_ms))),
        FollowLog(lease.job_id, lease.lease_id, lease.provider, lease.workload),
    )


def late_ms(lease: Lease, now_ms: int) -> int:
    """Return how late a job is that starts now, beyond what its provider promised; 0: in time."""
    return max(0, now_ms - lease.latest_start_ms) if lease.latest_start_ms else 0


def count_from(state: MayRun, event: SlotFreed, context: Context) -> Step:
    """Count usage from the exit of the container before this one on its slot, at most from now."""
    since_ms = max(state.since_ms, min(event.since_ms, context.now_ms))
    following = replace(state, since_ms=since_ms)
    return following, (save(following),)


def pay(state: Executing, event: Signed[Heartbeat], context: Context) -> Step:
    """Sign a voucher for most of the usage, in steps, at most for the time that we measured."""
    lease = state.lease
    if context.now_ms >= bound_ms(state):
        return lose(state, context)  # It might claim to run for ever.
    heard = alive(state, context)
    usage_ms = min(event.message.usage_ms, _usage_max(lease, context.now_ms - state.since_ms))
    usage_ms = payable(usage_ms)
    if usage_ms < state.paid_ms + lease.voucher_ms:
        return heard, NOTHING
    following = replace(heard, paid_ms=usage_ms, vouchers=state.vouchers + 1)
    voucher = context.signer.sign(voucher_of(lease, following.vouchers, usage_ms))
    until_ms = context.now_ms + MESSAGE_MS
    return following, (save(following), Send(lease.provider, voucher.envelope, until_ms))


def take_result(state: MayRun, event: Signed[Completed], context: Context) -> Step:
    """Fetch log and outputs of a container that has exited."""
    lease, completed = state.lease, event.message
    vouchers, paid_ms = paid(state)
    seen_ms = context.now_ms - state.since_ms
    following = Fetched(
        lease, context.now_ms + RETURN_MS, state.since_ms, vouchers, completed, seen_ms, paid_ms
    )
    return following, (
        save(following),
        Report(lease.job_id, Returning(completed.exit_code, completed.usage_ms)),
        fetch_of(lease, completed),
    )


def finish(state: Fetched, event: OutputsFetched, context: Context) -> Step:
    """Countersign the receipt if the bill is right, pay, and report."""
    lease, completed = state.lease, state.completed
    outputs = completed.outputs.digest
    claim = (completed.usage_ms, (completed.exit_code, outputs), completed.receipt)
    bill = _bill(state, claim, state.seen_ms)
    signed, dispute, usage_ms, effects = _pay(state, bill, completed.receipt, context)
    if completed.reason in STOPPED_UNPAID:
        # We were away and did not pay: this is not the job's own end.
        why = "the provider stopped the job: our vouchers did not arrive"
        broken = Broken(lease, Failure.UNPAID, why, usage_ms)
        return broken, (save(broken), *effects)
    ended = exit_class(completed)
    if ended and ended not in lease.exits_seen and len(lease.exits_seen) < lease.retry_on_exit:
        why = completed.detail or f"the job ended with {ended}"
        broken = Broken(lease, Failure.EXITED, why, usage_ms, ended)
        return broken, (save(broken), *effects)
    done = Done(
        completed.exit_code, completed.reason, completed.detail, usage_ms,
        amount_of(lease.rate, usage_ms), outputs, completed.receipt, signed, dispute,
    )  # fmt: skip
    closed = Closed(lease)
    return closed, (save(closed), Report(lease.job_id, done), *effects)


def exit_class(completed: Completed) -> str:
    """Return how a job failed, the same for the same failure; empty if it did not."""
    if completed.reason != "exited":
        return completed.reason
    return f"exit code {completed.exit_code}" if completed.exit_code else ""


def lose_outputs(state: Fetched, event: OutputsLost, context: Context) -> Step:
    """Give up on outputs that no holder can provide."""
    return break_off(state, Release.OUTPUTS_LOST, event.why, context)


def take_release(state: Deploying | MayRun, event: Signed[LeaseRelease], context: Context) -> Step:
    """End a lease that its provider released."""
    reason = failure_told(event.message.reason)
    if reason is Failure.SLOT_BUSY and not state.lease.after:
        reason = Failure.PROVIDER_STOPPED
    why = event.message.detail or "the provider ended the lease"
    # An honest provider discards our vouchers now. Another may keep them: they bind us.
    broken = Broken(state.lease, reason, why, paid(state)[1])
    return broken, (save(broken),)


def give_up_fetching(state: Fetched, event: DeadlineReached, context: Context) -> Step:
    """Give up on outputs whose transfer takes too long."""
    if (awake := woken(state, context)) is not None:
        return awake, (save(awake),)
    why = f"the outputs could not be fetched in {RETURN_MS // 60_000} minutes"
    return break_off(state, Release.OUTPUTS_LOST, why, context)


def cancel_unstarted(state: Deploying, event: JobCancelled, context: Context) -> Step:
    """Release a lease under which nothing has started."""
    return break_off(state, event.reason, WHY_STOPPED[event.reason], context)


def cancel(state: MayRun, event: JobCancelled, context: Context) -> Step:
    """Release a lease and wait for the bill, unless its provider is lost."""
    lease = state.lease
    if event.reason is Release.SILENT:
        return break_off(state, event.reason, WHY_STOPPED[event.reason], context)
    until_ms = context.now_ms + RELEASE_MS
    following = Releasing(lease, until_ms, state.since_ms, *paid(state), event.reason)
    release = context.signer.sign(LeaseRelease(lease.lease_id, event.reason))
    until_ms = context.now_ms + MESSAGE_MS
    return following, (
        save(following),
        Report(lease.job_id, Cancelling(lease.provider)),
        Send(lease.provider, release.envelope, until_ms),
    )


def settle_release(state: Releasing, event: Signed[Released], context: Context) -> Step:
    """Pay the usage until our user cancelled."""
    released = event.message
    return _settle_cancelled(state, (released.usage_ms, None, released.receipt), context)


def settle_crossed(state: Releasing, event: Signed[Completed], context: Context) -> Step:
    """Pay a job that exited before our cancellation arrived."""
    completed = event.message
    result = (completed.exit_code, completed.outputs.digest)
    claim = (completed.usage_ms, result, completed.receipt)
    return _settle_cancelled(state, claim, context)


def stop_waiting(
    state: Releasing, event: DeadlineReached | Signed[LeaseRelease], context: Context
) -> Step:
    """End a cancelled lease whose provider is silent, or released it at the same time."""
    return _end_cancelled(state, state.paid_ms, NOTHING)


def compare_releasing(state: Releasing, event: StateHeard, context: Context) -> Step:
    """Repeat the release, or stop waiting for the bill of a lease that its provider forgot."""
    if event.state == GONE:
        return _end_cancelled(state, state.paid_ms, NOTHING)
    return state, repeat(state, event, context)


def _bill(state: Fetched | Releasing, claim: Claim, seen_ms: int) -> Bill:
    lease, (usage_ms, result, _) = state.lease, claim
    parties = (lease.lease_id, lease.contract, lease.provider, lease.rate)
    # At least the time that we paid has passed, even if our clock was set back since.
    return Bill(*parties, usage_ms, max(state.paid_ms, _usage_max(lease, seen_ms)), result)


def _pay(
    state: Fetched | Releasing, bill: Bill, proposal: bytes, context: Context
) -> tuple[bytes, str, int, tuple[Effect, ...]]:
    """Return our countersign or the dispute, the usage due, and the effects that pay it."""
    lease = state.lease
    signed, dispute = countersign(bill, proposal, context.signer)
    usage_ms = min(bill.usage_ms, bill.usage_ms_max)
    if not signed:  # Only a receipt signed by both sides can reduce what we promised.
        usage_ms = max(usage_ms, state.paid_ms)
    amount = amount_of(lease.rate, usage_ms)
    until_ms = context.now_ms + SETTLEMENT_MS
    receipt = (Send(lease.provider, signed, until_ms),) if signed else NOTHING
    return (
        signed,
        dispute,
        usage_ms,
        (
            _settle(lease, context, usage_ms, amount, (proposal, signed)),
            *_last_voucher(state, usage_ms, context),
            *receipt,
        ),
    )


def _settle_cancelled(state: Releasing, claim: Claim, context: Context) -> Step:
    proposal = claim[2]
    if not proposal:  # Nothing ran, or the provider does not know the usage.
        return _end_cancelled(state, state.paid_ms, NOTHING)
    bill = _bill(state, claim, context.now_ms - state.since_ms)
    _, _, usage_ms, effects = _pay(state, bill, proposal, context)
    return _end_cancelled(state, usage_ms, effects)


def _end_cancelled(state: Releasing, usage_ms: int, effects: tuple[Effect, ...]) -> Step:
    broken = Broken(state.lease, FAILURE_OF[state.reason], WHY_STOPPED[state.reason], usage_ms)
    return broken, (save(broken), *effects)


def _last_voucher(
    state: Fetched | Releasing, usage_ms: int, context: Context
) -> tuple[Effect, ...]:
    if usage_ms <= state.paid_ms:
        return NOTHING  # A promise never decreases; the receipt states what is due.
    voucher = context.signer.sign(voucher_of(state.lease, state.vouchers + 1, usage_ms))
    return (Send(state.lease.provider, voucher.envelope, context.now_ms + SETTLEMENT_MS),)


def _usage_max(lease: Lease, seen_ms: int) -> int:
    """Return the most usage that we pay: the measured time, at most the job's time limit."""
    return min(usage_seen_max(seen_ms), lease.workload.timeout_ms)


def _settle(
    lease: Lease,
    context: Context,
    usage_ms: int,
    amount: int,
    envelopes: tuple[bytes, bytes],
) -> Settle:
    requester = context.signer.peer_id
    return Settle(lease.lease_id, lease.provider, requester, usage_ms, amount, *envelopes)
