"""The priority of a container's processes, below that of the owner's programs.

Spec: specs/sandbox.md#priority.
"""

# pathlib and platform take 10 ms to import.
# ruff: noqa: PTH123

import ctypes
import math
import os

from node.sandbox.runner.records import Fields

WHOLE = 100
"""The weight of a container that gets as much as any other program."""
STEP = 1.25
"""How much less of a processor a process gets with each step of niceness."""
NICE_MAX = 19
DEAD_FIRST = "1000"
"""The kernel kills these processes before all others when the machine runs out of memory."""
IDLE_CLASS = 3 << 13
"""It gets the disk when nobody else wants it."""
SET_IO_PRIORITY = {"x86_64": 251, "aarch64": 30}
"""The number of the system call, for which the C library has no function."""


def take(fields: Fields) -> None:
    """Lower our priority by the weight of the launch record, and that of our descendants."""
    weight = fields.number("cpu_weight", WHOLE)
    with open("/proc/self/oom_score_adj", "w") as file:
        file.write(DEAD_FIRST)
    if weight >= WHOLE:
        return
    os.nice(nice_of(weight))
    call = SET_IO_PRIORITY.get(os.uname().machine)
    if call is not None:  # Where the kernel has no priorities of the disk, there is none to lower.
        ctypes.CDLL(None).syscall(call, 1, 0, IDLE_CLASS)


def nice_of(weight: int) -> int:
    """Return the niceness with which a process gets this share, in percent, beside another one."""
    return min(NICE_MAX, round(math.log(WHOLE / max(1, weight), STEP)))
