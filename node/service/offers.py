"""Capability records and capacities as the API shows them.

Spec: specs/rpc.md#views.
"""

from node.rpc.views import GpuView, OfferView, ResourcesView
from protocol.rules.capacity import Capacity
from protocol.values.units import hourly_of_rate
from protocol.wire.messages import Listing


def resources_view(capacity: Capacity) -> ResourcesView:
    """Return an amount of resources."""
    gpus = len(capacity.devices)
    return ResourcesView(capacity.cpus, capacity.memory_mib, capacity.disk_mib, gpus)


def gpu_views(capacity: Capacity) -> tuple[GpuView, ...]:
    """Return GPUs, one by one."""
    return tuple(GpuView(d.gpu_class, d.name, 1, d.vram_mib) for d in capacity.devices)


def offer_view(listing: Listing, now_ms: int, left: Capacity | None) -> OfferView:
    """Return a capability record with list prices in credits an hour.

    `left` is the free capacity, known only for our own record.
    """
    record = listing.record
    return OfferView(
        peer=listing.peer,
        own=left is not None,
        cpus=record.cpus,
        memory_mib=record.memory_mib,
        disk_mib=record.disk_mib,
        gpus=tuple(GpuView(g.gpu_class, g.name, g.count, g.vram_mib) for g in record.gpus),
        drivers=record.drivers,
        soft_limits=record.soft_limits,
        region=record.region,
        price_cpu_hour=hourly_of_rate(record.prices.cpu),
        price_memory_gib_hour=hourly_of_rate(record.prices.memory_gib),
        price_gpu_hour=hourly_of_rate(record.prices.gpu),
        free=None if left is None else resources_view(left),
        sequence=record.sequence,
        expires_in_ms=max(0, listing.expires_ms - now_ms),
        images=tuple(image.hex() for image in record.images),
    )
