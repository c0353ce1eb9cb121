"""GPUs and what they report, whoever made them. None stands for what a GPU does not report.

Spec: specs/capability.md#gpus.
"""

from dataclasses import dataclass
from typing import Final

MIB: Final = 2**20
AMD_PREFIX: Final = "AMD-"
"""Before the UUIDs of AMD, which have no prefix of their own."""


@dataclass(frozen=True, slots=True)
class GpuDevice:
    """A device that is assigned as a whole: a GPU, or a part of one."""

    uuid: str
    name: str
    gpu_class: str
    vram_mib: int | None


@dataclass(frozen=True, slots=True)
class MigDevice(GpuDevice):
    """A part of an NVIDIA GPU that is assigned like a whole one (Multi-Instance GPU)."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU."""

    uuid: str
    """`GPU-…` or `AMD-…`: identifies the GPU in any slot."""
    name: str
    gpu_class: str
    vram_mib: int | None
    """Its total memory; None if it shares the processor's."""
    driver: str | None
    cuda: tuple[int, int] | None
    """The newest CUDA version that the driver supports: major, minor."""
    compute: tuple[int, int] | None
    """NVIDIA's compute capability: major, minor."""
    pci: str | None
    """Its bus address: domain:bus:device.function."""
    minor: int | None
    """n in /dev/nvidia<n>."""
    cores: int | None
    power_limit_w: int | None
    memory_clock_mhz: int | None
    memory_bus_bits: int | None
    ecc: bool | None
    """Whether its memory corrects errors."""
    mig_enabled: bool
    """Whether it is assigned only in parts."""
    mig_devices: tuple[MigDevice, ...]
    vendor: str = "nvidia"
    slowdown_c: int | None = None
    """The temperature at which it slows itself down, if only its inventory tells."""

    @property
    def devices(self) -> tuple[GpuDevice, ...]:
        """What of it can be assigned: itself, or its parts if it is divided."""
        if self.mig_enabled:
            return self.mig_devices
        return (GpuDevice(self.uuid, self.name, self.gpu_class, self.vram_mib),)

    @property
    def memory_gb_s(self) -> int | None:
        """The bandwidth of its memory: two transfers per clock."""
        if self.memory_clock_mhz is None or self.memory_bus_bits is None:
            return None
        return self.memory_clock_mhz * 2 * self.memory_bus_bits // 8 // 1000


@dataclass(frozen=True, slots=True)
class GpuReading:
    """What an assignable device reported at one moment."""

    uuid: str
    utilisation_percent: int | None = None
    memory_used_mib: int | None = None
    temperature_c: int | None = None
    slowdown_c: int | None = None
    """The temperature at which it slows itself down."""
    power_w: int | None = None
    ecc_errors: int | None = None
    """Memory errors that could not be corrected, since its driver was loaded."""
    heat_brake: bool = False
    """Whether its hardware slows it down because of heat."""
    lost: str = ""
    """Why it does not answer; empty if it does."""
