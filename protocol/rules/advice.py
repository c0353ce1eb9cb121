"""What would let more nodes serve a job, and what it would pay.

Spec: specs/advice.md. Everything is computed from records that this node knows: a node may refuse
a job that its record allows, and nodes may exist that this one does not know.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from heapq import nsmallest
from typing import Final

from protocol.rules.capacity import suits
from protocol.rules.matching import (
    Demand,
    Explanation,
    explain_lacks,
    fits,
    mismatches,
)
from protocol.rules.pricing import Cap, list_rate
from protocol.rules.query import Comparison, parse, parts_of
from protocol.rules.query_fields import NONE, Subject, shown
from protocol.values.egress import Level, level_of_class
from protocol.values.ids import PeerId
from protocol.values.reasons import Mismatch
from protocol.values.units import (
    GIB,
    NANO,
    SECONDS_PER_HOUR,
    hourly_of_rate,
    nominal_vram,
    size_of_mib,
)
from protocol.wire.job import PREFIX_BYTES, Resources, Workload
from protocol.wire.messages import CapabilityRecord, Listing

NEAR_MAX: Final = 10
"""The most nearest misses that are told."""
CHANGES_MAX: Final = 2
"""The most changes of one field that are told."""
NO_AMOUNT: Final = 100
"""The gap of what has no amount: such misses come last."""
PRICE_PARTS: Final = 10_000
"""A price an hour is written with four decimals."""


@dataclass(frozen=True, slots=True)
class NearMiss:
    """A node that fails one constraint alone: what the job wants there, and what the node has."""

    peer: PeerId
    reason: Mismatch
    wanted: str
    has: str
    gap: int
    """The part of what is wanted that the node lacks, in percent; 100 for what has no amount."""


@dataclass(frozen=True, slots=True)
class Change:
    """A change of one field of the job, and how many more nodes could serve it."""

    field: str
    """As in a job request: `memory_mib`."""
    value: str | None
    """As people write it; None: leave the field out."""
    nodes: int


@dataclass(frozen=True, slots=True)
class Advice:
    """How the known nodes relate to a job."""

    explanation: Explanation
    near: tuple[NearMiss, ...]
    """The smallest gap first."""
    changes: tuple[Change, ...]
    listed: tuple[int, ...]
    """The list prices, for this job, of the nodes that fit, in nano-credits per second, sorted."""
    answering: int
    """How many of the nodes that fit answered an earlier call."""
    avoided: int
    """How many further nodes failed the job before."""
    cap: Cap | None
    """The highest rate of the job's first call, and why; None if it has none."""
    with_image: int = 0
    """How many of the nodes that fit say that they have the image unpacked."""
    with_layers: int = 0
    """How many others of them have some of its large layers."""


def advise(
    demand: Demand, listings: Iterable[Listing], avoided: int, answering: Collection[PeerId],
    cap: Cap | None,
) -> Advice:  # fmt: skip
    """Return advice about a demand; `avoided` as in `explain`.

    `answering` are the nodes that answered an earlier call, `cap` is the highest rate of the first.
    """
    known = list(listings)
    lacks = [mismatches(demand, one.peer, one.record) for one in known]
    missed = [(one, lack[0]) for one, lack in zip(known, lacks, strict=True) if len(lack) == 1]
    near = [
        (_gap(demand, one, reason), one.peer, one, reason)
        for one, reason in missed
        if reason in _MEASURES
    ]
    prices = {
        one.peer: list_rate(one.record.prices, demand.resources)
        for one, lack in zip(known, lacks, strict=True)
        if lack in {(), (Mismatch.PRICE,)}  # It may ask less than it lists.
    }
    listed = tuple(sorted(prices.values()))
    return Advice(
        explain_lacks(demand, known, lacks, avoided),
        tuple(
            _near_miss(demand, *each)
            for each in nsmallest(NEAR_MAX, near, key=lambda miss: miss[:2])
        ),
        _changes(demand, missed),
        listed,
        sum(peer in answering for peer in prices),
        avoided,
        cap,
    )


def with_holders(
    advice: Advice, demand: Demand, workload: Workload, listings: Iterable[Listing]
) -> Advice:
    """Return the advice with the numbers of nodes that have the job's image, or a part of it."""
    image, layers = workload.image[:PREFIX_BYTES], {layer.prefix for layer in workload.layers}
    whole = parts = 0
    for peer, record in ((one.peer, one.record) for one in listings):
        has_image = image in record.images
        if (has_image or not layers.isdisjoint(record.layers)) and fits(demand, peer, record):
            whole, parts = whole + has_image, parts + (not has_image)
    return replace(advice, with_image=whole, with_layers=parts)


@dataclass(frozen=True, slots=True)
class _Measure:
    """One constraint: its field, what a job wants, what a node has, and how people write it."""

    field: str
    wanted: Callable[[Demand], int | str]
    has: Callable[[Resources, CapabilityRecord], int | str]
    show: Callable[[int], str] = str
    write: Callable[[int], str] = str
    less_is_better: bool = False


def _gap(demand: Demand, one: Listing, reason: Mismatch) -> int:
    """Return the part of what is wanted that a node lacks, in percent."""
    measure = _MEASURES[reason]
    wanted, has = measure.wanted(demand), measure.has(demand.resources, one.record)
    if isinstance(wanted, str) or isinstance(has, str):
        return NO_AMOUNT
    return 100 * abs(wanted - has) // max(wanted, 1)


def _near_miss(demand: Demand, gap: int, peer: PeerId, one: Listing, reason: Mismatch) -> NearMiss:
    if reason is Mismatch.WHERE:
        return NearMiss(peer, reason, *_where_miss(demand, one), gap)
    measure = _MEASURES[reason]
    wanted, has = measure.wanted(demand), measure.has(demand.resources, one.record)
    if isinstance(wanted, str) or isinstance(has, str):
        return NearMiss(peer, reason, str(wanted), str(has) or "another", gap)
    return NearMiss(peer, reason, measure.show(wanted), measure.show(has), gap)


def _where_miss(demand: Demand, one: Listing) -> tuple[str, str]:
    """Return the conditions of a query that a node fails, and what it has instead."""
    wanted, condition = demand.resources, parse(demand.where, public=True)
    suitable = [g for g in one.record.gpus if not wanted.gpus or suits(wanted, g)]
    subjects = [Subject(one.peer, one.record, group) for group in suitable or (None,)]
    # The job may get any of these GPUs; the kind that fails the least says the most.
    failed = [(s, [p for p in parts_of(condition) if not p.holds(s)]) for s in subjects]
    subject, parts = min((pair for pair in failed if pair[1]), key=lambda pair: len(pair[1]))
    compared = [part for part in parts if isinstance(part, Comparison)]
    if len(compared) < len(parts):  # The rest are alternatives and negations.
        return demand.where, "not selected"
    has = dict.fromkeys(f"{part.name}={shown(part.name, subject)}" for part in compared)
    return " ".join(part.text for part in compared), " ".join(has)


def _changes(demand: Demand, missed: list[tuple[Listing, Mismatch]]) -> tuple[Change, ...]:
    """Return for each constraint the smallest change that helps, and one that helps half of all."""
    found: list[Change] = []
    for reason, measure in _MEASURES.items():
        nodes = [one.record for one, lack in missed if lack is reason]
        has = [measure.has(demand.resources, record) for record in nodes]
        amounts = [amount for amount in has if isinstance(amount, int)]
        if reason is Mismatch.GPU_CLASS:
            most = Counter(filter(None, map(str, has))).most_common(CHANGES_MAX)
            found += [Change(measure.field, name, count) for name, count in most]
        elif amounts:
            found += _steps(measure, amounts)
        elif has:
            is_spread = reason is Mismatch.REGION and demand.spread
            field = "spread_regions" if is_spread else measure.field
            found.append(Change(field, None, len(has)))
    return tuple(sorted(found, key=lambda change: -change.nodes))


def _steps(measure: _Measure, amounts: list[int]) -> list[Change]:
    """Return the smallest change that helps a node, and the one that helps half of them."""
    nearest_first = sorted(filter(None, amounts), reverse=not measure.less_is_better)
    found: dict[int, None] = {}
    for amount in nearest_first[:1] + nearest_first[len(nearest_first) // 2 :][:1]:
        # All nodes down to the last one with this amount could serve the job.
        found[len(nearest_first) - nearest_first[::-1].index(amount)] = None
    return [
        Change(measure.field, measure.write(nearest_first[count - 1]), count) for count in found
    ]


def _vram(wanted: Resources, record: CapabilityRecord) -> int:
    """Return the memory that enough GPUs of the class have."""
    groups = [group for group in record.gpus if wanted.gpu_class in {"", group.gpu_class}]
    sizes = sorted((nominal_vram(g.vram_mib) for g in groups for _ in range(g.count)), reverse=True)
    return sizes[wanted.gpus - 1]


def _gpu_class(wanted: Resources, record: CapabilityRecord) -> str:
    """Return a class of which a node has enough GPUs; empty if there is none."""
    counts = Counter[str]()
    for group in record.gpus:
        if nominal_vram(group.vram_mib) >= wanted.vram_mib:
            counts[group.gpu_class] += group.count
    name, count = max(counts.items(), key=lambda pair: pair[1], default=("", 0))
    return name if count >= wanted.gpus else ""


def _gpus(wanted: Resources, record: CapabilityRecord) -> int:
    """Return how many GPUs of a node a slot may use."""
    return sum(group.count for group in record.gpus if suits(wanted, group))


def _size(mib: int) -> str:
    return f"{mib // GIB}G" if mib % GIB == 0 else f"{mib}M"


def _price_not_below(rate: int) -> str:
    """Return a price an hour, with four decimals, that pays at least a rate."""
    count = -(-rate * SECONDS_PER_HOUR * PRICE_PARTS // NANO)
    return f"{count // PRICE_PARTS}.{count % PRICE_PARTS:04}"


_MEASURES: Final[dict[Mismatch, _Measure]] = {
    Mismatch.CPUS: _Measure("cpus", lambda d: d.resources.cpus, lambda _, r: r.cpus),
    Mismatch.MEMORY: _Measure(
        "memory_mib", lambda d: d.resources.memory_mib, lambda _, r: r.memory_mib,
        size_of_mib, _size,
    ),
    Mismatch.DISK: _Measure(
        "disk_mib", lambda d: d.resources.disk_mib, lambda _, r: r.disk_mib, size_of_mib, _size
    ),
    Mismatch.GPUS: _Measure("gpus", lambda d: d.resources.gpus, _gpus),
    Mismatch.GPU_CLASS: _Measure("gpu_class", lambda d: d.resources.gpu_class, _gpu_class),
    Mismatch.VRAM: _Measure(
        "vram_mib", lambda d: d.resources.vram_mib, _vram, size_of_mib, _size
    ),
    Mismatch.PRICE: _Measure(
        "max_price", lambda d: d.rate_max, lambda wanted, r: list_rate(r.prices, wanted),
        hourly_of_rate, _price_not_below, less_is_better=True,
    ),
    Mismatch.REGION: _Measure(
        "region", lambda d: d.region or "a region", lambda _, r: r.region or NONE
    ),
    Mismatch.DRIVER: _Measure(
        "drivers", lambda d: ", ".join(d.drivers), lambda _, r: ", ".join(r.drivers) or NONE
    ),
    Mismatch.SOFT_LIMITS: _Measure(
        "hard_limits", lambda _: "hard limits", lambda _, r: f"soft: {', '.join(r.soft_limits)}"
    ),
    Mismatch.WHERE: _Measure("where", lambda d: d.where, lambda _, __: "not selected"),
    Mismatch.EGRESS: _Measure(
        "allow_net", lambda d: level_of_class(d.egress).name.lower(),
        lambda _, r: Level(r.egress).name.lower(),
    ),
}  # fmt: skip
