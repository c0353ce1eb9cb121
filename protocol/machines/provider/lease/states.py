"""The states of a lease, as its provider sees it.

Spec: specs/machines.md#provider-lease.
"""

from dataclasses import dataclass

from protocol.machines.effects import Effect
from protocol.rules.capacity import Reservation
from protocol.values.ids import CallId, ContentId, LeaseId, PeerId
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


@dataclass(frozen=True, slots=True)
class Held:
    """We accepted the award; the requester has not confirmed yet."""

    hold: Hold
    deadline_ms: int
    accept: ContentId


@dataclass(frozen=True, slots=True)
class Active:
    """The contract stands; the requester has not sent the job yet."""

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
    """When something came last. Snapshots of older nodes do not say it; a restart sets it anew."""

    @property
    def complete(self) -> bool:
        """Whether everything has come: what is still to be done is our own work."""
        return 0 < self.total <= self.fetched


@dataclass(frozen=True, slots=True)
class Waiting:
    """Everything is here; the requester has not started it yet."""

    hold: Hold
    deadline_ms: int
    contract: ContentId
    workload: Workload


@dataclass(frozen=True, slots=True)
class Serving:
    """The container runs, or is about to."""

    hold: Hold
    deadline_ms: int
    contract: ContentId
    workload: Workload
    started_ms: int
    """When the container started; as long as it has not, when it was told to. It moves by the time
    in which the container was paused."""
    beat: int
    paid_ms: int
    """The usage that vouchers cover."""
    vouchers: int
    voucher: bytes
    """The envelope of the newest voucher: the requester's debt. Empty before the first."""
    killed: bool = False
    """Whether the container was told to stop, for lack of vouchers."""
    started: bool = False
    """Whether the container has started: nothing before that is usage."""
    paused_since_ms: int = 0
    """Since when the container has been paused, for lack of vouchers; 0 if it is not."""
    paused_at_ms: int = 0
    """The usage at which it stands then."""

    @property
    def is_paused(self) -> bool:
        """Whether the container waits for a voucher."""
        return self.paused_since_ms > 0 and not self.killed


@dataclass(frozen=True, slots=True)
class Stopping:
    """The container was told to stop, and its requester does not want the result."""

    hold: Hold
    deadline_ms: int
    contract: ContentId
    voucher: bytes
    usage_ms_max: int = TIMEOUT_MS_MAX
    """What had been used when the requester's release came: no more is billed. Snapshots of older
    nodes do not say it: then all that ran is billed."""


@dataclass(frozen=True, slots=True)
class Settling:
    """The bill is out; the requester has not countersigned yet. Outputs are kept."""

    hold: Hold
    deadline_ms: int
    proposal: bytes
    receipt: Receipt
    voucher: bytes
    """As in Serving; the one for the whole usage comes with the countersigned receipt."""


@dataclass(frozen=True, slots=True)
class Ended:
    """Nothing of the lease is left."""

    hold: Hold


Unstarted = Held | Active | Preparing | Waiting
State = Held | Active | Preparing | Waiting | Serving | Stopping | Settling | Ended
Step = tuple[State, tuple[Effect, ...]]


def reserved(state: State) -> Reservation | None:
    """Return the capacity that a state keeps, or None if it is free again."""
    return None if isinstance(state, Settling | Ended) else state.hold.reservation
