"""The inventory of the machine: the resources that this process may use.

Spec: specs/capability.md#resources.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from node.hardware.amd import take_amd_gpus
from node.hardware.cgroup import CgroupLimits, cgroup_limits
from node.hardware.gpu import MIB, Gpu
from node.hardware.nvidia import take_nvidia_gpus


@dataclass(frozen=True, slots=True)
class Inventory:
    """The usable resources, whether or not they are idle."""

    cpus: int
    """Whole processors, at least one."""
    memory_mib: int
    disk_mib: int
    """Free space on the folder's disk."""
    gpus: tuple[Gpu, ...]
    gpus_why: str
    """Why there are no GPUs, or fewer than expected; empty if there is nothing to explain."""


def take_inventory(folder: Path) -> Inventory:
    """Return the inventory; `folder` determines the disk. OSError if the folder is missing.

    It blocks, for seconds if the NVIDIA driver is slow to start: call it in a thread.
    """
    limits = cgroup_limits()
    disk = os.statvfs(folder)
    gpus, gpus_why = take_gpus()
    return Inventory(
        cpus=usable_cpus(len(os.sched_getaffinity(0)), limits),
        memory_mib=usable_memory_mib(_memory_bytes(), limits),
        disk_mib=disk.f_bavail * disk.f_frsize // MIB,
        gpus=gpus,
        gpus_why=gpus_why,
    )


def take_gpus() -> tuple[tuple[Gpu, ...], str]:
    """Return the GPUs of all vendors, and why there are none or fewer than expected; it blocks."""
    found = (take_nvidia_gpus(), take_amd_gpus())
    gpus = tuple(gpu for some, _ in found for gpu in some)
    # That a machine with GPUs of one vendor has none of another needs no word.
    whys = [why for some, why in found if why and (some or not gpus)]
    return gpus, "; ".join(whys)


def usable_cpus(allowed: int, limits: CgroupLimits) -> int:
    """Return the number of processors that we may use, of those that we may run on; at least 1."""
    if limits.cpu_millis is None:
        return allowed
    return max(1, min(allowed, limits.cpu_millis // 1000))


def usable_memory_mib(total_bytes: int, limits: CgroupLimits) -> int:
    """Return the memory that we may use, in MiB."""
    if limits.memory_bytes is None:
        return total_bytes // MIB
    return min(total_bytes, limits.memory_bytes) // MIB


def _memory_bytes() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
