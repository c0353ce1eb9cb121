"""A node's capacity: total, reserved and free. Reservations never exceed the total.

Spec: specs/lease.md#capacity.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

from protocol.values.units import nominal_vram
from protocol.wire.job import Resources
from protocol.wire.messages import GpuGroup


@dataclass(frozen=True, slots=True)
class Device:
    """One GPU that can be assigned to a job."""

    uuid: str
    gpu_class: str
    vram_mib: int
    name: str = ""


@dataclass(frozen=True, slots=True)
class Capacity:
    """Resources that can be assigned: all of a node, or the free part."""

    cpus: int = 0
    memory_mib: int = 0
    disk_mib: int = 0
    devices: tuple[Device, ...] = ()


@dataclass(frozen=True, slots=True)
class Reservation:
    """Capacity that is reserved for one lease."""

    resources: Resources
    devices: tuple[str, ...] = ()


def left_of(total: Capacity, reservations: Iterable[Reservation]) -> Capacity:
    """Return the free capacity; 0 of a resource of which more is reserved than lent.

    That happens after the owner has reduced what the node lends.
    """
    taken = list(reservations)
    busy = {uuid for reservation in taken for uuid in reservation.devices}
    return Capacity(
        max(0, total.cpus - sum(item.resources.cpus for item in taken)),
        max(0, total.memory_mib - sum(item.resources.memory_mib for item in taken)),
        max(0, total.disk_mib - sum(item.resources.disk_mib for item in taken)),
        tuple(device for device in total.devices if device.uuid not in busy),
    )


def without(total: Capacity, devices: Collection[str]) -> Capacity:
    """Return the capacity without some GPUs, by UUID."""
    if not devices:
        return total
    kept = tuple(device for device in total.devices if device.uuid not in devices)
    return replace(total, devices=kept)


def reserve(left: Capacity, wanted: Resources) -> Reservation | None:
    """Return a reservation of the wanted resources, or None if they are not all free."""
    devices = _devices_for(left, wanted)
    enough = (
        left.cpus >= wanted.cpus
        and left.memory_mib >= wanted.memory_mib
        and left.disk_mib >= wanted.disk_mib
        and len(devices) >= wanted.gpus
    )
    return Reservation(wanted, devices[: wanted.gpus]) if enough else None


def slots_in(left: Capacity, wanted: Resources, most: int) -> int:
    """Return how many equal slots fit into the free capacity, at most `most`."""
    counts = [
        most,
        left.cpus // wanted.cpus,
        left.memory_mib // wanted.memory_mib,
        left.disk_mib // wanted.disk_mib,
    ]
    if wanted.gpus:
        counts.append(len(_devices_for(left, wanted)) // wanted.gpus)
    return min(counts)


def _devices_for(left: Capacity, wanted: Resources) -> tuple[str, ...]:
    """Return the free GPUs that a slot may use."""
    return tuple(device.uuid for device in left.devices if suits(wanted, device))


def suits(wanted: Resources, gpu: Device | GpuGroup) -> bool:
    """Return whether a slot may use a GPU, or those of a kind."""
    is_of_class = wanted.gpu_class in {"", gpu.gpu_class}
    return is_of_class and nominal_vram(gpu.vram_mib) >= wanted.vram_mib
