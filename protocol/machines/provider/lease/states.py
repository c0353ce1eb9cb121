"""The states of a lease, as its provider sees it.

Spec: specs/lease-machines.md#provider-lease.
"""

from dataclasses import dataclass
from typing import Final

from protocol.machines.effects import Effect
from protocol.rules.capacity import Reservation
from protocol.values.ids import NO_LEASE, CallId, ContentId, LeaseId, PeerId
from protocol.wire.job import TIMEOUT_MS_MAX, Resources, Workload
from protocol.wire.messages import Receipt


@dataclass(frozen=True, slots=True)
class Hold:
    """What stays the same from the award to the receipt."""

    lease_id: LeaseId
    call_id: CallId
    requester: PeerId
    attempt: int
    rate: int
    usage_ms_max: int
    resources: Resources
    reservation: Reservation
    after: LeaseId = NO_LEASE
    """The lease that uses the reserved capacity until its container has exited. Older snapshots
    lack it."""


@dataclass(frozen=True, slots=True)
class Held:
    """We accepted the award; the requester has not confirmed yet."""

    hold: Hold
    deadline_ms: int
    accept: ContentId
    others: tuple[PeerId, ...] = ()
    """The other providers of a gang, once the requester asks how far they are. Older snapshots lack
    it."""


@dataclass(frozen=True, slots=True)
class Active:
    """The contract is complete; the requester has not sent the job yet."""

    hold: Hold
    deadline_ms: int
    contract: ContentId


@dataclass(frozen=True, slots=True)
class Preparing:
    """Image and inputs are being fetched."""

    hold: Hold
    deadline_ms: int
    contract: ContentId
    workload: Workload
    until_ms: int
    beat: int
    fetched: int = 0
    total: int = 0
    fetched_ms: int = 0
    """When the last bytes arrived. Older snapshots lack it; a restart resets it."""

    @property
    def complete(self) -> bool:
        """Whether all bytes have arrived: the remaining work is local."""
        return 0 < self.total <= self.fetched


@dataclass(frozen=True, slots=True)
class Waiting:
    """Image and inputs are here; the requester has not started the job yet."""

    hold: Hold
    deadline_ms: int
    contract: ContentId
    workload: Workload
    until_ms: int = 0
    """When it is too late. Older snapshots lack it: then it is the deadline."""
    beat: int = 0
    told_to_start: bool = False
    """Whether the requester has started it, and it waits for the lease before it on its slot."""


@dataclass(frozen=True, slots=True)
class TakenCheckpoints:
    """The checkpoints of a running job, as far as its provider has taken them."""

    due_ms: int = 0
    """When we look for the next."""
    sequence: int = 0
    """How many were announced."""
    listing: bytes = b""
    """The digest of the newest, or of the one that the job continues from."""
    mark: bytes = b""
    """What its path looked like: it is taken again only if that changes."""
    unacknowledged: bytes = b""
    """The envelope of the newest announcement; empty if the requester has answered."""


NOTHING_TAKEN: Final = TakenCheckpoints()


@dataclass(frozen=True, slots=True)
class Serving:
    """The container runs, or is about to."""

    hold: Hold
    deadline_ms: int
    contract: ContentId
    workload: Workload
    started_ms: int
    """When the container started, or was launched if it has not started yet. It moves forward by
    the length of each pause."""
    beat: int
    paid_ms: int
    """The usage that vouchers cover."""
    vouchers: int
    voucher: bytes
    """The envelope of the newest voucher, which proves the requester's debt. Empty before the
    first."""
    killed: bool = False
    """Whether the container was told to stop, for lack of vouchers."""
    started: bool = False
    """Whether the container has started: nothing before that is usage."""
    paused_since_ms: int = 0
    """Since when the container has been paused for lack of vouchers; 0 if it is not paused."""
    paused_at_ms: int = 0
    """The usage at the pause."""
    checkpoints: TakenCheckpoints = NOTHING_TAKEN
    """Older snapshots lack it."""

    @property
    def is_paused(self) -> bool:
        """Whether the container is paused until the next voucher."""
        return self.paused_since_ms > 0 and not self.killed


@dataclass(frozen=True, slots=True)
class Leaving:
    """Our owner takes the machine back: the job was told, and its last checkpoint is awaited."""

    hold: Hold
    deadline_ms: int
    workload: Workload
    until_ms: int
    """When the lease ends, whatever is still under way."""
    beat: int
    paid_ms: int
    checkpoints: TakenCheckpoints
    exited: bool = False
    """Whether the container has ended: no further checkpoint comes."""


@dataclass(frozen=True, slots=True)
class Stopping:
    """The container was told to stop; the requester ignores its result."""

    hold: Hold
    deadline_ms: int
    contract: ContentId
    voucher: bytes
    usage_ms_max: int = TIMEOUT_MS_MAX
    """The usage when the requester's release arrived: no more is billed. Older snapshots lack it:
    then all usage is billed."""


@dataclass(frozen=True, slots=True)
class Settling:
    """The bill is sent; the requester has not countersigned yet. Outputs are kept."""

    hold: Hold
    deadline_ms: int
    proposal: bytes
    receipt: Receipt
    voucher: bytes
    """As in Serving; the voucher for the whole usage comes with the countersigned receipt."""
    last_word: bytes = b""
    """The envelope of our Completed or Released. Older snapshots lack it."""


@dataclass(frozen=True, slots=True)
class Ended:
    """The lease is over."""

    hold: Hold


Unstarted = Held | Active | Preparing | Waiting
State = Held | Active | Preparing | Waiting | Serving | Leaving | Stopping | Settling | Ended
Step = tuple[State, tuple[Effect, ...]]


def reserved(state: State) -> Reservation | None:
    """Return the capacity that a state reserves, or None if it is free again, or not free yet."""
    free = isinstance(state, Settling | Ended) or state.hold.after
    return None if free else state.hold.reservation
