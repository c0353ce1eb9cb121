"""NVIDIA GPUs, as their driver reports them through NVML. Nothing is guessed.

A machine without a GPU is a normal case. A property that card or driver does not report is None.
Spec: specs/capability.md#gpus.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import pynvml

from node.hardware.gpu import MIB, Gpu, GpuReading, MigDevice
from node.hardware.gpu_class import gpu_class

WHY: Final = {
    pynvml.NVML_ERROR_LIBRARY_NOT_FOUND: "no NVIDIA driver library (libnvidia-ml.so.1)",
    pynvml.NVML_ERROR_DRIVER_NOT_LOADED: "the NVIDIA driver is installed but not loaded",
    pynvml.NVML_ERROR_NO_PERMISSION: "no permission to talk to the NVIDIA driver",
    pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: (
        "the NVIDIA driver was upgraded: restart the machine"
    ),
}
"""Why NVML does not start, as text for the user."""


def take_nvidia_gpus() -> tuple[tuple[Gpu, ...], str]:
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
        mig_devices=_mig_devices(handle, name) if mig_enabled else (),
    )


def _mig_devices(handle: object, gpu_name: str) -> tuple[MigDevice, ...]:
    devices = []
    for uuid, part in _mig_handles(handle).items():
        vram_mib = _vram_mib(part)
        name = _ask(pynvml.nvmlDeviceGetName, part)  # Such as "NVIDIA H100 80GB HBM3 MIG 1g.10gb".
        if name is None or name == gpu_name:  # An old driver does not tell the profile.
            name = f"{gpu_name} MIG {(vram_mib or 0) // 1024}gb"
        devices.append(MigDevice(uuid, name, gpu_class(name), vram_mib))
    return tuple(devices)


def _mig_handles(handle: object) -> dict[str, object]:
    """Return the handles of a GPU's parts, by UUID."""
    found = {}
    for index in range(_ask(pynvml.nvmlDeviceGetMaxMigDeviceCount, handle) or 0):
        part = _ask(pynvml.nvmlDeviceGetMigDeviceHandleByIndex, handle, index)
        uuid = _ask(pynvml.nvmlDeviceGetUUID, part) if part is not None else None
        if uuid is not None:  # Unused part slots are empty.
            found[uuid] = part
    return found


def _vram_mib(handle: object) -> int | None:
    memory = _ask(pynvml.nvmlDeviceGetMemoryInfo, handle)
    return None if memory is None else memory.total // MIB


def _ask(question: Callable[..., Any], *arguments: object) -> Any:
    """Return NVML's answer; None if this card or driver does not support it."""
    try:
        return question(*arguments)
    except pynvml.NVMLError:
        return None


@dataclass(frozen=True, slots=True)
class MigPlace:
    """Where a part of a GPU lies, as the driver counts: in which GPU, and where in that."""

    minor: int
    gi: int
    """The number of its GPU instance."""
    ci: int
    """The number of its compute instance, in the GPU instance."""


def take_mig_places() -> dict[str, MigPlace]:
    """Return the places of all parts of GPUs, by UUID; none if the driver does not answer."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return {}
    try:
        handles, _ = _handles()
        return dict(place for handle in handles.values() for place in _mig_places(handle))
    finally:
        pynvml.nvmlShutdown()


def _mig_places(handle: object) -> Iterator[tuple[str, MigPlace]]:
    minor = _ask(pynvml.nvmlDeviceGetMinorNumber, handle)
    for uuid, part in _mig_handles(handle).items():
        gi = _ask(pynvml.nvmlDeviceGetGpuInstanceId, part)
        ci = _ask(pynvml.nvmlDeviceGetComputeInstanceId, part)
        if None not in (minor, gi, ci):
            yield uuid, MigPlace(minor, gi, ci)


class NvidiaReader:
    """Reads what NVIDIA GPUs report while they work.

    NVML stays open: without anybody who holds it, the driver initialises the GPUs at each question.
    """

    pause_s = 5

    def __init__(self) -> None:
        self._open = False

    def read(self, gpus: Iterable[Gpu]) -> list[GpuReading]:
        """Return a reading of each assignable device. It blocks, for ever if the driver hangs."""
        try:
            if not self._open:
                pynvml.nvmlInit()
                self._open = True
        except pynvml.NVMLError as error:
            lost = WHY.get(error.value, f"the NVIDIA driver does not answer: {error}")
            return [GpuReading(each.uuid, lost=lost) for gpu in gpus for each in gpu.devices]
        handles, gone = _handles()
        readings = [reading for gpu in gpus for reading in _readings_of(gpu, handles, gone)]
        if all(reading.lost for reading in readings):  # The driver may have been loaded anew.
            self.close()
        return readings

    def close(self) -> None:
        """Let the driver rest."""
        if self._open:
            self._open = False
            pynvml.nvmlShutdown()


def _handles() -> tuple[dict[str, object], str]:
    """Return the handle of each GPU that answers, by UUID, and what is true of the others.

    A search by UUID fails for all GPUs if one is lost; one by index does not.
    """
    found, lost = {}, "it is gone from the machine: see nvidia-smi"
    for index in range(_ask(pynvml.nvmlDeviceGetCount) or 0):
        try:
            handle = pynvml.nvmlDeviceGetHandleByIndex(index)
            found[pynvml.nvmlDeviceGetUUID(handle)] = handle
        except pynvml.NVMLError as error:
            lost = f"it does not answer ({error}): `dmesg` shows its Xid; restart the machine"
    return found, lost


def _readings_of(gpu: Gpu, handles: Mapping[str, object], gone: str) -> list[GpuReading]:
    """Return the reading of a GPU, or of each of its parts with the GPU's temperature and power."""
    handle = handles.get(gpu.uuid)
    if handle is None:
        return [GpuReading(each.uuid, lost=gone) for each in gpu.devices]
    use = _ask(pynvml.nvmlDeviceGetUtilizationRates, handle)
    power_mw = _ask(pynvml.nvmlDeviceGetPowerUsage, handle)
    reasons = _ask(pynvml.nvmlDeviceGetCurrentClocksThrottleReasons, handle) or 0
    slowdown_at = pynvml.NVML_TEMPERATURE_THRESHOLD_SLOWDOWN
    whole = GpuReading(
        uuid=gpu.uuid,
        utilisation_percent=None if use is None else use.gpu,
        memory_used_mib=_used_mib(handle),
        temperature_c=_ask(pynvml.nvmlDeviceGetTemperature, handle, pynvml.NVML_TEMPERATURE_GPU),
        slowdown_c=_ask(pynvml.nvmlDeviceGetTemperatureThreshold, handle, slowdown_at),
        power_w=None if power_mw is None else power_mw // 1000,
        ecc_errors=_ask(
            pynvml.nvmlDeviceGetTotalEccErrors,
            handle,
            pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED,
            pynvml.NVML_VOLATILE_ECC,
        ),
        heat_brake=bool(reasons & pynvml.nvmlClocksThrottleReasonHwThermalSlowdown),
    )
    if not gpu.mig_enabled:
        return [whole]
    parts = _mig_handles(handle)
    readings = []
    for each in gpu.mig_devices:
        part = parts.get(each.uuid)
        used_mib = None if part is None else _used_mib(part)
        lost = "" if part is not None else "its part of the GPU was removed: see `nvidia-smi -L`"
        readings.append(replace(whole, uuid=each.uuid, memory_used_mib=used_mib, lost=lost))
    return readings


def _used_mib(handle: object) -> int | None:
    memory = _ask(pynvml.nvmlDeviceGetMemoryInfo, handle)
    return None if memory is None else memory.used // MIB
