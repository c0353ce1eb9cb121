"""NVIDIA GPUs, as their driver tells of them through NVML. Nothing is guessed.

No GPU is the normal case. What a card or a driver does not know is None.
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
"""Why NVML does not start, in words for the user."""


@dataclass(frozen=True, slots=True)
class MigDevice:
    """A part of a GPU that is handed out as if it were one (Multi-Instance GPU)."""

    uuid: str
    vram_mib: int | None


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU."""

    uuid: str
    """`GPU-…`: names the card wherever it is plugged in."""
    name: str
    gpu_class: str
    vram_mib: int | None
    """Its whole memory; None where it shares the processor's."""
    driver: str | None
    cuda: tuple[int, int] | None
    """The newest CUDA that the driver can run: major, minor."""
    compute: tuple[int, int] | None
    """What the chip can do, NVIDIA's compute capability: major, minor."""
    pci: str | None
    """Its place on the bus: domain:bus:device.function."""
    minor: int | None
    """n in /dev/nvidia<n>."""
    cores: int | None
    power_limit_w: int | None
    memory_clock_mhz: int | None
    memory_bus_bits: int | None
    ecc: bool | None
    """Whether its memory corrects errors."""
    mig_enabled: bool
    """Whether it is handed out only in parts."""
    mig_devices: tuple[MigDevice, ...]

    @property
    def memory_gb_s(self) -> int | None:
        """The bandwidth of its memory: two transfers a clock."""
        if self.memory_clock_mhz is None or self.memory_bus_bits is None:
            return None
        return self.memory_clock_mhz * 2 * self.memory_bus_bits // 8 // 1000


def take_gpus() -> tuple[tuple[Gpu, ...], str]:
    """Return the GPUs by bus order, and why there are none or fewer than there should be.

    The reason is empty if there is nothing to explain. May take seconds where the driver must
    first wake the cards.
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
    return tuple(gpus), "" if gpus else "the NVIDIA driver knows of no GPU"


def _gpu(index: int) -> Gpu | None:
    """Return one GPU; None if it does not even tell its name, as one that is lost."""
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
        if uuid is not None:  # The places of parts that were not made are empty.
            devices.append(MigDevice(uuid, _vram_mib(part)))
    return tuple(devices)


def _vram_mib(handle: object) -> int | None:
    memory = _ask(pynvml.nvmlDeviceGetMemoryInfo, handle)
    return None if memory is None else memory.total // MIB


def _ask(question: Callable[..., Any], *arguments: object) -> Any:
    """Return NVML's answer; None if this card or this driver has none."""
    try:
        return question(*arguments)
    except pynvml.NVMLError:
        return None
