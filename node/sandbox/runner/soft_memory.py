"""A memory limit without control groups: measure, and kill.

RLIMIT_AS limits one process; many processes, files in memory (even empty ones) and sockets add up.
Some four times a second we add up the kernel's figures. A fast job can exceed the limit by what it
allocates in between: the capability record calls this limit soft.

Spec: specs/sandbox.md#soft-memory.
"""

# pathlib takes 10 ms to import.
# ruff: noqa: PTH123

import os

from node.sandbox.runner import namespace_limits, processes
from node.sandbox.runner.container import MEMORY_LINE

INODE_BYTES = 1024
"""The kernel's own memory for a file's inode and name."""
MEMORY_FOLDERS = ("dev/shm",)
ALL_FOLDERS = (*MEMORY_FOLDERS, "tmp", "out", "scratch")
"""Those of a job whose disk is in memory."""


class SoftMemory:
    """The memory of one PID namespace and of the file systems in its mount namespace."""

    __slots__ = ("folders", "init", "limit", "namespace")

    def __init__(self, init: int, memory_mib: int, folders: tuple[str, ...]) -> None:
        self.init = init
        self.limit = memory_mib << 20
        self.namespace = processes.namespace_of(init)
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        self.folders = [os.open(f"/proc/{init}/root/{name}", flags) for name in folders]

    def excess(self) -> tuple[str, str] | None:
        """Return a verdict if the container exceeds its memory."""
        used = namespace_limits.held_bytes(self.init)
        for folder in self.folders:
            room = os.statvfs(folder)
            used += (room.f_blocks - room.f_bfree) * room.f_frsize
            used += (room.f_files - room.f_ffree) * INODE_BYTES
        members = processes.members_of(self.namespace)
        used += sum(_proportional_bytes(process) for process in members)
        if used <= self.limit:
            return None
        return ("memory", MEMORY_LINE.format(self.limit >> 20))


def _proportional_bytes(process: int) -> int:
    """Return the process's share of memory; 0 if it is gone."""
    try:
        with open(f"/proc/{process}/smaps_rollup") as file:
            shares = [line for line in file if line.startswith("Pss:")]
    except OSError:
        return 0
    return int(shares[0].split()[1]) << 10 if shares else 0
