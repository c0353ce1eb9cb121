"""Why something did not happen: numbers on the wire, codes for people.

Spec: specs/errors.md#reasons. A number never changes; an unknown one is kept, not rejected.
"""

from enum import IntEnum, StrEnum


class Refusal(IntEnum):
    """Why a provider does not bid on a call that its capability record would allow."""

    BUSY = 1
    PRICE = 2
    UNPAID = 3
    UNPROVEN = 4


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


class Failure(StrEnum):
    """Why a job did not run to its end. Stable: users and scripts rely on them."""

    NO_PEERS = "no-peers"
    NO_MATCH = "no-match"
    NO_BIDS = "no-bids"
    EXHAUSTED = "bids-exhausted"
    PREPARE_FAILED = "prepare-failed"
    SANDBOX_FAILED = "sandbox-failed"
    PROVIDER_LOST = "provider-lost"
    PROVIDER_STOPPED = "provider-stopped"
    UNPAID = "unpaid"
    OUTPUTS_LOST = "outputs-lost"
    EXITED = "exited"
    TIME_OUT = "time-out"
    OUT_OF_MEMORY = "out-of-memory"
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
    PRICE = "price"
