"""One look at the machine: what this process may use of it.

Spec: specs/capability.md#resources.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from node.hardware.cgroup import CgroupLimits, cgroup_limits
from node.hardware.nvidia import MIB, Gpu, take_gpus


@dataclass(frozen=True, slots=True)
class Inventory:
    """What is there and usable for us, not what is idle."""

    cpus: int
    """Whole processors, at least one."""
    memory_mib: int
    disk_mib: int
    """Free on the disk of the folder."""
    gpus: tuple[Gpu, ...]
    gpus_why: str
    """Why there are no GPUs, or fewer than there should be; empty if there is nothing to say."""


def take_inventory(folder: Path) -> Inventory:
    """Look at the machine; `folder` says on which disk. OSError if the folder is not there.

    It blocks, for seconds where the NVIDIA driver is slow to wake: call it in a thread.
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


def usable_cpus(allowed: int, limits: CgroupLimits) -> int:
    """Return how many processors we may keep busy, of those that we may run on; at least one."""
    if limits.cpu_millis is None:
        return allowed
    return max(1, min(allowed, limits.cpu_millis // 1000))


def usable_memory_mib(total_bytes: int, limits: CgroupLimits) -> int:
    """Return how much of the machine's memory we may use, in MiB."""
    if limits.memory_bytes is None:
        return total_bytes // MIB
    return min(total_bytes, limits.memory_bytes) // MIB


def _memory_bytes() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
