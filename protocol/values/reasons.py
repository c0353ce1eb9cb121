"""Why something did not happen: numbers on the wire, codes for people.

Spec: specs/errors.md#reasons. A number never changes; an unknown one is kept, not rejected.
"""

from enum import IntEnum, StrEnum
from typing import Final


class Refusal(IntEnum):
    """Why a provider does not bid on a call that its capability record would allow."""

    BUSY = 1
    PRICE = 2
    UNPAID = 3
    UNPROVEN = 4
    CONDUCT = 5
    POLICY = 6
    EGRESS = 7


class Decline(IntEnum):
    """Why a provider declines an award."""

    BUSY = 1
    EVIDENCE = 2
    POLICY = 4


class Release(IntEnum):
    """Why one side ends a lease early."""

    CANCELLED = 1
    FENCED = 2
    PREPARE_FAILED = 3
    SANDBOX_FAILED = 4
    STOPPING = 6
    EXPIRED = 7
    CONTRACT = 8
    SILENT = 9
    NOT_STARTED = 10
    OVERRUN = 11
    OUTPUTS_LOST = 12
    FORGOTTEN = 13
    MEMBER_FAILED = 14
    SLOT_BUSY = 15
    GPU_LOST = 16


class Failure(StrEnum):
    """Why a job did not run to its end. Stable: users and scripts rely on them."""

    NO_PEERS = "no-peers"
    NO_MATCH = "no-match"
    NO_BIDS = "no-bids"
    EXHAUSTED = "bids-exhausted"
    TOO_FAR = "too-far"
    PREPARE_FAILED = "prepare-failed"
    SANDBOX_FAILED = "sandbox-failed"
    PROVIDER_LOST = "provider-lost"
    PROVIDER_STOPPED = "provider-stopped"
    NOT_STARTED = "not-started"
    OVERRUN = "overrun"
    EXPIRED = "expired"
    CONTRACT = "contract"
    UNPAID = "unpaid"
    OUTPUTS_LOST = "outputs-lost"
    EXITED = "exited"
    MEMBER_FAILED = "member-failed"
    SLOT_BUSY = "slot-busy"
    GPU_LOST = "gpu-lost"
    TIME_OUT = "time-out"
    OUT_OF_MEMORY = "out-of-memory"
    OUT_OF_DISK = "out-of-disk"
    CANCELLED = "cancelled"


class Mismatch(StrEnum):
    """Why a capability record cannot serve a call."""

    NOT_PROVIDING = "not-providing"
    CPUS = "cpus"
    MEMORY = "memory"
    DISK = "disk"
    GPUS = "gpus"
    GPU_CLASS = "gpu-class"
    VRAM = "vram"
    REGION = "region"
    DRIVER = "driver"
    SOFT_LIMITS = "soft-limits"
    WHERE = "where"
    EGRESS = "egress"
    PRICE = "price"


FAILURE_OF: Final[dict[int, Failure]] = {
    Release.CANCELLED: Failure.CANCELLED,
    Release.FENCED: Failure.PROVIDER_LOST,
    Release.PREPARE_FAILED: Failure.PREPARE_FAILED,
    Release.SANDBOX_FAILED: Failure.SANDBOX_FAILED,
    Release.STOPPING: Failure.PROVIDER_STOPPED,
    Release.EXPIRED: Failure.EXPIRED,
    Release.CONTRACT: Failure.CONTRACT,
    Release.SILENT: Failure.PROVIDER_LOST,
    Release.NOT_STARTED: Failure.NOT_STARTED,
    Release.OVERRUN: Failure.OVERRUN,
    Release.OUTPUTS_LOST: Failure.OUTPUTS_LOST,
    Release.FORGOTTEN: Failure.PROVIDER_LOST,
    Release.MEMBER_FAILED: Failure.MEMBER_FAILED,
    Release.SLOT_BUSY: Failure.SLOT_BUSY,
    Release.GPU_LOST: Failure.GPU_LOST,
}
"""What the end of a lease means for its job."""
FROM_PROVIDER: Final = frozenset({
    Release.PREPARE_FAILED, Release.SANDBOX_FAILED, Release.STOPPING, Release.EXPIRED,
    Release.CONTRACT, Release.SLOT_BUSY, Release.GPU_LOST,
})  # fmt: skip
"""The reasons that a provider may give."""


def failure_told(reason: int) -> Failure:
    """Return what a provider's release means for the job.

    The reason may be one that we do not know, or that only a requester gives.
    """
    return FAILURE_OF[reason] if reason in FROM_PROVIDER else Failure.PROVIDER_STOPPED
