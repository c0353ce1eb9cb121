"""Capability records and capacities as the API shows them, and which of them a query selects.

Spec: specs/rpc.md#views, specs/query.md.
"""

from collections.abc import Iterable

from node.rpc.views import GpuView, OfferView, ResourcesView
from protocol.rules.capacity import Capacity
from protocol.rules.query import first_that_fits, in_order, parse, sort_order
from protocol.rules.query_fields import FIELDS, Subject
from protocol.values.egress import Level
from protocol.values.isolation import isolation_name
from protocol.values.units import hourly_of_rate


def select(offers: Iterable[tuple[Subject, ...]], where: str, sort: str) -> list[Subject]:
    """Return the nodes that provide and fit a query, sorted; InvalidQuery.

    `offers` has the kinds of each node's GPUs; of each node, the first kind that fits is returned.
    """
    condition, order = parse(where), sort_order(sort)
    found = (first_that_fits(condition, kinds) for kinds in offers if kinds[0].record.providing)
    return in_order((subject for subject in found if subject is not None), order)


def resources_view(capacity: Capacity) -> ResourcesView:
    """Return an amount of resources."""
    gpus = len(capacity.devices)
    return ResourcesView(capacity.cpus, capacity.memory_mib, capacity.disk_mib, gpus)


def gpu_views(capacity: Capacity) -> tuple[GpuView, ...]:
    """Return GPUs, one by one."""
    return tuple(GpuView(d.gpu_class, d.name, 1, d.vram_mib) for d in capacity.devices)


def offer_view(subject: Subject, left: Capacity | None) -> OfferView:
    """Return a capability record with list prices in credits an hour.

    `left` is the free capacity, known only for our own record.
    """
    record = subject.record
    price = FIELDS["price"].have(subject)
    assert isinstance(price, int)
    return OfferView(
        peer=subject.peer,
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
        expires_in_ms=max(0, record.issued_ms + record.ttl_ms - subject.now_ms),
        images=tuple(image.hex() for image in record.images),
        price_hour=hourly_of_rate(price),
        isolation=isolation_name(record.isolation),
        agent=record.agent,
        egress=Level(record.egress).name.lower(),
        settled=subject.settled,
        connected=subject.connected,
    )
