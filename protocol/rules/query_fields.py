"""The fields of a query for offers: what each reads in a capability record, and its values.

Spec: specs/query.md#fields. A field with names, such as the class of a GPU, may have several names
for one thing; a condition holds if one of them is meant.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from protocol.values.egress import Level
from protocol.values.ids import PeerId
from protocol.values.isolation import Isolation, isolation_name
from protocol.values.quantities import mib_of, ms_of
from protocol.values.units import hourly_of_rate, nominal_vram, rate_of_hourly, size_of_mib
from protocol.wire.messages import CapabilityRecord, GpuGroup

Value = int | str
Have = int | tuple[str, ...]
"""What a record has: a quantity, or names."""

PEER_END: Final = 8
"""So many of the last characters of a peer id name the peer, as tables show it."""
MEMORY_SUFFIX: Final = "gb"
NONE: Final = "none"
REGION_ALIASES: Final = {
    "europe": ("eu",), "north-america": ("us",), "latin-america": ("south-america",),
}  # fmt: skip
NUMBER_DIGITS_MAX: Final = 15
TRUTH: Final = {"true": 1, "yes": 1, "false": 0, "no": 0}


@dataclass(frozen=True, slots=True)
class Subject:
    """What a query is about: one node, and one kind of its GPUs; None if it has no GPU."""

    peer: PeerId
    record: CapabilityRecord
    gpus: GpuGroup | None
    now_ms: int = 0
    settled: bool = False
    connected: bool = False


@dataclass(frozen=True, slots=True)
class ValueKind:
    """A kind of values. `read` raises ValueError with what it expects."""

    name: str
    operators: tuple[str, ...]
    read: Callable[[str], Value]
    show: Callable[[int], str] = str
    """For people; names are shown as they are."""


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a query."""

    kind: ValueKind
    about: str
    have: Callable[[Subject], Have]
    local: bool = False
    """Only the node that asks knows it: a job's query, which others evaluate, cannot use it."""


def subjects_of(
    peer: PeerId, record: CapabilityRecord, now_ms: int, *, settled: bool, connected: bool
) -> Iterator[Subject]:
    """Yield what a query may be about at a node: each kind of its GPUs."""
    for group in record.gpus or (None,):
        yield Subject(peer, record, group, now_ms, settled, connected)


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= NUMBER_DIGITS_MAX):
        raise ValueError(f"{text!r} is not a whole number")
    return int(text)


def _tier(text: str) -> int:
    if text.upper() not in Isolation.__members__:
        known = " < ".join(tier.name.lower() for tier in Isolation)
        raise ValueError(f"{text!r} is not one of {known}")
    return Isolation[text.upper()].value


def _truth(text: str) -> int:
    if text.lower() not in TRUTH:
        raise ValueError(f"{text!r} is not true or false")
    return TRUTH[text.lower()]


def _peer(text: str) -> str:
    end = text.removeprefix("…")
    if len(end) < PEER_END:
        raise ValueError(f"{text!r} is not a peer id, or its last {PEER_END} characters")
    return end


_ORDER: Final = ("=", "!=", "<", "<=", ">", ">=", "in")
_NAMES: Final = ("=", "!=", "in")
NUMBER: Final = ValueKind("number", _ORDER, _number)
SIZE: Final = ValueKind("size", _ORDER, mib_of, size_of_mib)
DURATION: Final = ValueKind("duration", _ORDER, ms_of)
PRICE: Final = ValueKind("price", _ORDER, rate_of_hourly, hourly_of_rate)
TIER: Final = ValueKind("tier", _ORDER, _tier, isolation_name)
FLAG: Final = ValueKind("flag", ("=", "!="), _truth)
NAME: Final = ValueKind("name", _NAMES, str.lower)
PEER: Final = ValueKind("peer", _NAMES, _peer)

VALUES: Final = {
    NUMBER: "a whole number: 4",
    SIZE: "a size: 512M, 80G, 1.5T; a bare number is MiB",
    DURATION: "a duration: 90s, 10m, 1h; a bare number is seconds",
    PRICE: "credits an hour: 2.5",
    TIER: " < ".join(tier.name.lower() for tier in Isolation),
    FLAG: "true or false; the field alone means true",
    NAME: "a name, in any case",
    PEER: f"a peer id, or its last {PEER_END} characters",
}
"""What the values of each kind are."""


def _gpu_class_names(subject: Subject) -> tuple[str, ...]:
    """Return a class with and without its memory: h100-80gb, h100."""
    if subject.gpus is None:
        return (NONE,)
    name = subject.gpus.gpu_class.lower()
    chip, _, size = name.rpartition("-")
    is_size = chip and size.endswith(MEMORY_SUFFIX) and size[: -len(MEMORY_SUFFIX)].isdigit()
    return (name, chip) if is_size else (name,)


def _lowered(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name.lower() for name in names if name) or (NONE,)


def _region_names(subject: Subject) -> tuple[str, ...]:
    region = subject.record.region.lower()
    return _lowered((region, *REGION_ALIASES.get(region, ())))


def _price(subject: Subject) -> int:
    prices = subject.record.prices
    return prices.gpu if subject.record.gpus else prices.cpu


FIELDS: Final[dict[str, Field]] = {
    "peer": Field(PEER, "the node", lambda s: (s.peer, s.peer[-PEER_END:])),
    "gpu_class": Field(
        NAME, "the class of a GPU, with or without its memory: h100-80gb, h100; none",
        _gpu_class_names,
    ),
    "gpus": Field(NUMBER, "GPUs of one kind", lambda s: s.gpus.count if s.gpus else 0),
    "vram": Field(
        SIZE, "memory of each GPU, as it is sold",
        lambda s: nominal_vram(s.gpus.vram_mib) if s.gpus else 0,
    ),
    "cpus": Field(NUMBER, "processors", lambda s: s.record.cpus),
    "memory": Field(SIZE, "memory", lambda s: s.record.memory_mib),
    "disk": Field(SIZE, "disk", lambda s: s.record.disk_mib),
    "region": Field(
        NAME, "europe (eu), north-america (us), latin-america (south-america), …; none",
        _region_names,
    ),
    "price": Field(PRICE, "list price of one GPU; of one CPU if the node has no GPU", _price),
    "price_cpu": Field(PRICE, "list price of one CPU", lambda s: s.record.prices.cpu),
    "price_gpu": Field(PRICE, "list price of one GPU", lambda s: s.record.prices.gpu),
    "price_memory": Field(PRICE, "list price of one GiB", lambda s: s.record.prices.memory_gib),
    "driver": Field(NAME, "the sandbox", lambda s: _lowered(s.record.drivers)),
    "isolation": Field(TIER, "how the sandbox separates jobs", lambda s: s.record.isolation),
    "agent": Field(NAME, "program and version", lambda s: _lowered((s.record.agent,))),
    "soft_limits": Field(
        NAME, "limits that its kernel does not enforce: memory, pids, cpu; none",
        lambda s: _lowered(s.record.soft_limits),
    ),
    "egress": Field(
        NAME, "how far jobs may reach: none, listed (names of the owner), any",
        lambda s: (Level(s.record.egress).name.lower(),),
    ),
    "age": Field(
        DURATION, "since it signed the record",
        lambda s: max(0, s.now_ms - s.record.issued_ms), local=True,
    ),
    "settled": Field(
        FLAG, "this node and it have signed a receipt", lambda s: s.settled, local=True
    ),
    "connected": Field(FLAG, "there is a connection to it", lambda s: s.connected, local=True),
}  # fmt: skip
"""By name, in the order in which they are listed."""
_SEVERAL: Final = frozenset({"driver", "soft_limits"})
"""Fields whose names are of several things, not of one."""


def shown(name: str, subject: Subject) -> str:
    """Return what a node has in a field, for people."""
    field = FIELDS[name]
    have = field.have(subject)
    if isinstance(have, tuple):
        return ", ".join(have) if name in _SEVERAL else have[0]
    return field.kind.show(have)
