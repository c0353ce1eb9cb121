"""When this node compares its leases with each provider, and which of them.

Spec: specs/survival.md#comparison.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice

from protocol.core.running import RunningStates
from protocol.machines.context import Context
from protocol.machines.effects import Send
from protocol.machines.requester import lease
from protocol.values.ids import LeaseId, PeerId
from protocol.values.limits import LEASES_LISTED_MAX, RECONCILE_MS
from protocol.wire.messages import LeaseQuery


@dataclass(frozen=True, slots=True)
class NextComparison:
    """When the leases with one provider are compared again."""

    deadline_ms: int


class Reconciler:
    """The providers that this node has leases with."""

    def __init__(self, leases: Mapping[LeaseId, lease.State]) -> None:
        self._leases = leases
        self._of: dict[PeerId, dict[LeaseId, None]] = {}
        """The leases with each provider; those compared longest ago are first."""
        self._due: RunningStates[PeerId, NextComparison] = RunningStates()

    def __contains__(self, provider: PeerId) -> bool:
        """Return whether there is a lease with a provider."""
        return provider in self._of

    def leases_with(self, provider: PeerId) -> Iterable[LeaseId]:
        """Return the leases with a provider."""
        return self._of.get(provider, {}).keys()

    def add(self, provider: PeerId, lease_id: LeaseId, context: Context) -> None:
        """Compare a new lease, too."""
        self._of.setdefault(provider, {})[lease_id] = None
        if provider not in self._due:
            self._plan(provider, context)

    def remove(self, provider: PeerId, lease_id: LeaseId) -> None:
        """Compare an ended lease no longer."""
        del self._of[provider][lease_id]
        if not self._of[provider]:
            del self._of[provider], self._due[provider]

    def next_deadline_ms(self) -> int | None:
        """Return when the next comparison is due; None if there are no leases."""
        return self._due.next_deadline_ms()

    def compare(self, context: Context) -> list[Send]:
        """Return the queries that are due: one to each provider, sent once."""
        queries = []
        for provider in self._due.take_due(context.now_ms):
            self._plan(provider, context)
            states = [self._leases[one] for one in self._next(provider)]
            entries = tuple(lease.entry_of(one) for one in states if isinstance(one, lease.Live))
            query = context.signer.sign(LeaseQuery(entries))
            queries.append(Send(provider, query.envelope, 0))
        return queries

    def _next(self, provider: PeerId) -> list[LeaseId]:
        """Return the leases whose turn it is: of more than fit into a message, others each time."""
        theirs = self._of[provider]
        turn = list(islice(theirs, LEASES_LISTED_MAX))
        for lease_id in turn:
            del theirs[lease_id]
            theirs[lease_id] = None
        return turn

    def _plan(self, provider: PeerId, context: Context) -> None:
        # Jitter without randomness: unknown to others, and different each time.
        when = provider.encode() + context.now_ms.to_bytes(8)
        chance = int.from_bytes(context.signer.secret(b"compare", when)[:4])
        wait_ms = RECONCILE_MS * 3 // 4 + chance % (RECONCILE_MS // 2)
        self._due[provider] = NextComparison(context.now_ms + wait_ms)
