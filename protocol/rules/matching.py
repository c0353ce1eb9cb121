"""Which nodes can serve a job, and why the others cannot.

Spec: specs/auction.md#matching. Both sides use the same function: a provider for its own record, a
requester for every record that it knows, to expect bids and to explain their absence.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from protocol.rules.capacity import Capacity, slots_in, suits
from protocol.rules.pricing import list_rate
from protocol.rules.query import parse
from protocol.rules.query_fields import Subject
from protocol.values.egress import Level, class_of, level_of_class
from protocol.values.errors import InvalidQuery
from protocol.values.ids import PeerId
from protocol.values.limits import SLOTS_MAX
from protocol.values.reasons import Mismatch, Refusal
from protocol.values.units import hourly_of_rate, nominal_vram, size_of_mib
from protocol.wire.job import JobSpec, Resources
from protocol.wire.messages import Call, CapabilityRecord, Listing


@dataclass(frozen=True, slots=True)
class Demand:
    """The public part of a job's requirements."""

    resources: Resources
    rate_max: int
    region: str
    drivers: tuple[str, ...]
    hard_limits: bool = False
    where: str = ""
    """A query, specs/query.md#in-a-job."""
    nodes: int = 1
    """How many slots the job needs at the same time."""
    spread: bool = False
    """Whether each of them must be in a region of its own."""
    max_round_trip_us: int = 0
    """The longest round trip between them; 0: any."""
    egress: bytes = b""
    """What it wants to reach, as in a call."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """How the nodes that a requester knows relate to a demand."""

    nodes: int
    eligible: int
    slots: int
    """How many slots the eligible nodes have, if none is taken; one in each region if the job
    spreads over regions."""
    too_few: str
    """One line if the slots are too few for a gang; empty if they suffice, or there are none."""
    reasons: tuple[tuple[Mismatch, int], ...]
    """The number of nodes with each mismatch, most frequent first; a node may have several."""
    sentences: tuple[str, ...]
    """The same for the user: "3 have too few CPUs (asked 4, most 2)"."""
    why: str
    """One line for the user."""


KNOWS_NOBODY: Final = "no other node is known"


def demand_of_call(call: Call) -> Demand:
    """Return the demand of a call."""
    return Demand(
        call.resources, call.rate_max, call.region, call.drivers, call.hard_limits, call.where,
        call.slots if call.gang else 1, call.spread, call.max_round_trip_us,
        call.egress,
    )  # fmt: skip


def demand_of_job(spec: JobSpec) -> Demand:
    """Return the demand of a job's future call."""
    terms = spec.terms
    wanted = spec.workload.resources
    return Demand(
        wanted, terms.rate_max, terms.region, terms.drivers, terms.hard_limits, terms.where,
        terms.nodes, terms.spread_regions, terms.max_round_trip_us, class_of(spec.workload.egress),
    )  # fmt: skip


def mismatches(demand: Demand, peer: PeerId, record: CapabilityRecord) -> tuple[Mismatch, ...]:
    """Return all mismatches between a node and a demand. A price alone excludes nobody."""
    return tuple(_mismatches(demand, peer, record))


def fits(demand: Demand, peer: PeerId, record: CapabilityRecord) -> bool:
    """Return whether a node can serve a demand.

    Its list price may be above the highest rate: it may ask less, and only its owner knows.
    """
    return all(reason is Mismatch.PRICE for reason in _mismatches(demand, peer, record))


def _mismatches(demand: Demand, peer: PeerId, record: CapabilityRecord) -> Iterator[Mismatch]:
    if not record.providing:
        yield Mismatch.NOT_PROVIDING
        return
    wanted = demand.resources
    yield from _amounts_missing(wanted, record)
    if demand.region not in {"", record.region} or (demand.spread and not record.region):
        yield Mismatch.REGION
    if demand.drivers and not set(demand.drivers) & set(record.drivers):
        yield Mismatch.DRIVER
    if demand.hard_limits and record.soft_limits:
        yield Mismatch.SOFT_LIMITS
    if demand.where and not _is_selected(demand, peer, record):
        yield Mismatch.WHERE
    if level_of_class(demand.egress) > record.egress:
        yield Mismatch.EGRESS
    if 0 < demand.rate_max < list_rate(record.prices, wanted):
        yield Mismatch.PRICE
    yield from _gpu_mismatches(wanted, record)


def _amounts_missing(wanted: Resources, record: CapabilityRecord) -> Iterator[Mismatch]:
    if wanted.cpus > record.cpus:
        yield Mismatch.CPUS
    if wanted.memory_mib > record.memory_mib:
        yield Mismatch.MEMORY
    if wanted.disk_mib > record.disk_mib:
        yield Mismatch.DISK


def _is_selected(demand: Demand, peer: PeerId, record: CapabilityRecord) -> bool:
    """Return whether the query of a demand selects a node, whichever GPUs of it the job gets."""
    try:
        condition = parse(demand.where, public=True)
    except InvalidQuery:  # Of a later version: nobody can tell whether this node fits.
        return False
    wanted = demand.resources
    if wanted.gpus:
        suitable = (group for group in record.gpus if suits(wanted, group))
        return all(condition.holds(Subject(peer, record, group)) for group in suitable)
    return any(condition.holds(Subject(peer, record, group)) for group in record.gpus or (None,))


def slots_of(record: CapabilityRecord, wanted: Resources) -> int:
    """Return how many equal slots a node has, if none is taken; at most SLOTS_MAX."""
    capacity = Capacity(record.cpus, record.memory_mib, record.disk_mib)
    slots = slots_in(capacity, replace(wanted, gpus=0), SLOTS_MAX)
    if not wanted.gpus:
        return slots
    return min(slots, sum(g.count for g in record.gpus if suits(wanted, g)) // wanted.gpus)


def places_of(demand: Demand, records: Iterable[CapabilityRecord]) -> int:
    """Return how many members of a gang fit on nodes that can serve it, if no slot is taken."""
    if demand.spread:
        return len({record.region for record in records if record.region})
    return sum(slots_of(record, demand.resources) for record in records)


def explain(demand: Demand, listings: Iterable[Listing], avoided: int = 0) -> Explanation:
    """Count the nodes that fail each constraint, and describe the counts in one line.

    `avoided` is the number of further known nodes that failed this job before; they do not fit.
    """
    known = list(listings)
    lacks = [mismatches(demand, one.peer, one.record) for one in known]
    return explain_lacks(demand, known, lacks, avoided)


def explain_lacks(
    demand: Demand, known: list[Listing], lacks: list[tuple[Mismatch, ...]], avoided: int
) -> Explanation:
    """Return as `explain`; `lacks` are the mismatches of each known node."""
    records = [one.record for one in known]
    counts = Counter(reason for lack in lacks for reason in lack)
    reasons = tuple(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))
    eligible = sum(not lack for lack in lacks)
    sentences = tuple(
        _counted(count, _sentence(reason, demand, records)) for reason, count in reasons
    )
    slots = places_of(demand, (one for one, lack in zip(records, lacks, strict=True) if not lack))
    too_few = _sentence_of_too_few(demand, slots) if eligible and slots < demand.nodes else ""
    parts = [
        *([too_few] if too_few else []),
        *([f"{avoided} failed it before"] if avoided else []),
        *sentences,
    ]
    nodes = len(known) + avoided
    why = f"{eligible} of {nodes} known nodes can serve this job" if nodes else KNOWS_NOBODY
    line = ": ".join([why, "; ".join(parts)][: 1 + bool(parts)])
    return Explanation(nodes, eligible, slots, too_few, reasons, sentences, line)


def sentence_of_refusals(reasons: list[int]) -> str:
    """Return one line with the number of providers that refused to bid, and their reasons."""
    texts = [_REFUSALS.get(reason, f"reason {reason}") for reason in reasons]
    return "; ".join(f"{texts.count(text)} refused: {text}" for text in sorted(set(texts)))


def sentence_of_own_refusal(reason: Refusal) -> str:
    """Return one line about why this node did not bid."""
    return _OWN_REFUSALS[reason]


def sentence_of_own_mismatch(reason: Mismatch, demand: Demand, record: CapabilityRecord) -> str:
    """Return one line about why this node's record does not fit a demand."""
    return f"this node {_counted(1, _sentence(reason, demand, [record])).removeprefix('1 ')}"


def sentence_of_unreachable(count: int) -> str:
    """Return one line about nodes that fit but are unreachable, with a remedy."""
    are = "is" if count == 1 else "are"
    return (
        f"{count} of these {are} known but unreachable: there is no connection, and none could be"
        " established (if both sides are behind a NAT or firewall, one must open its port)"
    )


def _sentence_of_too_few(demand: Demand, slots: int) -> str:
    """Return one line about nodes that have so many slots, fewer than a gang needs."""
    if demand.spread:
        return f"they are in {slots} of the {demand.nodes} regions that it needs"
    return f"they have {slots} of the {demand.nodes} slots that it needs at once"


_REFUSALS: Final[dict[int, str]] = {
    Refusal.BUSY: "busy with other jobs",
    Refusal.PRICE: "they ask more than the job may cost",
    Refusal.UNPAID: "this node owes them too much: unsigned receipts, or capacity held in vain",
    Refusal.UNPROVEN: "nodes that have not paid them owe too much together: try again later",
    Refusal.CONDUCT: "earlier auctions of this node had no outcome, or broke the rules",
    Refusal.POLICY: "their owners do not serve this node, or do not run this image",
    Refusal.EGRESS: "their owners do not let jobs reach these names",
}


_OWN_REFUSALS: Final[dict[Refusal, str]] = {
    Refusal.BUSY: "this node was busy with other jobs",
    Refusal.PRICE: "this node asks more than the job may cost",
    Refusal.UNPAID: "the requester owes this node too much",
    Refusal.UNPROVEN: "requesters that have not paid this node owe it too much together",
    Refusal.CONDUCT: "earlier auctions of the requester had no outcome, or broke the rules",
    Refusal.POLICY: "this node's owner does not serve the requester, or does not run the image",
    Refusal.EGRESS: "provider.egress_names lacks a name that the job wants to reach",
}


def _gpu_mismatches(wanted: Resources, record: CapabilityRecord) -> tuple[Mismatch, ...]:
    if wanted.gpus == 0:
        return ()
    if sum(group.count for group in record.gpus) < wanted.gpus:
        return (Mismatch.GPUS,)
    of_class = [group for group in record.gpus if wanted.gpu_class in {"", group.gpu_class}]
    if sum(group.count for group in of_class) < wanted.gpus:
        return (Mismatch.GPU_CLASS,)
    large = [group for group in of_class if nominal_vram(group.vram_mib) >= wanted.vram_mib]
    return () if sum(group.count for group in large) >= wanted.gpus else (Mismatch.VRAM,)


_BEST: Final = {
    Mismatch.CPUS: lambda record: record.cpus,
    Mismatch.MEMORY: lambda record: record.memory_mib,
    Mismatch.DISK: lambda record: record.disk_mib,
    Mismatch.GPUS: lambda record: sum(group.count for group in record.gpus),
    Mismatch.VRAM: lambda record: max((group.vram_mib for group in record.gpus), default=0),
}


_OF_ONE: Final = {"have": "has", "are": "is", "do": "does"}


def _counted(count: int, sentence: str) -> str:
    """Return a number of nodes with its verb, which is singular for one node."""
    verb, _, rest = sentence.partition(" ")
    return f"{count} {_OF_ONE.get(verb, f'{verb}s') if count == 1 else verb} {rest}"


def _sizes(asked_mib: int, most_mib: int) -> str:
    """Return two sizes for people, in MiB if rounding would make them equal."""
    asked, most = size_of_mib(asked_mib), size_of_mib(most_mib)
    if asked == most:
        asked, most = f"{asked_mib} MiB", f"{most_mib} MiB"
    return f"(asked {asked}, most {most})"


def _sentence(reason: Mismatch, demand: Demand, records: list[CapabilityRecord]) -> str:
    wanted = demand.resources
    providing = [record for record in records if record.providing]
    best = max(map(_BEST[reason], providing), default=0) if reason in _BEST else 0
    if reason is Mismatch.PRICE:
        best = min((list_rate(r.prices, wanted) for r in providing), default=0)
    return {
        Mismatch.NOT_PROVIDING: "take no jobs now",
        Mismatch.CPUS: f"have too few CPUs (asked {wanted.cpus}, most {best})",
        Mismatch.MEMORY: f"have too little memory {_sizes(wanted.memory_mib, best)}",
        Mismatch.DISK: f"have too little disk {_sizes(wanted.disk_mib, best)}",
        Mismatch.GPUS: f"have too few GPUs (asked {wanted.gpus}, most {best})",
        Mismatch.GPU_CLASS: f"have no GPU of class {wanted.gpu_class}",
        Mismatch.VRAM: f"have too little VRAM {_sizes(wanted.vram_mib, best)}",
        Mismatch.REGION: "state no region" if demand.spread
                         else f"are not in region {demand.region}",
        Mismatch.DRIVER: f"lack the sandbox ({', '.join(demand.drivers)})",
        Mismatch.SOFT_LIMITS: "have limits that are only watched (soft)",
        Mismatch.WHERE: f"are not selected by {demand.where!r}",
        Mismatch.EGRESS: "do not let jobs reach any name of the network"
                         if level_of_class(demand.egress) is Level.ANY
                         else "do not let jobs reach the network",
        Mismatch.PRICE: f"list a price above {hourly_of_rate(demand.rate_max)} credits an hour "
                        f"(lowest {hourly_of_rate(best)}) and may ask less",
    }[reason]  # fmt: skip
