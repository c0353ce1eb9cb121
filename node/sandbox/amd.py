"""AMD devices for a container: the device nodes of its GPUs, and what ROCm reads of the machine.

ROCm's libraries are part of the image, unlike NVIDIA's. They look for the GPUs in /sys.
Spec: specs/gpus.md#amd.
"""

from pathlib import Path
from typing import Final

from node.hardware.amd import take_render_nodes
from node.sandbox.bwrap import Extra
from protocol.values.errors import SandboxUnavailable

KFD: Final = "/dev/kfd"
"""The node of all AMD GPUs together: a process reaches those whose own node it may open."""
SYS: Final = "/sys"
HIDDEN: Final = (
    "/sys/class/net", "/sys/devices/virtual/net", "/sys/devices/virtual/dmi",
    "/sys/devices/virtual/powercap", "/sys/firmware", "/sys/fs/cgroup",
)  # fmt: skip
"""Folders of /sys that tell of the machine and not of its GPUs."""


def nodes_for(devices: tuple[str, ...]) -> Extra:
    """Return the device nodes of devices, and the groups that may open them; it blocks.

    SandboxUnavailable if the machine does not have one of them.
    """
    known = take_render_nodes()
    missing = [uuid for uuid in devices if uuid not in known]
    if missing:
        raise SandboxUnavailable(f"this machine has no GPU {missing[0]}; see `mutirao gpus`")
    nodes = (KFD, *(known[uuid] for uuid in devices))
    groups = sorted({Path(node).stat().st_gid for node in nodes if Path(node).exists()} - {0})
    return Extra(devices=nodes, groups=tuple(groups))


def extra_for(devices: tuple[str, ...]) -> Extra:
    """Return what a container of the embedded driver needs; it blocks."""
    found = nodes_for(devices)
    hidden = tuple(place for place in HIDDEN if Path(place).is_dir())
    return Extra(found.devices, ((Path(SYS), SYS),), groups=found.groups, hidden=hidden)
