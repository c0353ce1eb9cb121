"""What a node has, what of it is promised, and what is left. Never more is promised than is there.

Spec: specs/lease.md#capacity.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from protocol.wire.job import Resources


@dataclass(frozen=True, slots=True)
class Device:
    """One GPU that can be handed out."""

    uuid: str
    gpu_class: str
    vram_mib: int
    name: str = ""


@dataclass(frozen=True, slots=True)
class Capacity:
    """What can be handed out: all of a node, or what is left of it."""

    cpus: int = 0
    memory_mib: int = 0
    disk_mib: int = 0
    devices: tuple[Device, ...] = ()


@dataclass(frozen=True, slots=True)
class Reservation:
    """Capacity that is kept for one lease."""

    resources: Resources
    devices: tuple[str, ...] = ()


def left_of(total: Capacity, reservations: Iterable[Reservation]) -> Capacity:
    """Return what no reservation has taken; nothing where more is reserved than is there.

    That happens if the owner lends less than before.
    """
    taken = list(reservations)
    busy = {uuid for reservation in taken for uuid in reservation.devices}
    return Capacity(
        max(0, total.cpus - sum(item.resources.cpus for item in taken)),
        max(0, total.memory_mib - sum(item.resources.memory_mib for item in taken)),
        max(0, total.disk_mib - sum(item.resources.disk_mib for item in taken)),
        tuple(device for device in total.devices if device.uuid not in busy),
    )


def reserve(left: Capacity, wanted: Resources) -> Reservation | None:
    """Return a reservation of the wanted resources, or None if they are not all there."""
    devices = [
        device.uuid
        for device in left.devices
        if device.vram_mib >= wanted.vram_mib and wanted.gpu_class in {"", device.gpu_class}
    ]
    enough = (
        left.cpus >= wanted.cpus
        and left.memory_mib >= wanted.memory_mib
        and left.disk_mib >= wanted.disk_mib
        and len(devices) >= wanted.gpus
    )
    return Reservation(wanted, tuple(devices[: wanted.gpus])) if enough else None
