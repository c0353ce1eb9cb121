"""The leases of a requester: one for each job that runs, or is about to.

Spec: specs/lease.md#requester, specs/survival.md.
"""

from collections.abc import Collection, Iterable
from typing import Any, Final, Protocol

from protocol.core.auctions import Auctions
from protocol.core.jobs import WORTH_RETRYING
from protocol.core.reconciling import Reconciler
from protocol.core.running import RunningStates, earliest
from protocol.core.standings import Standings
from protocol.machines.context import Context
from protocol.machines.effects import Effect, Send
from protocol.machines.events import Failed
from protocol.machines.inputs import (
    DeadlineReached,
    Isolated,
    NetworkLost,
    PeerAnswered,
    PeerConnected,
    PeerDisconnected,
    SlotFreed,
    StateHeard,
)
from protocol.machines.requester import lease
from protocol.machines.requester.auction import SoldSlot
from protocol.machines.table import count_illegal, step
from protocol.rules.metering import amount_of
from protocol.rules.standing import BROKEN
from protocol.values.ids import JobId, LeaseId, PeerId
from protocol.values.limits import SUCCESSOR_MS
from protocol.values.reasons import Failure, Release
from protocol.wire.envelope import Signed
from protocol.wire.messages import Heartbeat, LeaseEntry, LeaseRelease, LeaseStates

BROKEN_BY_PROVIDER: Final = frozenset({
    Failure.PROVIDER_LOST, Failure.NOT_STARTED, Failure.OVERRUN, Failure.OUTPUTS_LOST
})  # fmt: skip
"""Failures that count as a broken promise of the provider. Stopping with notice does not; what the
job may have caused counts when another node has done it."""
FAILED_BY_PROVIDER: Final = BROKEN_BY_PROVIDER | {Failure.PROVIDER_STOPPED, Failure.GPU_LOST}
"""Failures that lower its chance of further jobs: work is lost, with or without notice."""


class LeasedJobs(Protocol):
    """What follows for the job of a lease."""

    def finish(self, job_id: JobId, told: Collection[Effect], context: Context) -> list[Effect]:
        """End a job that is done and paid; `told` are the effects of its last step."""

    def break_off(
        self, job_id: JobId, failed: Failed, exit_class: str, context: Context
    ) -> list[Effect]:
        """End an attempt of a job without a result."""

    def go_on(self, state: lease.State, told: Iterable[Effect], context: Context) -> list[Effect]:
        """Do what follows from a step of a lease that goes on."""


class Leases:
    """The leases by id, and the slots that they use."""

    def __init__(
        self, auctions: Auctions, standings: Standings, connected: Collection[PeerId],
        illegal: dict[str, int], jobs: LeasedJobs,
    ) -> None:  # fmt: skip
        """Take the auctions that sold the slots, what the core knows of peers, and the jobs."""
        self.states: RunningStates[LeaseId, lease.State] = RunningStates()
        self._auctions = auctions
        self._standings = standings
        self._connected = connected
        self._illegal = illegal
        self._jobs = jobs
        self._lease_of: dict[JobId, LeaseId] = {}
        self._slots: dict[LeaseId, SoldSlot] = {}
        """The slot that each lease uses, or will; none after a restart."""
        self._successors: dict[LeaseId, LeaseId] = {}
        """The lease that gets the slot of another one next, by the other."""
        self._reconciler = Reconciler(self.states)
        self._network_lost = False
        """Whether no peer answered when one was probed."""

    def __contains__(self, job_id: JobId) -> bool:
        """Return whether a job has a lease."""
        return job_id in self._lease_of

    def of_job(self, job_id: JobId) -> lease.State:
        """Return the lease of a job."""
        return self.states[self._lease_of[job_id]]

    def has_any_of(self, peer: PeerId) -> bool:
        """Return whether there is a lease with a provider."""
        return peer in self._reconciler

    def next_deadline_ms(self) -> int | None:
        """Return the earliest deadline; None if there is none."""
        return earliest(self.states.next_deadline_ms(), self._reconciler.next_deadline_ms())

    def begin(self, terms: lease.Lease, slot: SoldSlot | None, context: Context) -> list[Effect]:
        """Begin a lease on a slot; the slot is None after a restart."""
        state, effects = lease.begin(terms, context)
        self._add(state, context)
        if slot is not None:
            self._slots[terms.lease_id] = slot
        return list(effects)

    def recover(self, held: lease.State, context: Context) -> list[Effect]:
        """Continue a saved lease."""
        resumed, effects = lease.resume(held, context)
        self._add(resumed, context)
        return list(effects)

    def reach_deadlines(self, event: DeadlineReached, context: Context) -> list[Effect]:
        """Process all deadlines that have passed, and compare the leases with their providers."""
        isolated = self._network_lost or not self._connected
        effects: list[Effect] = []
        for lease_id in self.states.take_due(context.now_ms):
            # A step may have ended further leases of the list: those of its gang.
            waits = isolated and isinstance(self.states.get(lease_id), lease.Watched)
            effects += self.step(lease_id, Isolated(lease_id) if waits else event, context)
        return [*effects, *self._reconciler.compare(context)]

    def watch(
        self, event: PeerConnected | PeerDisconnected | PeerAnswered | NetworkLost, context: Context
    ) -> list[Effect]:
        """Process what the network says about providers."""
        if not isinstance(event, PeerDisconnected):
            self._network_lost = isinstance(event, NetworkLost)
        if isinstance(event, NetworkLost | PeerConnected):
            return []
        theirs = list(self._reconciler.leases_with(event.peer))
        return [each for one in theirs for each in self.step(one, event, context)]

    def note_answer(self) -> None:
        """Record that a peer has said something: the network is there."""
        self._network_lost = False

    def hear(self, event: Signed[Any], context: Context) -> list[Effect]:
        """Process a message of a provider."""
        if isinstance(event.message, LeaseStates):
            return self._hear_states(event.message.leases, event.signer, context)
        state = self.states.get(event.message.lease_id)
        if state is None and isinstance(event.message, Heartbeat):
            # The provider missed our release and may hold a paused container for an ended job.
            # Sent once: the next heartbeat triggers it again.
            over = LeaseRelease(event.message.lease_id, Release.FENCED, "the lease has ended")
            return [Send(event.signer, context.signer.sign(over).envelope, 0)]
        if state is None or state.lease.provider != event.signer:
            return []
        return self.step(event.message.lease_id, event, context)

    def step(self, lease_id: LeaseId, event: Any, context: Context) -> list[Effect]:
        """Pass an input to a lease."""
        if lease_id not in self.states:
            return []
        before = self.states[lease_id]
        count_illegal(self._illegal, "requester-lease", lease.ILLEGAL, before, event)
        state, effects = step(lease.TRANSITIONS, before, event, context)
        if isinstance(state, lease.Fetched) and isinstance(before, lease.MayRun):
            effects = (*effects, *self._free_slot(state, context))
        elif isinstance(before, lease.Launching) and isinstance(state, lease.Executing):
            self._note_running(state, context)
        match state:
            case lease.Closed(terms):
                self._remove(terms)
                self._standings.note_job(terms.provider, context.now_ms, succeeded=True)
                return [*effects, *self._jobs.finish(terms.job_id, effects, context)]
            case lease.Broken(terms, reason, why, usage_ms, exit_class):
                self._remove(terms)
                self._give_up_slot(terms, reason, context)
                self._blame(terms.provider, reason, context)
                amount = amount_of(terms.rate, usage_ms)
                failed = Failed(reason, why, terms.provider, usage_ms, amount)
                after = self._jobs.break_off(terms.job_id, failed, exit_class, context)
                return [*effects, *after]
            case _:
                self.states[lease_id] = state
                return [*effects, *self._jobs.go_on(state, effects, context)]

    def _hear_states(
        self, entries: tuple[LeaseEntry, ...], provider: PeerId, context: Context
    ) -> list[Effect]:
        effects: list[Effect] = []
        for entry in entries:
            if entry.lease_id in self._reconciler.leases_with(provider):
                heard = StateHeard(entry.lease_id, entry.state, entry.vouchers)
                effects += self.step(entry.lease_id, heard, context)
        return effects

    def _note_running(self, state: lease.Executing, context: Context) -> None:
        terms = state.lease
        if terms.lease_id in self._slots:
            self._auctions.begin_use(terms.lease_id, self._slots[terms.lease_id])
        if lease.late_ms(terms, context.now_ms):
            self._standings.note_late(terms.provider, context.now_ms)

    def _free_slot(self, state: lease.Fetched, context: Context) -> list[Effect]:
        """Let the slot of a container that has exited carry another job."""
        terms, usage_ms = state.lease, state.completed.usage_ms
        slot = self._slots.pop(terms.lease_id, None)
        if slot is not None and not self._auctions.end_use(terms.lease_id, slot, usage_ms):
            self._auctions.release(slot)
        following = self._successors.pop(terms.lease_id, None)
        if following is None:
            return []
        # Its usage is counted after ours: no time of the slot is paid twice.
        return self.step(following, SlotFreed(following, state.since_ms + usage_ms), context)

    def _give_up_slot(self, terms: lease.Lease, reason: Failure, context: Context) -> None:
        """Replace the slot of a provider that failed, or let it carry another job.

        If another lease has it too, that lease decides: the one after it, or the one before it.
        """
        slot = self._slots.pop(terms.lease_id, None)
        if slot is None:
            return
        usage_ms = SUCCESSOR_MS if reason is Failure.SLOT_BUSY else 0
        if self._auctions.end_use(terms.lease_id, slot, usage_ms) or self._auctions.give_back(slot):
            return
        if reason in WORTH_RETRYING:  # A losing bid stands by.
            self._auctions.replace(slot, context)
        else:
            self._auctions.release(slot)

    def _blame(self, provider: PeerId, reason: Failure, context: Context) -> None:
        """Note a failed job of a provider, and a broken promise if it is one."""
        if reason in BROKEN_BY_PROVIDER:
            self._standings.strike(provider, BROKEN, context.now_ms)
        if reason in FAILED_BY_PROVIDER:
            self._standings.note_job(provider, context.now_ms, succeeded=False)

    def _add(self, state: lease.State, context: Context) -> None:
        terms = state.lease
        self.states[terms.lease_id] = state
        self._lease_of[terms.job_id] = terms.lease_id
        if terms.after:
            self._successors[terms.after] = terms.lease_id
        self._reconciler.add(terms.provider, terms.lease_id, context)

    def _remove(self, terms: lease.Lease) -> None:
        del self.states[terms.lease_id], self._lease_of[terms.job_id]
        self._successors.pop(terms.after, None)
        self._reconciler.remove(terms.provider, terms.lease_id)
