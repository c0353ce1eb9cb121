"""The state of one node's protocol. Routes each input to the half that it concerns.

Spec: specs/core.md. The driver passes one input, performs all effects, then passes the next input.
The core does not wait, read a clock or use randomness.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from protocol.core.candidates import Candidates
from protocol.core.directory import Directory, DirectoryView
from protocol.core.jobs import Job
from protocol.core.presence import Presence
from protocol.core.provider import Provider
from protocol.core.queue import QueuePlace
from protocol.core.refusals import OwnRefusal
from protocol.core.requester import Requester
from protocol.core.running import earliest
from protocol.core.standings import Standings
from protocol.machines import provider, requester
from protocol.machines.context import Context, Policy
from protocol.machines.effects import Effect, Send, Settle
from protocol.machines.inputs import (
    ArraySubmitted,
    CheckpointFetched,
    CheckpointLost,
    DeadlineReached,
    DevicesWithheld,
    Input,
    Isolated,
    JobCancelled,
    JobSubmitted,
    MembersFar,
    MembersHeld,
    MembersNear,
    MembersReady,
    NetworkLost,
    OutputsFetched,
    OutputsLost,
    PeerAnswered,
    PeerConnected,
    PeerDisconnected,
    PolicyChanged,
    PreparationMeasured,
    ReclaimRequested,
    RecordReceived,
    StateHeard,
    StopRequested,
)
from protocol.rules.advice import Advice
from protocol.rules.capacity import Capacity, without
from protocol.rules.fraud import Finding
from protocol.rules.matching import demand_of_job
from protocol.rules.start_promise import UNMEASURED
from protocol.values.ids import JobId, LeaseId, PeerId
from protocol.wire.envelope import Signed, Signer
from protocol.wire.job import JobSpec
from protocol.wire.messages import ROLE_OF, CapabilityRecord, Listing, Role

CONNECTED_MAX: Final = 1_024
"""The core tracks at most this many connected peers; a node has far fewer connections."""


@dataclass(frozen=True, slots=True)
class Saved:
    """What an earlier run saved and this run continues with."""

    jobs: tuple[Job, ...] = ()
    awards: tuple[requester.award.State, ...] = ()
    leases: tuple[requester.lease.State, ...] = ()
    leases_provided: tuple[provider.lease.State, ...] = ()
    sequence: int = 0
    """The sequence number of this node's last capability record."""
    settled: tuple[tuple[PeerId, int], ...] = ()
    """Peers that have signed a receipt with this node, most recent first, each with the usage, in
    ms, for which it paid this node."""
    proven: tuple[Finding, ...] = ()
    """The frauds of requesters that this node can prove."""


@dataclass(frozen=True, slots=True)
class Status:
    """A frozen view of the core."""

    policy: Policy
    free: Capacity
    """The capacity that no lease has reserved."""
    record: CapabilityRecord | None
    """This node's own record, as last announced."""
    listings: tuple[Listing, ...]
    """The valid records in the directory."""
    leases_provided: tuple[LeaseId, ...]
    """Leases that this node provides."""
    jobs_provided: int
    """How many of them have a job that has not ended."""
    illegal: Mapping[str, int]
    """How often each illegal input came, by the names of machine, state and input."""


@dataclass(frozen=True, slots=True)
class Outlook:
    """What a new job would wait for, as far as this node knows."""

    jobs: int
    """The waiting jobs of this node."""
    why: str
    """Why equal jobs wait; empty if they do not."""
    retry_ms: int | None
    """When equal jobs call for bids again; None if at once."""


class Core:
    """The only mutable object of the protocol."""

    def __init__(
        self, signer: Signer, policy: Policy, directory: DirectoryView | None = None,
        refusals_max: int = 0,
    ) -> None:  # fmt: skip
        """Create a core for a key and its owner's policy; its directory is its own by default.

        It remembers so many refusals for its owner.
        """
        self.signer = signer
        self.policy = policy
        """What this node lends: what its owner allows, without GPUs that are in trouble."""
        self._allowed = policy
        self._withheld: frozenset[str] = frozenset()
        self.preparation = UNMEASURED
        self.directory = Directory() if directory is None else directory
        self.standings = Standings()
        self.candidates = Candidates(self.directory, self.standings)
        self.presence = Presence()
        self.illegal: dict[str, int] = {}
        self.connected: dict[PeerId, str] = {}
        """The source of each connected peer."""
        self.requester = Requester(
            self.candidates, self.standings, self.connected.keys(), self.illegal
        )
        self.provider = Provider(
            self.candidates, self.standings, self.connected, self.illegal, refusals_max
        )

    def handle(self, event: Input, now_ms: int) -> list[Effect]:
        """Process one input. Return the effects in the order in which to perform them."""
        if isinstance(event, PolicyChanged | DevicesWithheld):
            self._set_policy(event)
        if isinstance(event, PreparationMeasured):
            self.preparation = event.preparation  # The next bids and the next record have it.
            return []
        effects = self._take(event, self._context(now_ms))
        effects += self.provider.bids.take_notes()
        for effect in effects:
            if isinstance(effect, Settle) and effect.countersign:
                ours = effect.provider == self.signer.peer_id
                paid_ms = effect.usage_ms if ours else 0
                self._note_settled(effect.requester if ours else effect.provider, paid_ms)
        return effects

    def next_deadline_ms(self) -> int | None:
        """Return the time at which the core must be woken; None if there is no deadline."""
        halves = (self.requester.next_deadline_ms(), self.provider.next_deadline_ms())
        return earliest(*halves, self.presence.refresh_ms)

    def recover(self, saved: Saved, policy: Policy, now_ms: int) -> list[Effect]:
        """Continue after a restart from the saved state. Return the effects to perform."""
        self.presence.sequence = saved.sequence
        for peer, paid_ms in reversed(saved.settled):
            self._note_settled(peer, paid_ms)
        for finding in saved.proven:
            self.standings.bar(finding.requester, finding.called_ms)
        effects = self.handle(PolicyChanged(policy), now_ms)
        context = self._context(now_ms)
        effects += self.provider.recover(saved.leases_provided, context)
        effects += self.requester.recover(saved.jobs, saved.awards, saved.leases, context)
        return effects

    def status(self, now_ms: int) -> Status:
        """Return a frozen view of the core."""
        return Status(
            self.policy,
            self.free(),
            self.presence.record,
            self.directory.listings(now_ms),
            tuple(self.provider.leases),
            self.provider.jobs(),
            dict(self.illegal),
        )

    def free(self) -> Capacity:
        """Return the capacity that no lease has reserved."""
        return self.provider.left(self.policy.capacity)

    def record_of(self, peer: PeerId, now_ms: int) -> CapabilityRecord | None:
        """Return the valid record of a peer; None if there is none."""
        return self.directory.get(peer, now_ms)

    def refusals(self) -> tuple[OwnRefusal, ...]:
        """Return why this node did not serve calls lately, the newest first."""
        return self.provider.refusals.newest()

    def place_of(self, *job_ids: JobId) -> QueuePlace | None:
        """Return the place in the queue of the first of some jobs; None if none of them waits."""
        return self.requester.place_of(*job_ids)

    def advise(self, spec: JobSpec, avoid: tuple[PeerId, ...], now_ms: int) -> Advice:
        """Return how the known nodes relate to a job, submitted or not."""
        return self.candidates.advise(spec, avoid, self._context(now_ms))

    def outlook(self, spec: JobSpec, avoid: tuple[PeerId, ...]) -> Outlook:
        """Return what a job would wait for, if it were submitted now."""
        queue = self.requester.scheduler.queue
        block = queue.block_of((demand_of_job(spec), avoid))
        return Outlook(len(queue), block.why if block else "", block.until_ms if block else None)

    def knows(self, peer: PeerId) -> bool:
        """Return whether a peer is known: a receipt is settled, or a lease is active."""
        return (
            self.standings.of(peer).settled
            or self.requester.has_lease_of(peer)
            or self.provider.has_lease_for(peer)
        )

    def _take(self, event: Input, context: Context) -> list[Effect]:
        match event:
            case Signed():
                return self._hear(event, context)
            case RecordReceived(signed, source):
                return self._meet(signed, source, context)
            case PeerConnected():
                return self._connect(event, context)
            case PeerDisconnected(peer):
                self._disconnect(peer)
                return self.requester.watch(event, context)
            case PeerAnswered() | NetworkLost():
                return self.requester.watch(event, context)
            case PolicyChanged() | DevicesWithheld():
                return [
                    *self.provider.handle(event, context), *self.presence.handle(event, context),
                ]  # fmt: skip
            case StopRequested() | ReclaimRequested():
                return self._stop(event, context)
            case DeadlineReached():
                self.directory.expire(context.now_ms)
                return [
                    *self.requester.handle(event, context),
                    *self.provider.handle(event, context),
                    *self.presence.handle(event, context),
                ]
            case (
                JobSubmitted() | ArraySubmitted() | JobCancelled() | CheckpointFetched()
                | CheckpointLost() | OutputsFetched() | OutputsLost() | StateHeard() | Isolated()
                | MembersHeld() | MembersNear() | MembersFar() | MembersReady()
            ):  # fmt: skip
                return self.requester.handle(event, context)
            case _:
                return self.provider.handle(event, context)

    def _set_policy(self, event: PolicyChanged | DevicesWithheld) -> None:
        if isinstance(event, PolicyChanged):
            self._allowed = event.policy
        else:
            self._withheld = event.devices
        lent = without(self._allowed.capacity, self._withheld)
        self.policy = replace(self._allowed, capacity=lent)

    def _context(self, now_ms: int) -> Context:
        return Context(now_ms, self.signer, self.policy, self.standings.of, self.preparation)

    def _hear(self, event: Signed[Any], context: Context) -> list[Effect]:
        match ROLE_OF[type(event.message)]:
            case Role.NODE:
                return self._meet(event, self.connected.get(event.signer, ""), context)
            case Role.REQUESTER:
                return self.requester.hear(event, context)
            case Role.EITHER if self.requester.concerns(event.message.lease_id):
                return self.requester.hear(event, context)
            case _:
                return self.provider.hear(event, context)

    def _meet(self, event: Signed[CapabilityRecord], source: str, context: Context) -> list[Effect]:
        record = event.message
        if not self.directory.add(event.signer, record, source, context.now_ms):
            return []
        return self.requester.meet(event.signer, record, context)

    def _connect(self, event: PeerConnected, context: Context) -> list[Effect]:
        self.connected[event.peer] = event.source
        self.directory.protect(event.peer)
        if len(self.connected) > CONNECTED_MAX:  # The event of a disconnection may be lost.
            self._disconnect(next(iter(self.connected)))
        return [*self.presence.handle(event, context), *self.requester.watch(event, context)]

    def _disconnect(self, peer: PeerId) -> None:
        source = self.connected.pop(peer, "")
        if not self.standings.of(peer).settled:
            self.directory.expose(peer, source)

    def _stop(self, event: StopRequested | ReclaimRequested, context: Context) -> list[Effect]:
        if isinstance(event, ReclaimRequested):
            return self.provider.handle(StopRequested(event.notice_ms), context)
        self._set_policy(PolicyChanged(replace(self._allowed, providing=False)))
        effects = [*self.provider.handle(event, context), *self.presence.withdraw(context)]
        # A peer that has just connected may not receive gossip yet.
        told: Iterable[PeerId] = self.connected if self.presence.envelope else ()
        return [*effects, *(Send(peer, self.presence.envelope, 0) for peer in told)]

    def _note_settled(self, peer: PeerId, paid_ms: int) -> None:
        self.standings.settle(peer, paid_ms)
        self.directory.protect(peer)
