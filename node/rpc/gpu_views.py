"""The API's answers about the GPUs of this machine: specs/capability.md#telemetry.

Spec: specs/rpc.md#views.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class GpuStateView:
    """A GPU, or a part of one that is lent like a whole: what it reports, and who has it.

    `null` is what it does not report.
    """

    uuid: str
    name: str
    gpu_class: str
    vram_mib: int | None
    part_of: str | None
    """The UUID of the GPU that it is a part of."""
    lent: bool
    """Whether the node lends it now: its owner does, and it is in no trouble."""
    trouble: str
    """One line: why it is not lent, though its owner lends it; empty if nothing is wrong."""
    lease: str | None
    """The lease whose job has it, in hex."""
    requester: str | None
    utilisation_percent: int | None
    memory_used_mib: int | None
    temperature_c: int | None
    slowdown_c: int | None
    """The temperature at which it slows itself down."""
    power_w: int | None
    power_limit_w: int | None
    ecc_errors: int | None
    """Memory errors that could not be corrected, since its driver was loaded."""


@dataclass(frozen=True, slots=True)
class GpuTroubleView:
    """Why a GPU is not lent, though its owner lends it."""

    uuid: str
    trouble: str


@dataclass(frozen=True, slots=True)
class GpusView:
    """The GPUs of this machine, while the node provides."""

    gpus: tuple[GpuStateView, ...]
    why: str
    """Why there are none, or fewer than expected; empty if there is nothing to explain."""
