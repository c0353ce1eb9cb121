"""NVIDIA GPUs, as their driver reports them through NVML. Nothing is guessed.

A machine without a GPU is a normal case. A property that card or driver does not report is None.
Spec: specs/capability.md#gpus.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import pynvml

from node.hardware.gpu_class import gpu_class

MIB: Final = 2**20
WHY: Final = {
    pynvml.NVML_ERROR_LIBRARY_NOT_FOUND: "no NVIDIA driver library (libnvidia-ml.so.1)",
    pynvml.NVML_ERROR_DRIVER_NOT_LOADED: "the NVIDIA driver is installed but not loaded",
    pynvml.NVML_ERROR_NO_PERMISSION: "no permission to talk to the NVIDIA driver",
    pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: (
        "the NVIDIA driver was upgraded: restart the machine"
    ),
}
"""Why NVML does not start, as text for the user."""


@dataclass(frozen=True, slots=True)
class MigDevice:
    """A part of a GPU that is assigned like a whole one (Multi-Instance GPU)."""

    uuid: str
    vram_mib: int | None


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU."""

    uuid: str
    """`GPU-…`: identifies the card in any slot."""
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

    @property
    def memory_gb_s(self) -> int | None:
        """The bandwidth of its memory: two transfers per clock."""
        if self.memory_clock_mhz is None or self.memory_bus_bits is None:
            return None
        return self.memory_clock_mhz * 2 * self.memory_bus_bits // 8 // 1000


def take_gpus() -> tuple[tuple[Gpu, ...], str]:
    """Return the GPUs in bus order, and why there are none or fewer than expected.

    The reason is empty if there is nothing to explain. May take seconds if the driver must first
    initialise the cards.
    """
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return (), WHY.get(error.value, f"the NVIDIA driver does not answer: {error}")
    try:
        return _all_gpus()
    finally:
        pynvml.nvmlShutdown()


def _all_gpus() -> tuple[tuple[Gpu, ...], str]:
    count = _ask(pynvml.nvmlDeviceGetCount) or 0
    gpus, silent = [], 0
    for index in range(count):
        gpu = _gpu(index)
        if gpu is None:
            silent += 1
        else:
            gpus.append(gpu)
    if silent:
        return tuple(gpus), f"{silent} of {count} NVIDIA GPUs do not answer: see nvidia-smi"
    return tuple(gpus), "" if gpus else "the NVIDIA driver finds no GPU"


def _gpu(index: int) -> Gpu | None:
    """Return one GPU; None if it does not even report its name, like a lost one."""
    handle = _ask(pynvml.nvmlDeviceGetHandleByIndex, index)
    uuid = _ask(pynvml.nvmlDeviceGetUUID, handle) if handle is not None else None
    name = _ask(pynvml.nvmlDeviceGetName, handle) if uuid is not None else None
    if uuid is None or name is None:
        return None
    cuda = _ask(pynvml.nvmlSystemGetCudaDriverVersion_v2)
    pci = _ask(pynvml.nvmlDeviceGetPciInfo, handle)
    limit_mw = _ask(pynvml.nvmlDeviceGetEnforcedPowerLimit, handle)
    ecc = _ask(pynvml.nvmlDeviceGetEccMode, handle)
    mig_enabled = (_ask(pynvml.nvmlDeviceGetMigMode, handle) or [0])[0] != 0
    compute = _ask(pynvml.nvmlDeviceGetCudaComputeCapability, handle)
    return Gpu(
        uuid=uuid,
        name=name,
        gpu_class=gpu_class(name),
        vram_mib=_vram_mib(handle),
        driver=_ask(pynvml.nvmlSystemGetDriverVersion),
        cuda=None if cuda is None else (cuda // 1000, cuda % 1000 // 10),
        compute=None if compute is None else (compute[0], compute[1]),
        pci=None if pci is None else pci.busId,
        minor=_ask(pynvml.nvmlDeviceGetMinorNumber, handle),
        cores=_ask(pynvml.nvmlDeviceGetNumGpuCores, handle),
        power_limit_w=None if limit_mw is None else limit_mw // 1000,
        memory_clock_mhz=_ask(pynvml.nvmlDeviceGetMaxClockInfo, handle, pynvml.NVML_CLOCK_MEM),
        memory_bus_bits=_ask(pynvml.nvmlDeviceGetMemoryBusWidth, handle),
        ecc=None if ecc is None else bool(ecc[0]),
        mig_enabled=mig_enabled,
        mig_devices=_mig_devices(handle) if mig_enabled else (),
    )


def _mig_devices(handle: object) -> tuple[MigDevice, ...]:
    devices = []
    for index in range(_ask(pynvml.nvmlDeviceGetMaxMigDeviceCount, handle) or 0):
        part = _ask(pynvml.nvmlDeviceGetMigDeviceHandleByIndex, handle, index)
        uuid = _ask(pynvml.nvmlDeviceGetUUID, part) if part is not None else None
        if uuid is not None:  # Unused part slots are empty.
            devices.append(MigDevice(uuid, _vram_mib(part)))
    return tuple(devices)


def _vram_mib(handle: object) -> int | None:
    memory = _ask(pynvml.nvmlDeviceGetMemoryInfo, handle)
    return None if memory is None else memory.total // MIB


def _ask(question: Callable[..., Any], *arguments: object) -> Any:
    """Return NVML's answer; None if this card or driver does not support it."""
    try:
        return question(*arguments)
    except pynvml.NVMLError:
        return None
